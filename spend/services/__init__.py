"""Writes. Each function changes one thing in one transaction, or raises and changes nothing."""
