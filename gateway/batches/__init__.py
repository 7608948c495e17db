"""
Batches: many requests in a file, answered within a day at their provider, paid for as one.

A file is uploaded (files.py, its lines read by lines.py) to the provider of one deployment. A
batch of it is admitted as any request is, its row written, and the provider asked (creating.py).
Polls are passed on (reading.py) and cost nothing. Once the batch has ended, what its lines have
used is added up (metering.py) and settled under the id of the request that was admitted, once
(settling.py).
"""
