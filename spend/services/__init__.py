"""What may change prices: one module a subject."""
