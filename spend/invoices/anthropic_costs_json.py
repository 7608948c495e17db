"""
Anthropic's costs as ``GET /v1/organizations/cost_report`` tells them, by its API reference.

Buckets of a day; amounts are texts in cents of a dollar (``"123.45"`` is 1.2345); model and the
rest are told if grouped by description. No keys and no tokens are told.
"""

from typing import Any, Final

from spend.invoices.files import buckets_of_json
from spend.invoices.lines import Invoice, Line, Lines, Reader

NAME: Final = "anthropic_costs_json"
LABEL: Final = "Anthropic costs (JSON of the API)"
CENTS: Final = -2


def parse(content: bytes, *, provider: str) -> Invoice:
    """
    :raises BadInvoice: naming every result that does not fit, counted over all buckets
    """
    lines, number = Lines(), 0
    for start, end, results in buckets_of_json(content, start="starting_at", end="ending_at"):
        bounds = {"starting_at": start, "ending_at": end}
        lines.covers(number + 1, _day, bounds)
        for result in results:
            number += 1
            lines.add(number, _line, {**result, **bounds})
    return lines.invoice()


def _day(reader: Reader) -> Any:
    return reader.day_of_instants("starting_at", "ending_at")


def _line(reader: Reader) -> Line:
    day = _day(reader)
    amount, decimals = reader.amount("amount", shift=CENTS)
    reader.currency_code("currency")
    return Line(
        number=reader.number,
        day=day,
        model=reader.text("model"),
        amount=amount,
        decimals=decimals,
    )
