"""Files of providers: what is read from them, and that nothing is read from one that is wrong."""

import json
from datetime import date
from decimal import Decimal
from typing import Any, Final

import pytest

from budgets.errors import InvalidInput
from spend.invoices import files as reading
from spend.invoices.formats import FORMATS, parse
from spend.invoices.lines import BadInvoice, Invoice, Line

pytestmark = pytest.mark.no_servers

DAY: Final = 1_793_491_200  # 2026-11-01T00:00:00Z
FIRST, SECOND = date(2026, 11, 1), date(2026, 11, 2)
GENERIC: Final = "day,provider,model,currency,amount"
BAD_AMOUNTS: Final = (
    "NaN", "Infinity", "-Infinity", "1e400", "1e3", "-0", "-1", "１２", "٣", "1,000", "0x10", "",
    " 1", ".5", "1.", "+1", "1_000", "$1", "9" * 400, "1000000001",
)  # fmt: skip


def read(format: str, content: str | bytes, provider: str = "openai") -> Invoice:
    whole = content.encode() if isinstance(content, str) else content
    return parse(whole, format=format, provider=provider)


def quoted(text: str) -> str:
    return f'"{text}"' if "," in text else text


def generic(*rows: str, head: str = GENERIC) -> Invoice:
    return read("generic_csv", "\n".join([head, *rows]))


def refusal(format: str, content: str | bytes) -> BadInvoice:
    with pytest.raises(BadInvoice) as refused:
        read(format, content)
    return refused.value


def page(format: str, *results: dict[str, Any], **bucket: Any) -> str:
    bounds: dict[str, Any] = {"start_time": DAY, "end_time": DAY + 86_400}
    if format.startswith("anthropic"):
        bounds = {"starting_at": "2026-11-01T00:00:00Z", "ending_at": "2026-11-02T00:00:00Z"}
    return json.dumps({"data": [{**bounds, **bucket, "results": results}], "has_more": False})


# --- Each format ---------------------------------------------------------------------------


def test_generic_lines_tell_money_and_what_else_they_have() -> None:
    invoice = generic(
        "2026-11-01,openai,gpt-4o,key-1,USD,12.50,100,20,3,abc",
        "2026-11-02,openai,gpt-4o,,USD,0,,,,",
        head="day,provider,model,key,currency,amount,input_tokens,output_tokens,requests,external_id",
    )

    assert (invoice.currency, invoice.first_day, invoice.last_day) == ("USD", FIRST, SECOND)
    assert invoice.lines == (
        Line(2, FIRST, "gpt-4o", "key-1", Decimal("12.50"), 2, 100, 20, 3, "abc"),
        Line(3, SECOND, "gpt-4o", "", Decimal(0), 0, None, None, None, ""),
    )


def test_costs_of_openai_are_read_from_csv_by_model_of_the_line_item() -> None:
    invoice = read(
        "openai_costs_csv",
        "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,quantity,"
        "quantity_unit,line_item,api_key_id,project_id,organization_id\n"
        f"{DAY},{DAY + 86_400},,,0.5000000000000000000000000000,usd,1000,tokens,"
        '"gpt-5-nano, input",key_1,p,o\n'
        f'{DAY},{DAY + 86_400},,,0.25,usd,10,tokens,"gpt-5-nano, output",key_1,p,o\n'
        f"{DAY},{DAY + 86_400},,,0.1,usd,,,web search tool calls,,p,o\n"
        f"{DAY + 86_400},{DAY + 2 * 86_400},,,,,,,,,,\n",
    )

    assert [(each.model, each.key, each.amount) for each in invoice.lines] == [
        ("gpt-5-nano", "key_1", Decimal("0.5")),
        ("gpt-5-nano", "key_1", Decimal("0.25")),
        ("web search tool calls", "", Decimal("0.1")),
    ]
    assert [(each.input_tokens, each.output_tokens) for each in invoice.lines] == [
        (1000, 0), (0, 10), (None, None),
    ]  # fmt: skip
    assert (invoice.currency, invoice.last_day) == ("USD", SECOND)  # an empty day is told of


def test_costs_of_openai_without_a_line_item_have_no_model() -> None:
    content = page(
        "openai", {"amount": {"value": 0.06, "currency": "usd"}, "line_item": None}
    )  # fmt: skip

    (line,) = read("openai_costs_json", content).lines

    assert (line.model, line.amount, line.decimals) == ("", Decimal("0.06"), 2)


def test_numbers_of_json_are_exact_and_may_have_an_exponent() -> None:
    content = page(
        "openai", {"amount": {"value": "@@", "currency": "usd"}, "line_item": "m, input"}
    )

    small = read("openai_costs_json", content.replace('"@@"', "1.5e-7")).lines[0]
    long = read("openai_costs_json", content.replace('"@@"', "0.06000000000000000123456")).lines[0]

    assert (small.amount, small.decimals) == (Decimal("0.00000015"), 8)
    assert (long.amount, long.decimals) == (Decimal("0.060000000000000001"), 18)


