"""What a model has written in one answer, kept to be counted if its usage is not told."""

from collections.abc import Iterator, Mapping
from typing import Final

from spend import prompt_tokens, tokens

BYTES_KEPT_MAX: Final = 2**18
"""Of one answer; what comes after is counted by its bytes."""
TEXTS_MAX: Final = 1_024
"""All kinds of text of as many choices as a request may ask for, and more."""
_FIELDS: Final = ("content", "refusal", "reasoning_content", "reasoning")


class Written:
    """Text, refusals, reasoning and tool calls, each put together from the pieces of a stream."""

    def __init__(self) -> None:
        self._texts: dict[tuple[int, str], bytearray] = {}
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

    def add_unread(self, data: bytes) -> None:
        """Take what could not be read: it may have been billed."""
        self._bytes_beyond += len(data)

    def chars_at_most(self) -> int:
        return self._bytes_kept

    def by_bytes(self) -> int:
        """Return the tokens without looking at the texts."""
        return tokens.of_bytes(self._bytes_kept + self._bytes_beyond)

    def count(self, *, model: str) -> int:
        """Return the tokens of all texts, as the model's tokenizer counts or is thought to."""
        counted = (
            tokens.count_text(text=text.decode(errors="replace"), model=model).tokens
            for text in self._texts.values()
        )
        return sum(counted) + tokens.of_bytes(self._bytes_beyond)

    def _add(self, name: tuple[int, str], text: bytes) -> None:
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
    for text in prompt_tokens.called(said):
        yield "tool_calls", text


def _index(choice: Mapping[str, object]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0
