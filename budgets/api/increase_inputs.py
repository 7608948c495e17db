"""What the endpoints of temporary increases may be sent."""

import re
from typing import Final
from uuid import UUID

from budgets import queries
from budgets.api.endpoints import Strict, StrictQuery
from budgets.api.fields import (
    OPTIONAL,
    AmountText,
    Moment,
    OneOf,
    Parsed,
    PublicId,
    QueryWhole,
    Text,
)
from budgets.api.inputs import Paged
from budgets.models import IncreaseState
from budgets.services.increases import TEXT_LENGTH_MAX

SIZE: Final = 20
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Uuid(Parsed):
    """A UUID such as ``5b0a7c1e-…``, with its dashes."""

    def parse(self, text: str) -> UUID:
        if not _UUID.fullmatch(text):
            raise ValueError("must be a UUID such as 5b0a7c1e-0d3b-4f6a-9a51-2f1f0c8f7b10")
        return UUID(text)


class ListIncreases(Paged):
    """``account_id`` is the account that is raised; the newest come first."""

    state = OneOf(tuple(IncreaseState.values), **OPTIONAL)
    account_id = Uuid(**OPTIONAL)
    organization_id = PublicId(**OPTIONAL)
    asked_by = Text(max_length=150, **OPTIONAL)
    size = QueryWhole(min_value=1, max_value=queries.PAGE_SIZE_MAX, default=SIZE)


class OneIncrease(StrictQuery):
    """The path names it."""


class AskForIncrease(Strict):
    """``user_id`` is for whom it is asked; without it the master key asks itself."""

    account_id = Uuid()
    budget_id = PublicId(**OPTIONAL)
    amount = AmountText()
    starts_at = Moment(**OPTIONAL)
    ends_at = Moment(**OPTIONAL)
    why = Text(max_length=TEXT_LENGTH_MAX)
    user_id = PublicId(**OPTIONAL)


class ApproveIncrease(Strict):
    """``user_id`` is who approves; what else is given is changed before it is approved."""

    amount = AmountText(**OPTIONAL)
    starts_at = Moment(**OPTIONAL)
    ends_at = Moment(**OPTIONAL)
    note = Text(max_length=TEXT_LENGTH_MAX, allow_blank=True, **OPTIONAL)
    user_id = PublicId(**OPTIONAL)


class DenyIncrease(Strict):
    note = Text(max_length=TEXT_LENGTH_MAX)
    user_id = PublicId(**OPTIONAL)


class CancelIncrease(Strict):
    note = Text(max_length=TEXT_LENGTH_MAX, allow_blank=True, **OPTIONAL)
    user_id = PublicId(**OPTIONAL)


class ShortenIncrease(Strict):
    ends_at = Moment()
    note = Text(max_length=TEXT_LENGTH_MAX, allow_blank=True, **OPTIONAL)
    user_id = PublicId(**OPTIONAL)
