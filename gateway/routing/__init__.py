"""
Which deployments serve a request, and in which order. Pure: no I/O; time and chance are handed in.

Limits are no part of it: only reserve checks those. What is here orders, and reserve decides.
"""
