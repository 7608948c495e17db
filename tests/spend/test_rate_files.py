"""Files of rates: read exactly, bounded, and never taken by halves."""

import io
import json
import zipfile
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from importlib import resources

import pytest

from spend.currencies import rate_files
from spend.currencies.exchange import Source
from spend.currencies.rate_files import BadFile, read_feed, read_import
from tests.spend.test_exchange import BAD_RATES

pytestmark = pytest.mark.no_servers

TODAY = date(2026, 11, 24)
XML = """<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01"
 xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">
 <gesmes:subject>Reference rates</gesmes:subject>
 <Cube><Cube time='2026-11-23'>
  <Cube currency='USD' rate='1.0825'/><Cube currency='JPY' rate='161.53'/>
  <Cube currency='BGN' rate='1.9558'/>
 </Cube></Cube>
</gesmes:Envelope>"""
TABLE = "Date,USD,JPY,HRK,\n2026-11-23,1.0825,161.53,N/A,\n2026-11-20,1.08,N/A,N/A,\n"
OBJECT = {"base": "EUR", "date": "2026-11-23", "rates": {"USD": "1.0825", "JPY": 161.53}}


def read(body: bytes | str, **options: date) -> list[tuple[str, str, Decimal]]:
    found = read_feed(body.encode() if isinstance(body, str) else body, today=TODAY, **options)
    return [(each.quote, f"{each.day}", each.value) for each in found]


def zipped(*texts: str | bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for n, text in enumerate(texts):
            archive.writestr(f"{n}.csv", text)
    return packed.getvalue()


EXPECTED = [("USD", "2026-11-23", Decimal("1.0825")), ("JPY", "2026-11-23", Decimal("161.53"))]


def test_the_banks_file_of_today_is_read_without_currencies_that_are_gone() -> None:
    assert read(XML) == EXPECTED


def test_the_banks_history_is_read_from_a_day_on() -> None:
    assert read(zipped(TABLE)) == [*EXPECTED, ("USD", "2026-11-20", Decimal("1.08"))]
    assert read(zipped(TABLE), since=date(2026, 11, 21)) == EXPECTED


def test_a_json_object_is_read_to_the_last_digit() -> None:
    body = json.dumps(OBJECT | {"amount": 1.0}).replace("161.53", "161.530000000000001")

    assert read(body)[1][2] == Decimal("161.530000000000001")
    assert {each.source for each in read_feed(body.encode(), today=TODAY)} == {Source.HTTP}


def test_the_history_that_comes_with_an_installation_is_one() -> None:
    kept = (resources.files("currency_converter") / "eurofxref-hist.zip").read_bytes()

    found = read(kept, since=date(2026, 10, 30))

    assert ("USD", "2026-10-30", Decimal("1.1172")) in found
    assert len(found) > 25


# --- Bad rates -----------------------------------------------------------------------------


@pytest.mark.parametrize("rate", BAD_RATES)
@pytest.mark.parametrize("form", ["xml", "json"])
def test_one_bad_rate_spoils_a_feed_and_is_named(form: str, rate: str) -> None:
    body = {
        "xml": lambda: XML.replace("161.53", rate),
        "json": lambda: json.dumps(OBJECT | {"rates": {"USD": "1", "JPY": rate}}),
    }[form]()

    with pytest.raises(BadFile) as refused:
        read(body)

    assert "JPY" in str(refused.value)
    assert "rate " in str(refused.value)


@pytest.mark.parametrize("literal", ["true", "[]", "null", "{}", "NaN", "-Infinity", "1e400", "-0"])
def test_what_is_no_number_in_json_is_no_rate(literal: str) -> None:
    body = json.dumps(OBJECT).replace("161.53", literal)

    with pytest.raises(BadFile, match=r"rates\.JPY"):
        read(body)


@pytest.mark.parametrize(
    "body",
    [
        "", "[]", "hello", "{", "{}", '{"rates": 1}', '{"rates": {}}', "<", "<a/>", "PK", "<a>" * 9,
        '{"rates": {"USD": "1", "USD": "2"}, "base": "EUR", "date": "2026-11-23"}',
        '{"a":' * 100_000, json.dumps(OBJECT | {"base": "ZZZ"}), json.dumps(OBJECT | {"date": 7}),
        json.dumps(OBJECT | {"date": "2027-11-23"}), json.dumps(OBJECT | {"amount": 10}),
        json.dumps(OBJECT | {"amount": []}), XML.replace("2026-11-23", "23.11.2026"),
        XML.replace("time=", "when="), XML.encode("utf-16"), "\x00", XML + XML,
    ],
)  # fmt: skip
def test_what_is_no_file_of_rates_brings_none(body: str | bytes) -> None:
    with pytest.raises(BadFile):
        read(body)


# --- Bombs ---------------------------------------------------------------------------------


def bomb() -> bytes:
    return zipped(b"0" * (rate_files.UNPACKED_BYTES_MAX + 1))


def several() -> bytes:
    return zipped(TABLE, TABLE)


def torn() -> bytes:
    return zipped(TABLE)[:-30]


def damaged() -> bytes:
    packed = bytearray(zipped(TABLE * 50))
    packed[60:90] = b"\xff" * 30
    return bytes(packed)


@pytest.mark.parametrize("make", [bomb, several, torn, damaged])
def test_an_archive_that_is_not_as_it_should_be_brings_none(make: Callable[[], bytes]) -> None:
    assert len(make()) < rate_files.BYTES_MAX
    with pytest.raises(BadFile, match=r"archive|unpacked"):
        read(make())


def test_entities_are_refused_before_they_are_read() -> None:
    laughs = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]>'
    outside = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'

    for declared in (laughs, outside):
        body = XML.replace("?>", f"?>{declared}")
        for encoded in (body, body.replace("UTF-8", "UTF-16").encode("utf-16")):
            with pytest.raises(BadFile):
                read(encoded)