@pytest.mark.parametrize("count", ["59200", "59200.0"])
def test_usage_of_openai_is_read_from_csv_without_money(count: str) -> None:
    invoice = read(
        "openai_usage_csv",
        "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,"
        "api_key_id,model,batch,service_tier,input_tokens,output_tokens,input_cached_tokens\n"
        f"{DAY},{DAY + 60},,,p,10,u,key_1,gpt-4o-2024-08-06,FALSE,default,{count},10646,5760\n"
        f"{DAY + 86_400},{DAY + 86_460},,,,,,,,,,,,\n",
    )

    assert invoice.lines == (
        Line(2, FIRST, "gpt-4o-2024-08-06", "key_1", None, 0, 59200, 10646, 10, ""),
    )
    assert (invoice.currency, invoice.last_day) == ("", SECOND)


def test_usage_of_openai_is_read_from_json() -> None:
    result = {
        "object": "organization.usage.completions.result", "input_tokens": 100,
        "output_tokens": 7, "num_model_requests": 2, "model": "gpt-4o", "api_key_id": None,
    }  # fmt: skip

    invoice = read("openai_usage_json", page("openai", result))

    assert invoice.lines == (Line(1, FIRST, "gpt-4o", "", None, 0, 100, 7, 2, ""),)


def test_costs_of_anthropic_are_read_from_csv_by_the_models_own_names() -> None:
    invoice = read(
        "anthropic_costs_csv",
        "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,"
        "list_price_usd,cost_type,inference_geo,speed\n"
        "2026-11-01,Claude Haiku 4.5,Default,mine,message,≤ 200k,output,0.13,0.13,token,global,\n"
        "2026-11-01,--,Default,mine,message,--,--,0.02,0.02,web_search,global,\n",
    )

    assert [(each.model, each.key, each.amount) for each in invoice.lines] == [
        ("claude-haiku-4-5", "mine", Decimal("0.13")),
        ("", "mine", Decimal("0.02")),
    ]
    assert invoice.currency == "USD"


def test_costs_of_anthropic_are_cents_in_json() -> None:
    result = {"currency": "USD", "amount": "123.78912", "model": "claude-sonnet-4-20250514"}

    (line,) = read("anthropic_costs_json", page("anthropic", result)).lines

    assert (line.amount, line.decimals) == (Decimal("1.2378912"), 7)


def test_usage_of_anthropic_counts_the_cache_as_input() -> None:
    csv = read(
        "anthropic_usage_csv",
        "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,"
        "usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
        "usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,"
        "web_search_count,inference_geo,speed\n"
        "2026-11-01,claude-opus-5,mine,Default,standard,≤ 200k,1,20,300,4000,50,0,global,\n",
    )
    result = {
        "uncached_input_tokens": 1, "cache_read_input_tokens": 4000, "output_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 300},
        "model": "claude-opus-5", "api_key_id": "mine",
    }  # fmt: skip
    from_api = read("anthropic_usage_json", page("anthropic", result))

    assert csv.lines == (Line(2, FIRST, "claude-opus-5", "mine", None, 0, 4321, 50, None, ""),)
    assert from_api.lines[0].input_tokens == 4321
    assert from_api.lines[0].output_tokens == 50


# --- What is refused -----------------------------------------------------------------------


@pytest.mark.parametrize("amount", BAD_AMOUNTS)
def test_an_amount_that_is_no_plain_number_is_refused_by_line_and_column(amount: str) -> None:
    good = "2026-11-01,openai,m,USD,1"
    bad = f"2026-11-01,openai,m,USD,{quoted(amount)}"

    error = refusal("generic_csv", f"{GENERIC}\n{good}\n{bad}")

    assert [(each.line, each.column) for each in error.problems] == [(3, "amount")]
    assert error.problem.startswith("line 3: amount must be")


BAD_LITERALS: Final = (
    "NaN", "Infinity", "1e400", "1e99999999999999999999", "-0", "-0.0", "-1", "1000000001", "true",
    "null", "[]", '"１"',
)  # fmt: skip


@pytest.mark.parametrize("literal", BAD_LITERALS)
@pytest.mark.parametrize("format", ["openai_costs_json", "anthropic_costs_json"])
def test_an_amount_of_json_that_is_none_is_refused(format: str, literal: str) -> None:
    if format == "openai_costs_json":
        result: dict[str, Any] = {"amount": {"value": "@@", "currency": "usd"}, "line_item": "m"}
    else:
        result = {"amount": "@@", "currency": "USD", "model": "m"}
        literal = '"1e400"' if literal == "1000000001" else literal  # cents: ten million dollars

    error = refusal(format, page(format, result).replace('"@@"', literal))

    assert [each.line for each in error.problems] == [1]
    assert error.problems[0].column in {"amount_value", "amount"}


