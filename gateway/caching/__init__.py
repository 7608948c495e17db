"""
The response cache: answers that are given again to the same request of the same organization.

Off unless ``RESPONSE_CACHE`` says otherwise. ``slots`` says which requests can be answered so, and
by which key; ``controls`` what a caller wants of it; ``recording`` what of an answer is kept;
``hits`` how a kept answer passes the gate; ``store`` where it is kept.
"""