def test_a_file_that_is_too_large_is_not_even_looked_at() -> None:
    with pytest.raises(BadFile, match="bytes"):
        read(b"<" + b" " * rate_files.BYTES_MAX)


# --- Our own table -------------------------------------------------------------------------

HEAD = "date,base,quote,rate\n"


def imported(text: str | bytes) -> list[str]:
    body = text.encode() if isinstance(text, str) else text
    found = read_import(body, source=Source.MANUAL, today=TODAY)
    return [f"{each.day} {each.base}{each.quote} {each.value}" for each in found]


def problems(text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(BadFile) as refused:
        imported(text)
    return refused.value.problems


def test_a_table_is_read_as_it_is() -> None:
    rows = "2026-11-23,EUR,USD,1.0825\r\n\r\n2026-11-24,EUR,USD,1.09\r\n"

    assert imported("\ufeff" + HEAD + rows) == [
        "2026-11-23 EURUSD 1.0825",
        "2026-11-24 EURUSD 1.09",
    ]


@pytest.mark.parametrize(
    "rate", [each for each in BAD_RATES if "," not in each and "\n" not in each]
)
def test_a_bad_rate_is_named_by_its_line(rate: str) -> None:
    found = problems(f"{HEAD}2026-11-23,EUR,USD,1.0825\n2026-11-23,EUR,JPY,{rate}\n")

    assert len(found) == 1
    assert found[0].startswith("line 3: rate ")


def test_every_bad_row_is_named() -> None:
    rows = (
        "2026-11-31,EUR,USD,1\n2026-11-23,EUR,BTC,1\n2026-11-23,eur,USD,1\n"
        "2026-11-23,EUR,JPY,161\n2026-11-23,EUR,JPY,162\n2026-11-23,EUR,EUR,1\n"
    )

    found = [" ".join(each.split()[:3]) for each in problems(HEAD + rows)]

    assert found == [
        "line 2: date", "line 3: quote", "line 4: base", "line 6: rate", "line 7: quote",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "", "date,base,quote\n", "base,date,quote,rate\n", "2026-11-23,EUR,USD,1\n", HEAD,
        HEAD + "2026-11-23,EUR,USD\n", HEAD + "2026-11-23,EUR,USD,1,000\n",
        HEAD + '2026-11-23,EUR,USD,"1', b"\xff\xfe\x00", HEAD + "x" * rate_files.IMPORT_BYTES_MAX,
        HEAD + "2026-11-23,EUR,USD,1\n" * (rate_files.IMPORT_ROWS_MAX + 1),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_whole(text: str | bytes) -> None:
    assert problems(text)
