"""Invoices of providers beside the ledger."""
