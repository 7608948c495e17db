"""What ``spend`` tells those above it. A receiver does nothing but start a task."""

from typing import Final

from django.dispatch import Signal

invoice_drifted: Final = Signal()
"""
Sent with ``invoice_id`` when a comparison that found an invoice to drift has been committed: once
when it is imported, and again only if it matched in between.
"""
