"""What changes the price book, and what corrects the ledger."""
