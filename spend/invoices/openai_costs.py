"""
What OpenAI charges, a line for each day, line item, key and project, as far as it was grouped by.

CSV as the platform's usage page exports costs, its columns as seen in such exports of October 2025
(without quantities) and September 2026 (with them); JSON of ``GET /v1/organization/costs`` as the
API reference describes it: buckets of a day, amounts as numbers, currencies in small letters. A
line item reads ``gpt-4o-2024-08-06, input``: the model, and what of it.
"""

from collections.abc import Mapping
from typing import Any, Final

from spend.invoices.files import buckets_of_json, rows_of_csv
from spend.invoices.lines import BadValue, Invoice, Line, Lines, Reader

NEEDS: Final = ("start_time", "end_time", "amount_value", "amount_currency", "line_item")
KNOWS: Final = (
    "start_time_iso", "end_time_iso", "quantity", "quantity_unit", "user_id", "api_key_id",
    "project_id", "organization_id", "project_name", "organization_name", "user_email",
    "api_key_name", "api_source",
)  # fmt: skip
TOKENS: Final = "tokens"


def parse_csv(content: bytes, *, provider: str) -> Invoice:
    """
    :raises BadInvoice: naming every line that does not fit
    """
    lines = Lines()
    for number, row in rows_of_csv(content, needs=NEEDS, knows=KNOWS):
        if row["amount_value"] or row["amount_currency"]:
            lines.add(number, _line, row)
        else:
            lines.covers(number, _day, row)
    return lines.invoice()


def parse_json(content: bytes, *, provider: str) -> Invoice:
    """
    :raises BadInvoice: naming every result that does not fit, counted over all buckets
    """
    lines, number = Lines(), 0
    for start, end, results in buckets_of_json(content, start="start_time", end="end_time"):
        bounds = {"start_time": start, "end_time": end}
        lines.covers(number + 1, _day, bounds)
        for result in results:
            number += 1
            lines.add(number, _line, {**result, **bounds, **_money(result)})
    return lines.invoice()


def _money(result: Mapping[str, Any]) -> dict[str, Any]:
    amount = result.get("amount")
    told = amount if isinstance(amount, dict) else {}
    return {"amount_value": told.get("value"), "amount_currency": told.get("currency")}


def _day(reader: Reader) -> Any:
    return reader.day_of_seconds("start_time", "end_time")


def _line(reader: Reader) -> Line:
    day = _day(reader)
    amount, decimals = reader.amount("amount_value")
    reader.currency_code("amount_currency", lower=True)
    key = reader.text("api_key_id")
    model, _, part = reader.text("line_item").rpartition(", ")
    tokens = _tokens(reader, part)
    return Line(
        number=reader.number,
        day=day,
        model=model or part,
        key=key,
        amount=amount,
        decimals=decimals,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
    )


def _tokens(reader: Reader, part: str) -> tuple[int | None, int | None]:
    """Return what a line item of tokens counts; of any other nothing is known."""
    if reader.text("quantity_unit") != TOKENS:
        return None, None
    quantity, decimals = reader.amount("quantity")
    if quantity != quantity.to_integral_value() or decimals > 1:
        raise BadValue("must be a whole number of tokens")
    is_output = "output" in part
    return (0, int(quantity)) if is_output else (int(quantity), 0)
