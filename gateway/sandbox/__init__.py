"""
The sandbox provider: an upstream that ships with the project and speaks OpenAI's API offline.

It needs no Django and no provider key. Read ``app.py`` first: ``requests.py`` and ``script.py``
say what it is asked, ``replies.py`` and ``faults.py`` what it answers, ``journal.py`` what it
counts, ``connection.py`` and ``server.py`` how it is reached.
"""
