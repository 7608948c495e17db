"""Published price lists, each read into the same form; see ``listing.py``."""
