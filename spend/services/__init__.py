"""Writes of what prices and money depend on."""
