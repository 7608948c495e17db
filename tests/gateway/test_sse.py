import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sse import EVENT_BYTES_MAX, EventSplitter, data_of

pytestmark = pytest.mark.no_servers

EVENTS = [
    b'data: {"a":1}\n\n',
    b": a comment\n\n",
    b'event: x\r\ndata: {"b":2}\r\n\r\n',
    b"data: one\ndata: two\n\n",
    b"data: [DONE]\n\n",
]


@given(st.lists(st.integers(1, 40), max_size=60))
def test_events_come_whole_wherever_the_network_cut_them(cuts: list[int]) -> None:
    stream = b"".join(EVENTS)
    splitter, at = EventSplitter(), 0
    got: list[bytes] = []

    for size in cuts:
        got += splitter.feed(stream[at : at + size])
        at += size
    got += splitter.feed(stream[at:])

    assert got == EVENTS
    assert splitter.rest() == b""


def test_what_has_no_terminator_is_kept_as_the_rest() -> None:
    splitter = EventSplitter()

    events = list(splitter.feed(b"data: 1\n\ndata: 2"))

    assert events == [b"data: 1\n\n"]
    assert splitter.rest() == b"data: 2"


@pytest.mark.parametrize("size", [2**16, EVENT_BYTES_MAX - 1, 2 * EVENT_BYTES_MAX])
def test_an_oversized_event_is_passed_in_the_same_pieces_however_it_came(size: int) -> None:
    stream, splitter = b"x" * EVENT_BYTES_MAX + b"data: 1\n\n", EventSplitter()

    pieces: list[bytes] = []
    for start in range(0, len(stream), size):
        pieces += splitter.feed(stream[start : start + size])

    assert pieces == [b"x" * EVENT_BYTES_MAX, b"data: 1\n\n"]
    assert splitter.rest() == b""


def test_an_event_is_not_held_back_for_a_line_feed_that_may_follow_its_empty_line() -> None:
    splitter = EventSplitter()

    assert list(splitter.feed(b"data: 1\r\r")) == [b"data: 1\r\r"]
    assert list(splitter.feed(b"\ndata: 2\r\n\r\n")) == [b"\ndata: 2\r\n\r\n"]


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"event: e\r\ndata: x\r\n\r\n", b"x"),
        (b"data: x\ndata: y\n\n", b"x\ny"),
        (b": data: no\n\n", b""),
        (b"\n\n", b""),
        (b"\xef\xbb\xbfdata: x\n\n", b"x"),
        (b"data\ndata: x\n\n", b"\nx"),
        (b"database: x\n\n", b""),
        (b"data : x\n\n", b""),
        (b"\x00data: x\n\n", b""),
    ],
)
def test_data_lines_are_joined_and_everything_else_is_left_out(event: bytes, data: bytes) -> None:
    assert data_of(event) == data