@pytest.mark.parametrize("tokens", ["1.5", "-1", "1e3", "１２", "0x10", "9" * 17, "NaN"])
def test_tokens_are_whole_numbers_in_digits(tokens: str) -> None:
    head = f"{GENERIC},input_tokens"

    error = refusal("generic_csv", f"{head}\n2026-11-01,openai,m,USD,1,{tokens}")

    assert error.problems[0].column == "input_tokens"


@pytest.mark.parametrize("day", ["2026-13-01", "2026-02-30", "1-1-2026", "２０２６-11-01", "",
                                 "1999-01-01", "9999-12-31"])  # fmt: skip
def test_days_are_days_of_the_calendar(day: str) -> None:
    error = refusal("generic_csv", f"{GENERIC}\n{day},openai,m,USD,1")

    assert error.problems[0].column == "day"


def test_every_bad_line_is_named_and_beyond_twenty_they_are_counted() -> None:
    rows = [f"2026-11-01,openai,m,USD,{'x' if n % 2 else '1'}" for n in range(60)]

    error = refusal("generic_csv", "\n".join([GENERIC, *rows]))

    assert [each.line for each in error.problems] == list(range(3, 63, 2))
    assert error.problem.endswith("; and 10 more")


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("2026-11-01,anthropic,m,USD,1", "provider"),
        ("2026-11-01,openai,m,usd,1", "currency"),
        ("2026-11-01,openai,m,ＵＳＤ,1", "currency"),
        ("2026-11-01,openai,a\u202eb,USD,1", "model"),
        (f"2026-11-01,openai,{'x' * 256},USD,1", "model"),
    ],
)
def test_a_line_of_another_provider_or_with_a_name_that_is_none_is_refused(
    row: str, column: str
) -> None:
    assert refusal("generic_csv", f"{GENERIC}\n{row}").problems[0].column == column


def test_a_file_is_in_one_currency() -> None:
    error = refusal(
        "generic_csv", f"{GENERIC}\n2026-11-01,openai,m,USD,1\n2026-11-01,openai,m,EUR,1"
    )

    assert str(error.problems[0]).endswith("must be USD as in the lines before it")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b" \n ", "is empty"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"a\x00b", "has NUL characters"),
        (GENERIC.encode(), "has no line with usage or cost"),
        (b"day,provider,model,currency\n", "lacks the column amount"),
        (f"{GENERIC},nonsense\n".encode(), "that nobody knows"),
        (f"{GENERIC},amount\n".encode(), "has a column twice"),
        (f"{GENERIC}\n1,2\n".encode(), "has 2 columns and not 5"),
        (f'{GENERIC}\n"1,2\n'.encode(), "is no CSV"),
        (f"{GENERIC}\n{'x' * 1_001},,,,\n".encode(), "more than 1000 characters"),
        (
            f"{GENERIC}\n2025-01-01,openai,m,USD,1\n2026-11-01,openai,m,USD,1".encode(),
            "spans more than 366 days",
        ),
    ],
)
def test_what_is_no_such_file_is_refused(content: bytes, told: str) -> None:
    assert told in refusal("generic_csv", content).problem


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "has no list called data"),
        ("{", "is no JSON"),
        ("[" * 100_000, "is n"),
        ('{"data": [1]}', "results must be a list"),
        ('{"data": [{"results": [1]}]}', "results must be a list"),
        ('{"data": [], "has_more": true}', "is not the whole answer"),
        ('{"data": [], "data": []}', "has a name twice"),
        ('{"data": []}', "has no line"),
    ],
)
@pytest.mark.parametrize("format", [name for name in FORMATS if name.endswith("json")])
def test_what_is_no_answer_of_the_api_is_refused(format: str, content: str, told: str) -> None:
    assert told in refusal(format, content).problem


@pytest.mark.parametrize("end", [DAY, DAY - 1, DAY + 86_401, DAY * 2])
def test_a_bucket_lies_within_a_day(end: int) -> None:
    result = {"amount": {"value": 1, "currency": "usd"}, "line_item": "m, input"}

    error = refusal("openai_costs_json", page("openai", result, end_time=end))

    assert {each.column for each in error.problems} == {"end_time"}


def test_files_and_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LINES_MAX", 2)
    rows = "\n".join([GENERIC, *["2026-11-01,openai,m,USD,1"] * 3])
    too_many = refusal("generic_csv", rows)
    monkeypatch.setattr(reading, "FILE_BYTES_MAX", 10)
    too_large = refusal("generic_csv", rows)

    assert too_many.problem == "has more than 2 lines"
    assert too_large.problem == "has more than 10 bytes"


def test_a_format_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(b"x", format="pdf", provider="openai")

    assert refused.value.field == "format"


def test_each_format_is_listed_once_under_its_own_name() -> None:
    assert list(FORMATS) == [each.name for each in FORMATS.values()]
    assert len({each.label for each in FORMATS.values()}) == len(FORMATS) == 9
