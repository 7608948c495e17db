"""
Our own CSV, for providers without a format here: one line for a day, model and key.

``day,provider,model,key,currency,amount,input_tokens,output_tokens,requests,external_id``; day,
provider, model, currency and amount must be there. docs/how-to/reconcile-with-an-invoice.md
describes it.
"""

from functools import partial
from typing import Final

from spend.invoices.files import rows_of_csv
from spend.invoices.lines import BadValue, Invoice, Line, Lines, Reader

NAME: Final = "generic_csv"
LABEL: Final = "Generic CSV"
NEEDS: Final = ("day", "provider", "model", "currency", "amount")
KNOWS: Final = ("key", "input_tokens", "output_tokens", "requests", "external_id")


def parse(content: bytes, *, provider: str) -> Invoice:
    """
    :raises BadInvoice: naming every line that does not fit
    """
    lines = Lines()
    for number, row in rows_of_csv(content, needs=NEEDS, knows=KNOWS):
        lines.add(number, partial(_line, provider), row)
    return lines.invoice()


def _line(provider: str, reader: Reader) -> Line:
    day = reader.day("day")
    if reader.text("provider") != provider:
        raise BadValue(f"must be {provider}")
    reader.currency_code("currency")
    amount, decimals = reader.amount("amount")
    return Line(
        number=reader.number,
        day=day,
        model=reader.text("model"),
        key=reader.text("key"),
        amount=amount,
        decimals=decimals,
        input_tokens=reader.whole_or_none("input_tokens"),
        output_tokens=reader.whole_or_none("output_tokens"),
        requests=reader.whole_or_none("requests"),
        external_id=reader.text("external_id"),
    )
