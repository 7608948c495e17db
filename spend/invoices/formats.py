"""All formats of invoices. A new one is a file with NAME, LABEL and ``parse``, and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Final, cast

from budgets.errors import InvalidInput
from spend.invoices import (
    anthropic_costs_csv,
    anthropic_costs_json,
    anthropic_usage_csv,
    anthropic_usage_json,
    generic_csv,
    openai_costs_csv,
    openai_costs_json,
    openai_usage_csv,
    openai_usage_json,
)
from spend.invoices.lines import Invoice

Parse = Callable[..., Invoice]


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    label: str
    parse: Parse


def _format(module: ModuleType) -> Format:
    return Format(module.NAME, module.LABEL, cast(Parse, module.parse))


FORMATS: Final[Mapping[str, Format]] = {
    each.name: each
    for each in map(_format, (
        openai_costs_csv, openai_costs_json, openai_usage_csv, openai_usage_json,
        anthropic_costs_csv, anthropic_costs_json, anthropic_usage_csv, anthropic_usage_json,
        generic_csv,
    ))
}  # fmt: skip


def parse(content: bytes, *, format: str, provider: str) -> Invoice:
    """
    Return what a file says.

    :raises InvalidInput: if nobody knows the format
    :raises BadInvoice: naming every line that does not fit
    """
    if format not in FORMATS:
        raise InvalidInput("format", f"must be one of {', '.join(FORMATS)}")
    return FORMATS[format].parse(content, provider=provider)
