"""
What was used at Anthropic as the Console exports it, in tokens and without money.

Columns as seen in exports of March to August 2026. Input is what was not in the cache, was written
to it, and was read from it; keys are told by the names they have there.
"""

from typing import Final

from spend.invoices.files import rows_of_csv
from spend.invoices.lines import Invoice, Line, Lines, Reader

NAME: Final = "anthropic_usage_csv"
LABEL: Final = "Anthropic usage (CSV of the Console, tokens only)"
INPUT: Final = (
    "usage_input_tokens_no_cache", "usage_input_tokens_cache_write_5m",
    "usage_input_tokens_cache_write_1h", "usage_input_tokens_cache_read",
)  # fmt: skip
OUTPUT: Final = "usage_output_tokens"
NEEDS: Final = ("usage_date_utc", "model_version", *INPUT, OUTPUT)
KNOWS: Final = (
    "api_key", "workspace", "usage_type", "context_window", "web_search_count", "inference_geo",
    "speed", "api_key_id", "api_key_status",
)  # fmt: skip


def parse(content: bytes, *, provider: str) -> Invoice:
    """
    :raises BadInvoice: naming every line that does not fit
    """
    lines = Lines()
    for number, row in rows_of_csv(content, needs=NEEDS, knows=KNOWS):
        lines.add(number, _line, row)
    return lines.invoice()


def _line(reader: Reader) -> Line:
    return Line(
        number=reader.number,
        day=reader.day("usage_date_utc"),
        model=reader.text("model_version"),
        key=reader.text("api_key_id") or reader.text("api_key"),
        input_tokens=sum(reader.whole(column) for column in INPUT),
        output_tokens=reader.whole(OUTPUT),
    )
