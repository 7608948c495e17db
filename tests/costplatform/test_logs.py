import json
import logging

import pytest

from costplatform.logs import LineFormatter

pytestmark = pytest.mark.no_servers


def line(message: str, **fields: object) -> str:
    record = logging.makeLogRecord(
        {"name": "gateway", "msg": message, "levelname": "INFO"} | fields
    )
    return LineFormatter().format(record)


def test_a_record_is_one_line_of_json_with_its_fields() -> None:
    parsed = json.loads(line("request_failed", request_id="r1"))

    assert (parsed["event"], parsed["request_id"]) == ("request_failed", "r1")


def test_line_breaks_and_control_characters_cannot_forge_a_line() -> None:
    written = line('x\n{"event": "forged"}\r\x1b[2J', name_of="a\nb")

    assert len(written.splitlines()) == 1
    assert "\x1b" not in written


def test_keys_are_never_written() -> None:
    written = line("bad path /key/sk-cp-abcdefghijkl", path="/x?key=sk-live_1234567890")

    assert "abcdefgh" not in written
    assert "12345" not in written


def test_what_is_no_json_is_written_as_text_and_cut() -> None:
    assert len(line("x" * 10_000, value=object())) < 3_000
