"""What a model has written in one answer, kept to be counted if its usage is not told."""

from collections.abc import Iterator, Mapping
from typing import Final

import orjson

from spend.counting import tokens

BYTES_KEPT_MAX: Final = 2**18
"""Of one answer; what comes after is counted by its bytes."""
TEXTS_MAX: Final = 1_024
"""All kinds of text of as many choices as a request may ask for, and more."""
CALLED_CHARS_MAX: Final = 256
"""Of the name and the id of a tool call."""
_FIELDS: Final = ("content", "refusal", "reasoning_content", "reasoning")
_HEAD: Final = ("id", "type")
OLDER: Final = "function_call"

Place = tuple[int, str]
"""Which choice, and what of it."""


class Written:
    """Text, refusals, reasoning and tool calls, each put together from the pieces of a stream."""

    def __init__(self) -> None:
        self._texts: dict[Place, bytearray] = {}
        self._calls: dict[Place, dict[str, str]] = {}
        self._bytes_kept = 0
        self._bytes_beyond = 0

    def add_reply(self, reply: Mapping[str, object], *, part: str) -> None:
        """Take what a reply's or an event's choices carry in ``part``."""
        choices = reply.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            said = choice.get(part) if isinstance(choice, dict) else None
            if isinstance(said, dict):
                for name, text in _texts(said):
                    self._add((_index(choice), name), text.encode(errors="replace"))
                for name, call in _calls(said):
                    self._add_call((_index(choice), name), call)

    def add_text(self, place: Place, text: str) -> None:
        """Take a piece of text."""
        self._add(place, text.encode(errors="replace"))

    def add_unread(self, data: bytes) -> None:
        """Take what could not be read: it may have been billed."""
        self._bytes_beyond += len(data)

    def chars_at_most(self) -> int:
        return self._bytes_kept

    def by_bytes(self) -> int:
        """Return the tokens without looking at the texts."""
        return tokens.of_bytes(self._bytes_kept + self._bytes_beyond)

    def count(self, *, model: str) -> int:
        """
        Return the tokens of all texts, as the model's tokenizer counts or is thought to; those of
        a tool call as JSON, with its name, id and type.
        """
        texts = [bytes(text) for place, text in self._texts.items() if place not in self._calls]
        texts += [
            _as_json(call, bytes(self._texts.get(at, b""))) for at, call in self._calls.items()
        ]
        counted = (
            tokens.count_text(text=text.decode(errors="replace"), model=model).tokens
            for text in texts
        )
        return sum(counted) + tokens.of_bytes(self._bytes_beyond)

    def _add_call(self, name: Place, call: Mapping[str, object]) -> None:
        """Take a piece of a call: its name comes once, its arguments bit by bit."""
        function = call.get("function") or call.get("custom")
        said = function if isinstance(function, Mapping) else {}
        if name not in self._calls and len(self._calls) >= TEXTS_MAX:
            self._bytes_beyond += len(orjson.dumps(call))
            return
        kept = self._calls.setdefault(name, {})
        for field, value in (("name", said.get("name")), *((n, call.get(n)) for n in _HEAD)):
            if isinstance(value, str) and value:
                kept[field] = value[:CALLED_CHARS_MAX]
        for text in (said.get("arguments"), said.get("input")):
            if isinstance(text, str):
                self._add(name, text.encode(errors="replace"))

    def _add(self, name: Place, text: bytes) -> None:
        has_room = name in self._texts or len(self._texts) < TEXTS_MAX
        kept = text[: BYTES_KEPT_MAX - self._bytes_kept] if has_room else b""
        if kept:
            self._texts.setdefault(name, bytearray()).extend(kept)
        self._bytes_kept += len(kept)
        self._bytes_beyond += len(text) - len(kept)


def _texts(said: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name in _FIELDS:
        if isinstance(text := said.get(name), str):
            yield name, text


def _calls(said: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield each piece of a call with the call that it is a piece of."""
    if isinstance(older := said.get("function_call"), Mapping):
        yield OLDER, {"function": older}
    calls = said.get("tool_calls")
    for position, call in enumerate(calls if isinstance(calls, list) else []):
        if isinstance(call, Mapping):
            index = call.get("index")
            yield f"call {index if isinstance(index, int) else position}", call


def _as_json(call: Mapping[str, str], arguments: bytes) -> bytes:
    function = {"arguments": arguments.decode(errors="replace"), "name": call.get("name", "")}
    head = {name: call[name] for name in _HEAD if name in call}
    return orjson.dumps({"function": function, **head} if head else function)


def _index(choice: Mapping[str, object]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0
