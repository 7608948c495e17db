"""
What must hold of any bytes at all. A target takes some, and fails if it does not.

``stream``   the reader of server-sent events passes what came, however it was cut
``request``  the parsers of requests take a body or refuse it; nothing else comes out
``form``     the same of forms with files
``fields``   the same with bodies that are JSON: fields it knows, with values that do not fit
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import cycle
from typing import Any, Final

from budgets.models import END_USER_BYTES_MAX, TAG_BYTES_MAX
from gateway import sse
from gateway.errors import GatewayError
from gateway.routes import (
    CHAT,
    COUNT_TOKENS,
    IMAGE_EDITS,
    ROUTES,
    TRANSCRIPTIONS,
    TRANSLATIONS,
    chat,
)
from gateway.routes.asked import Asked
from gateway.routes.forms import Upload
from gateway.routes.route import Route
from spend.counting import prompt_tokens
from tests.fuzz import reference
from tests.fuzz.values import fields_of

FORMS: Final = (IMAGE_EDITS, TRANSCRIPTIONS, TRANSLATIONS)
COUNTED_BY_PROVIDER: Final = COUNT_TOKENS.answers
BOUNDARY: Final = "b"
SIZES_MAX: Final = 7
UPSTREAM_MODEL: Final = "gpt-4o"


def stream(data: bytes) -> None:
    """The first byte says how many sizes of pieces follow; the stream is what comes after."""
    count = data[0] % (SIZES_MAX + 1) if data else 0
    sizes, body = data[1 : 1 + count], data[1 + count :]
    check_stream(body, ((body,), _pieces(body, b"\x01"), _pieces(body, sizes or b"\x02")))


def check_stream(body: bytes, ways: Iterable[Iterable[bytes]]) -> None:
    """Fail unless each way of cutting the body passes it whole and finds what WHATWG finds."""
    # What has no end is read too: the usage may be the last that an upstream has said.
    told = reference.dispatched(body + b"\n\n")
    found = [read(pieces) for pieces in ways]
    for events in found:
        assert b"".join(events) == body
        assert [data for event in events if (data := sse.data_of(event))] == told
        assert events == found[0]


def read(pieces: Iterable[bytes]) -> list[bytes]:
    """Return the events of a stream that came in pieces, and what is left at its end."""
    splitter = sse.EventSplitter()
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return [*events, splitter.rest()]


def request(data: bytes) -> None:
    """What stands before the first NUL is the header with tags, the rest the body."""
    tags, found, body = data.partition(b"\x00")
    headers = {"x-litellm-tags": tags.decode("latin-1")} if found else {}
    _check_request(body if found else data, headers)


def form(data: bytes) -> None:
    """The parts of a form, whose boundary is ``b``."""
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    for route in FORMS:
        try:
            asked = route.parse(data, headers=headers)
            sent = route.send(asked, UPSTREAM_MODEL)
        except GatewayError:
            continue
        again = route.parse(sent.data, headers={"content-type": sent.content_type})
        assert again.model == UPSTREAM_MODEL
        assert asked.form is not None
        assert again.form is not None
        # Not the names: quotes in them are escaped, and stay so.
        assert [_without_names(each) for each in again.form.files] == [
            _without_names(each) for each in asked.form.files
        ]


def _without_names(file: Upload) -> tuple[str, bytes]:
    return file.content_type, file.data


def fields(data: bytes) -> None:
    _check_request(json.dumps(fields_of(data)).encode(), {})


def _check_request(body: bytes, headers: Mapping[str, str]) -> None:
    for route in ROUTES:
        if route not in FORMS:
            _check_route(route, body, headers)


def _check_route(route: Route, body: bytes, headers: Mapping[str, str]) -> None:
    try:
        asked = route.parse(body, headers=headers)
        sent_on = json.loads(route.send(asked, UPSTREAM_MODEL).data)
    except GatewayError:
        return
    _check_kept(route, asked, sent_on)
    texts_max = [
        (asked.end_user, END_USER_BYTES_MAX),
        *((tag, TAG_BYTES_MAX) for tag in asked.tags),
    ]
    for text, bytes_max in texts_max:
        assert "\x00" not in text
        assert len(text.encode()) <= bytes_max
    assert asked.choices >= 1
    assert (
        route.answers is COUNTED_BY_PROVIDER
        or route.answers.count_prompt(asked.fields, model=UPSTREAM_MODEL) >= 0
    )
    if route is not CHAT:
        return
    assert asked.choices <= chat.CHOICES_MAX
    counted = prompt_tokens.count_request(request=asked.fields, model=UPSTREAM_MODEL)
    assert counted.tokens > 0


def _check_kept(route: Route, asked: Asked, sent_on: dict[str, Any]) -> None:
    """Fail unless all is sent on as it came, but for what the gateway is there to change."""
    ours = {"model", "stream_options", "metadata"}
    assert {n: v for n, v in sent_on.items() if n not in ours} == {
        n: v for n, v in asked.fields.items() if n not in ours
    }
    assert sent_on["model"] == UPSTREAM_MODEL
    streams_usage = asked.stream and route.send is chat.send
    assert not streams_usage or sent_on["stream_options"]["include_usage"] is True


def _check_storable(text: str, *, bytes_max: int) -> None:
    assert "\x00" not in text
    assert len(text.encode()) <= bytes_max


def _pieces(body: bytes, sizes: bytes) -> Iterator[bytes]:
    start = 0
    for size in cycle(sizes):
        if start >= len(body):
            return
        yield body[start : start + size + (size == 0)]
        start += size + (size == 0)


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "stream": stream,
    "request": request,
    "form": form,
    "fields": fields,
}
