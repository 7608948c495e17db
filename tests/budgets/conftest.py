"""Fixtures that the tests of live store and ledger share."""

from tests.budgets.support import alone, orm_in_async, other_store, store

__all__ = ["alone", "orm_in_async", "other_store", "store"]
