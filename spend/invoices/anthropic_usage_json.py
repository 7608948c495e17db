"""
What was used at Anthropic as ``GET /v1/organizations/usage_report/messages`` tells it, by its API
reference: in tokens and without money. Buckets of a minute, an hour or a day; model and key are
told if grouped by.
"""

from collections.abc import Mapping
from typing import Any, Final

from spend.invoices.files import buckets_of_json
from spend.invoices.lines import Invoice, Line, Lines, Reader

NAME: Final = "anthropic_usage_json"
LABEL: Final = "Anthropic usage (JSON of the API, tokens only)"
INPUT: Final = (
    "uncached_input_tokens", "cache_read_input_tokens",
    "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens",
)  # fmt: skip


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
            lines.add(number, _line, {**result, **_written(result), **bounds})
    return lines.invoice()


def _written(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what was written to the cache, which stands in an object of its own."""
    written = result.get("cache_creation")
    return written if isinstance(written, dict) else {}


def _day(reader: Reader) -> Any:
    return reader.day_of_instants("starting_at", "ending_at")


def _line(reader: Reader) -> Line:
    return Line(
        number=reader.number,
        day=_day(reader),
        model=reader.text("model"),
        key=reader.text("api_key_id"),
        input_tokens=sum(reader.whole(column) for column in INPUT),
        output_tokens=reader.whole("output_tokens"),
    )
