"""Invoices and usage exports of providers: read here, compared with the ledger elsewhere."""
