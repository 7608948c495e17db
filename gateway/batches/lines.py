"""The lines of a batch's file (JSONL): checked by the route each is for, and written anew."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.errors import InvalidRequest, UnsupportedParameter
from gateway.routes import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES
from gateway.routes.asked import Asked, Together
from gateway.routes.route import Route
from spend.rates import BATCH, STANDARD_NAMES

LINES_MAX: Final = 50_000
CUSTOM_ID_MAX: Final = 512
ROUTES: Final[Mapping[str, Route]] = {
    route.path: route for route in (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES)
}
"""What a line may be for."""
_FIELDS: Final = frozenset({"custom_id", "method", "url", "body"})
_TIERS: Final = STANDARD_NAMES | {BATCH}
FILE: Final = "file"


@dataclass(frozen=True, slots=True)
class Checked:
    """A file whose lines may all be served, as far as they tell."""

    route: Route
    model: str
    together: Together
    end_user: str
    tags: tuple[str, ...]


@dataclass(slots=True)
class _Sums:
    """What the lines read so far have in common, and ask for together."""

    first: Asked | None = None
    url: str = ""
    ids: set[str] = field(default_factory=set)
    bytes_in: int = 0
    longest_bytes_in: int = 0
    windows: int = 0
    tokens_out: int = 0
    choices_asked: int = 0
    choices_unasked: int = 0
    searching: int = 0

    def add(self, asked: Asked, *, bytes_sent: int) -> None:
        if asked.bytes_bound_input:
            size = bytes_sent + asked.input_tokens_beyond
            self.bytes_in += size
            self.longest_bytes_in = max(self.longest_bytes_in, size)
        else:
            self.windows += 1
        if asked.output_tokens_asked is None:
            self.choices_unasked += asked.choices
        else:
            self.choices_asked += asked.choices
            self.tokens_out += asked.output_tokens_asked * asked.choices
        self.searching += asked.may_search

    def together(self) -> Together:
        return Together(
            requests=len(self.ids),
            bytes_in=self.bytes_in,
            longest_bytes_in=self.longest_bytes_in,
            windows=self.windows,
            tokens_out=self.tokens_out,
            choices_asked=self.choices_asked,
            choices_unasked=self.choices_unasked,
            searching=self.searching,
        )


def check(data: bytes) -> Checked:
    """
    Read a file to its end.

    :raises InvalidRequest: naming the first line that does not fit, or that there is none
    :raises UnsupportedParameter: if a line asks for what no batch may
    """
    sums = _Sums()
    for number, raw in _numbered(data):
        try:
            _add(sums, raw)
        except (InvalidRequest, UnsupportedParameter) as error:
            raise type(error)(f"Line {number}: {error.message}", param=error.param) from error
    if sums.first is None:
        raise InvalidRequest("The file has no line.", param=FILE)
    return Checked(
        ROUTES[sums.url], sums.first.model, sums.together(), sums.first.end_user, sums.first.tags
    )


def rewritten(data: bytes, *, route: Route, upstream_model: str) -> bytes:
    """Return a file that was checked, as the upstream gets it: with its own name of the model."""
    written = io.BytesIO()
    for _, raw in _numbered(data):
        line = orjson.loads(raw)
        body = route.send(_parsed(line["body"], route), upstream_model).data
        line["body"] = orjson.Fragment(body)
        written.write(orjson.dumps(line) + b"\n")
    return written.getvalue()


def _numbered(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not blank with its number, from 1."""
    for number, raw in enumerate(io.BytesIO(data), start=1):
        if stripped := raw.strip():
            yield number, stripped


def _add(sums: _Sums, raw: bytes) -> None:
    if len(sums.ids) >= LINES_MAX:
        raise InvalidRequest(f"A file may have {LINES_MAX} lines at most.", param=FILE)
    line = _object(raw)
    _check_id(line["custom_id"], sums)
    if line["method"] != "POST":
        raise InvalidRequest("method must be POST.", param="method")
    route = _route(line["url"], sums)
    asked = _parsed(line["body"], route)
    _check_alike(asked, sums)
    sums.add(asked, bytes_sent=len(route.send(asked, asked.model).data))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("It is not valid JSON.", param=FILE) from error
    if not isinstance(line, dict) or line.keys() != _FIELDS:
        raise InvalidRequest(
            f"It must be a JSON object with {', '.join(sorted(_FIELDS))} and nothing else.",
            param=FILE,
        )
    return line


def _check_id(given: object, sums: _Sums) -> None:
    if not isinstance(given, str) or not 0 < len(given) <= CUSTOM_ID_MAX:
        raise InvalidRequest(
            f"custom_id must be text of 1 to {CUSTOM_ID_MAX} characters.", param="custom_id"
        )
    if given in sums.ids:
        raise InvalidRequest("Another line has the same custom_id.", param="custom_id")
    sums.ids.add(given)


def _route(url: object, sums: _Sums) -> Route:
    route = ROUTES.get(url) if isinstance(url, str) else None
    if route is None:
        raise InvalidRequest(f"url must be one of {', '.join(ROUTES)}.", param="url")
    if sums.url and sums.url != route.path:
        raise InvalidRequest("All lines must have the same url.", param="url")
    sums.url = route.path
    return route


def _parsed(body: object, route: Route) -> Asked:
    """Return what a line asks for, by the rules that hold for the request alone."""
    if not isinstance(body, dict):
        raise InvalidRequest("body must be a JSON object.", param="body")
    try:
        data = orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest("body is nested too deeply.", param="body") from error
    asked = route.parse(data, headers={})
    if asked.stream:
        raise UnsupportedParameter("A batch cannot stream.", param="stream")
    if asked.service_tier and asked.service_tier.strip().lower() not in _TIERS:
        raise UnsupportedParameter("A batch has a service tier of its own.", param="service_tier")
    return asked


def _check_alike(asked: Asked, sums: _Sums) -> None:
    """All lines are paid for as one request: by one end user, under the same tags."""
    first = sums.first = sums.first or asked
    if asked.model != first.model:
        raise InvalidRequest("All lines must name the same model.", param="model")
    if asked.end_user != first.end_user:
        raise InvalidRequest("All lines must be for the same end user.", param="user")
    if asked.tags != first.tags:
        raise InvalidRequest("All lines must have the same tags.", param="metadata.tags")
