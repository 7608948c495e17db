"""
A spend event as it travels: JSON in the stream, one row in the ledger.

The stream entry's own fields (id, amount, admitted, path) rule; the payload describes.
"""

from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, Final
from uuid import UUID, uuid5

import orjson

from budgets.money import UNITS_MAX, Units
from spend.components import INPUT_COMPONENTS, OUTPUT_COMPONENTS, Component, Usage, total_of
from spend.pricing import Line
from spend.rates import PLAIN, Conditions

ORPHANED, ESTIMATED, OVER_CEILING, CLIENT_CLOSED = (
    "orphaned", "estimated", "over_ceiling", "client_closed",
)  # fmt: skip
UPSTREAM_ERROR, USAGE_CLAMPED, UNPRICED, TIER_UNPRICED, DAMAGED, UNCHECKED = (
    "upstream_error", "usage_clamped", "unpriced", "tier_unpriced", "damaged", "unchecked",
)  # fmt: skip
RATE_STALE: Final = "rate_stale"
CACHE_HIT: Final = "cache_hit"
FLAGS: Final = (
    ORPHANED, ESTIMATED, OVER_CEILING, CLIENT_CLOSED, UPSTREAM_ERROR, USAGE_CLAMPED, UNPRICED,
    TIER_UNPRICED, DAMAGED, UNCHECKED, RATE_STALE, CACHE_HIT,
)  # fmt: skip
"""Everything that a ledger row can be marked with; docs/reference/ledger.md explains each."""

NOTHING_SAVED: Final = Units(0)
HELD: Final = "reserved_units"
_OPTIONAL: Final = frozenset({"exchange_rate", "exchange_rate_date", "attempt_of"})
"""What entries of before do not have."""


@dataclass(frozen=True)
class Described:
    """
    What is known of a request when it is admitted: who, what, through whom, at which price, and
    what the price's currency was worth in the organization's.
    """

    organization_id: int
    currency: str
    key_digest: str
    team: str
    user: str
    end_user: str
    tags: tuple[str, ...]
    route: str
    model: str
    provider: str
    upstream_model: str
    deployment: str
    price_reference: str
    cost_currency: str
    streamed: bool
    reserved_units: int
    exchange_rate: Decimal = Decimal(1)
    exchange_rate_date: date | None = None
    attempt_of: str | None = None
    """The request that this is a further attempt at; None: it is the first."""

    @cached_property
    def text(self) -> bytes:
        """All but what is held as the beginning of a JSON object: it is written more than once."""
        told = {name: getattr(self, name) for name in FIELDS if name != HELD}
        return orjson.dumps(told | {"exchange_rate": str(self.exchange_rate)})[:-1]


FIELDS: Final = tuple(field.name for field in fields(Described))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended, and what it cost in the currency of its price."""

    status: int
    cost: Decimal
    usage: Usage
    lines: tuple[Line, ...] = ()
    flags: tuple[str, ...] = ()
    settled_at: datetime | None = None
    conditions: Conditions = PLAIN
    saved_units: Units = NOTHING_SAVED
    """What an answer from the response cache would have cost, in the organization's currency."""


@dataclass(frozen=True, slots=True)
class Payload:
    """The descriptive half of a stream entry."""

    described: Described
    outcome: Outcome


def encode(described: Described, outcome: Outcome, *, reserved_units: int | None = None) -> bytes:
    """Return the payload of an event, with what was held in the end where it is known better."""
    assert isinstance(outcome.cost, Decimal), "money is never a float"
    rest = orjson.dumps(
        {
            HELD: described.reserved_units if reserved_units is None else reserved_units,
            "status": outcome.status,
            "cost": str(outcome.cost),
            "usage": {component.value: n for component, n in outcome.usage.items()},
            "lines": [
                [line.component.value, line.quantity, str(line.rate), str(line.amount)]
                for line in outcome.lines
            ],
            "flags": outcome.flags,
            "settled_at": outcome.settled_at,
            "conditions": list(outcome.conditions),
            "saved_units": outcome.saved_units,
        }
    )
    return described.text + b"," + rest[1:]


def decode(payload: bytes) -> Payload:
    """
    :raises ValueError: if it is not what :func:`encode` made
    """
    try:
        raw = orjson.loads(payload)
        told = {name: raw[name] for name in FIELDS if name not in _OPTIONAL}
        described = Described(
            **told | {"tags": tuple(raw["tags"])} | _conversion(raw), attempt_of=_attempt_of(raw)
        )
        return Payload(described, _outcome(raw))
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise ValueError("the payload is no spend event") from error


def orphan_id(request_id: UUID) -> UUID:
    return uuid5(request_id, "orphan")


def reversal_id(request_id: UUID) -> UUID:
    return uuid5(request_id, "orphan_reversal")


def input_tokens(usage: Usage) -> int:
    return total_of(usage, INPUT_COMPONENTS)


def output_tokens(usage: Usage) -> int:
    return total_of(usage, OUTPUT_COMPONENTS)


def _conversion(raw: dict[str, object]) -> dict[str, Any]:
    """Return rate and date; an entry that knows neither was not converted."""
    rate = Decimal(str(raw.get("exchange_rate", 1)))
    if not (rate.is_finite() and rate > 0):
        raise ValueError("no rate is like that")
    day = raw.get("exchange_rate_date")
    return {
        "exchange_rate": rate,
        "exchange_rate_date": None if day is None else date.fromisoformat(str(day)),
    }


def _attempt_of(raw: dict[str, object]) -> str | None:
    of = raw.get("attempt_of")
    return None if of is None else str(UUID(str(of)))


def _saved_units(raw: dict[str, object]) -> Units:
    """Return what was saved; an entry of before has no such field."""
    saved = int(str(raw.get("saved_units", 0)))
    if not 0 <= saved <= UNITS_MAX:
        raise ValueError("nothing saves so much")
    return Units(saved)


def _outcome(raw: dict[str, object]) -> Outcome:
    lines, usage, flags = raw["lines"], raw["usage"], raw["flags"]
    if not (isinstance(lines, list) and isinstance(usage, dict) and isinstance(flags, list)):
        raise TypeError("lines, usage or flags have another form")
    settled_at, conditions = raw["settled_at"], raw.get("conditions") or []
    if not isinstance(conditions, list):
        raise TypeError("conditions have another form")
    return Outcome(
        status=int(str(raw["status"])),
        cost=Decimal(str(raw["cost"])),
        usage={Component(name): int(n) for name, n in usage.items()},
        lines=tuple(
            Line(Component(name), int(n), Decimal(rate), Decimal(amount))
            for name, n, rate, amount in lines
        ),
        flags=tuple(str(flag) for flag in flags),
        settled_at=None if settled_at is None else datetime.fromisoformat(str(settled_at)),
        conditions=Conditions(*map(str, conditions)),
        saved_units=_saved_units(raw),
    )
