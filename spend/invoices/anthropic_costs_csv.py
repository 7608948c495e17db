"""
Anthropic's costs as the Console exports them: a line for each day, model, key and kind of token.

Columns as seen in exports of December 2025 to August 2026; the last two are missing in older ones.
US dollars; models by the names that people read (``Claude Haiku 4.5``), which become those of the
API; what is of no model, such as web searches, has ``--`` for one. No tokens are told.
"""

from typing import Final

from spend.invoices.files import rows_of_csv
from spend.invoices.lines import Invoice, Line, Lines, Reader

NAME: Final = "anthropic_costs_csv"
LABEL: Final = "Anthropic costs (CSV of the Console)"
NEEDS: Final = ("usage_date_utc", "model", "cost_usd")
KNOWS: Final = (
    "workspace", "api_key", "usage_type", "context_window", "token_type", "list_price_usd",
    "cost_type", "inference_geo", "speed", "api_key_id", "api_key_status",
)  # fmt: skip
NONE: Final = "--"


def parse(content: bytes, *, provider: str) -> Invoice:
    """
    :raises BadInvoice: naming every line that does not fit
    """
    lines = Lines()
    for number, row in rows_of_csv(content, needs=NEEDS, knows=KNOWS):
        lines.add(number, _line, row)
    return lines.invoice()


def _line(reader: Reader) -> Line:
    day = reader.day("usage_date_utc")
    amount, decimals = reader.amount("cost_usd")
    reader.currency = "USD"
    return Line(
        number=reader.number,
        day=day,
        model=_model(reader.text("model")),
        key=_told(reader.text("api_key_id")) or _told(reader.text("api_key")),
        amount=amount,
        decimals=decimals,
    )


def _model(shown: str) -> str:
    return _told(shown).lower().replace(" ", "-").replace(".", "-")


def _told(text: str) -> str:
    return "" if text == NONE else text
