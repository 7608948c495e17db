"""
What was used at OpenAI, in tokens and without money.

CSV as the platform's usage page exports completions, its columns as seen in an export of October
2025; JSON of ``GET /v1/organization/usage/completions`` as the API reference describes it. Buckets
of a minute, an hour or a day; ``input_tokens`` holds those that were read from the cache.
"""

from collections.abc import Mapping
from typing import Any, Final

from spend.invoices.files import buckets_of_json, rows_of_csv
from spend.invoices.lines import Invoice, Line, Lines, Reader

NEEDS: Final = (
    "start_time", "end_time", "num_model_requests", "model", "input_tokens", "output_tokens",
)  # fmt: skip
KNOWS: Final = (
    "start_time_iso", "end_time_iso", "project_id", "project_name", "user_id", "user_email",
    "user_name", "api_key_id", "api_key_name", "organization_id", "organization_name", "batch",
    "service_tier", "input_cached_tokens", "input_uncached_tokens", "input_text_tokens",
    "output_text_tokens", "input_cached_text_tokens", "input_audio_tokens",
    "input_cached_audio_tokens", "output_audio_tokens", "input_image_tokens",
    "input_cached_image_tokens", "output_image_tokens", "api_source",
)  # fmt: skip
COUNTS: Final = ("num_model_requests", "input_tokens", "output_tokens")


def parse_csv(content: bytes, *, provider: str) -> Invoice:
    """
    :raises BadInvoice: naming every line that does not fit
    """
    lines = Lines()
    for number, row in rows_of_csv(content, needs=NEEDS, knows=KNOWS):
        if any(row[name] for name in (*COUNTS, "model")):
            lines.add(number, _line, {**row, **_without_point(row)})
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
            lines.add(number, _line, {**result, **bounds})
    return lines.invoice()


def _without_point(row: Mapping[str, str]) -> dict[str, str]:
    """Return counts as whole numbers: spreadsheets write 59200.0."""
    return {name: row[name].removesuffix(".0") for name in COUNTS}


def _day(reader: Reader) -> Any:
    return reader.day_of_seconds("start_time", "end_time")


def _line(reader: Reader) -> Line:
    return Line(
        number=reader.number,
        day=_day(reader),
        model=reader.text("model"),
        key=reader.text("api_key_id"),
        input_tokens=reader.whole("input_tokens"),
        output_tokens=reader.whole("output_tokens"),
        requests=reader.whole("num_model_requests"),
    )
