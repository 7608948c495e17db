"""
What the ledger's requests cost at list prices: without discounts and margins, of which providers
know nothing.

A row tells what was charged, and its price's reference names the discount or margin in it: that
multiplied every rate and added a fee to the request, so both are taken out again. A request that
was re-rated is one at the price that it was re-rated to last. Answers from the response cache are
left out: no provider was asked. What was charged at nothing, by a
discount of 100 per cent, has lost its list price: such requests are counted, at no cost.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from django.db import connection

from budgets.money import EXACT, WIDE
from spend.events import CACHE_HIT
from spend.ledger import COST_DECIMALS
from spend.models import PriceAdjustment, SpendEvent
from spend.pricebook import factor_of

STEP: Final = Decimal(1).scaleb(-COST_DECIMALS)
NOTHING: Final = Decimal(0)
REFERENCE_LENGTH_MAX: Final = SpendEvent._meta.get_field("price_reference").max_length
"""A reference of this length may have been cut, so that nobody knows which adjustment it named."""
_REFERENCE: Final = re.compile(r".*\*adjustment:(?P<adjustment>[0-9]{1,18})")
# A request has its fee in one row: its own, or where it was re-rated the one that says how it is
# charged now. Rows that take back what was charged in another currency have no lines.
_SUMS: Final = """
    WITH last AS (
      SELECT DISTINCT ON (request_id) request_id, admitted_at, id, price_reference
      FROM spend_event
      WHERE provider = %(provider)s AND admitted_at >= %(start)s AND admitted_at < %(end)s
            AND kind = 'adjustment'
      ORDER BY request_id, recorded_at DESC, jsonb_array_length(lines) DESC, id
    ), event AS (
      SELECT e.*, COALESCE(last.price_reference, e.price_reference) AS reference,
             last.id IS NULL OR last.id = e.id AS is_last
      FROM spend_event e LEFT JOIN last USING (request_id, admitted_at)
      WHERE e.provider = %(provider)s AND e.admitted_at >= %(start)s AND e.admitted_at < %(end)s
            AND NOT e.flags @> ARRAY[%(cache_hit)s]::varchar[]
    ), told AS (
      SELECT *, (admitted_at AT TIME ZONE 'UTC')::date AS day,
             position('*adjustment:' IN reference) > 0
             OR length(reference) = %(reference_length_max)s AS is_adjusted
      FROM event
    )
    SELECT day, upstream_model, cost_currency,
           CASE WHEN %(with_keys)s THEN key_digest ELSE '' END,
           CASE WHEN %(with_keys)s THEN deployment ELSE '' END,
           CASE WHEN is_adjusted THEN reference ELSE '' END,
           sum(cost), sum(input_tokens)::bigint, sum(output_tokens)::bigint,
           sum(CASE kind WHEN 'usage' THEN 1 WHEN 'orphan' THEN 1
                         WHEN 'orphan_reversal' THEN -1 ELSE 0 END),
           COALESCE(sum(CASE WHEN is_adjusted AND is_last THEN (
             jsonb_path_query_first(lines, 'strict $[*] ? (@[0] == "margin")[1]')
           )::bigint END), 0)::bigint
    FROM told GROUP BY 1, 2, 3, 4, 5, 6
"""


@dataclass(frozen=True, slots=True)
class Group:
    """Sums of a day, model and currency; of ``unlisted`` requests the cost has nothing."""

    day: date
    upstream_model: str
    cost_currency: str
    key_digest: str
    deployment: str
    cost: Decimal
    input_tokens: int
    output_tokens: int
    requests: int
    unlisted: int


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums as charged; ``reference`` is empty where nothing adjusted the price."""

    day: date
    upstream_model: str
    cost_currency: str
    key_digest: str
    deployment: str
    reference: str
    cost: Decimal
    input_tokens: int
    output_tokens: int
    requests: int
    fees: int

    def at(self, cost: Decimal | None) -> Group:
        return Group(
            self.day, self.upstream_model, self.cost_currency, self.key_digest, self.deployment,
            NOTHING if cost is None else cost, self.input_tokens, self.output_tokens,
            self.requests, self.requests if cost is None else 0,
        )  # fmt: skip


def groups(*, provider: str, start: datetime, end: datetime, with_keys: bool) -> list[Group]:
    """Return what requests that were admitted in [start, end) cost at list prices, in groups."""
    values: Mapping[str, str | datetime | bool | int | None] = {
        "provider": provider, "start": start, "end": end, "with_keys": with_keys,
        "cache_hit": CACHE_HIT,
        "reference_length_max": REFERENCE_LENGTH_MAX,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_SUMS, values)
        sums = [_Sums(*row) for row in cursor.fetchall()]
    lists = _Lists(sums)
    return [each.at(lists.cost_of(each)) for each in sums]


class _Lists:
    """Takes out of sums what their discounts and margins put in; they are read once."""

    def __init__(self, sums: Iterable[_Sums]) -> None:
        named = [match for each in sums if (match := _REFERENCE.fullmatch(each.reference))]
        self._adjustments: Mapping[int, PriceAdjustment] = PriceAdjustment.objects.in_bulk(
            {int(match["adjustment"]) for match in named}
        )

    def cost_of(self, sums: _Sums) -> Decimal | None:
        """Return what these cost at list prices, or None if nobody can tell."""
        if not sums.reference:
            return sums.cost
        match = _REFERENCE.fullmatch(sums.reference)
        if match is None or len(sums.reference) == REFERENCE_LENGTH_MAX:
            return None
        adjustment = self._adjustments.get(int(match["adjustment"]))
        if adjustment is None:
            return None
        factor = factor_of(
            discount=adjustment.discount_percent, margin=adjustment.margin_percent
        )  # fmt: skip
        if not factor:
            return None
        fees = EXACT.multiply(adjustment.margin_per_request, Decimal(sums.fees))
        rest = EXACT.subtract(sums.cost, fees)
        return WIDE.quantize(WIDE.divide(rest, factor), STEP)
