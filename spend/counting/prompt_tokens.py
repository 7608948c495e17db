"""
Counts the tokens of a chat request: its messages, the tools it offers, and their framing.

The framing is what OpenAI adds around each message (docs/explanation/token-counting.md); for other
providers' models it is taken to be the same. Nothing here raises for a request of a strange shape:
what is not understood is counted as the text of its JSON, and the count is no longer exact.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import orjson

from spend.counting import tokens
from spend.counting.tokens import TEXT_CHARS_MAX, Count
from spend.counting.tool_tokens import described

TOKENS_PER_MESSAGE: Final = 3
TOKENS_PER_NAME: Final = 1
TOKENS_OF_REPLY_START: Final = 3
TOKENS_OF_TOOLS: Final = 9
TOKENS_SAVED_BESIDE_SYSTEM: Final = 4
TOKENS_OF_NO_TOOL: Final = 1
TOKENS_OF_NAMED_TOOL: Final = 7

LOW_IMAGE_TOKENS: Final = 85
IMAGE_TOKENS: Final = 765
"""A picture of 1,024 by 1,024: 85, and four tiles of 170."""
FILE_TOKENS_MIN: Final = 1_500
"""A page, where a file is named and not sent along."""
FILE_CHARS_PER_TOKEN: Final = 40
WAV_CHARS_PER_TOKEN: Final = 6_400
"""Base64 of a tenth of a second: 24,000 samples a second of 16 bits."""
AUDIO_CHARS_PER_TOKEN: Final = 2_100
"""The same of what is compressed, at 128 kbit/s."""
TEXTS_MAX: Final = 20_000

_TEXTS: Final = ("role", "content", "name", "refusal", "reasoning_content", "tool_call_id")


def count_messages(
    *,
    messages: Sequence[object],
    model: str,
    tools: object = None,
    tool_choice: object = None,
    response_format: object = None,
) -> Count:
    """
    Return the tokens of a prompt.

    ``TEXTS_MAX`` texts are looked at, and ``TEXT_CHARS_MAX`` characters of them; the rest counts by
    its bytes.
    """
    tally = _Tally(tokens.tokenizer_of(model))
    tally.add(TOKENS_OF_REPLY_START)
    for message in messages:
        _message(tally, message)
    if isinstance(tools, list) and tools:
        _tools(tally, tools, beside_system=any(map(_is_system, messages)))
    _tool_choice(tally, tool_choice)
    if isinstance(response_format, dict) and "json_schema" in response_format:
        tally.guess(response_format)
    return tally.count()


def count_request(*, request: Mapping[str, object], model: str) -> Count:
    """Return the tokens of a chat completion request's prompt."""
    messages, functions = request.get("messages"), request.get("functions")
    older = functions if isinstance(functions, list) else []
    return count_messages(
        messages=messages if isinstance(messages, list) else [],
        model=model,
        tools=request.get("tools") or [{"function": function} for function in older],
        tool_choice=request.get("tool_choice"),
        response_format=request.get("response_format"),
    )


class _Tally:
    """Adds up, and remembers whether a part of it is an estimate."""

    def __init__(self, tokenizer: str) -> None:
        self._tokenizer = tokenizer
        self._chars_left = TEXT_CHARS_MAX
        self._texts_left = TEXTS_MAX
        self._tokens = 0
        self._is_exact = True

    def add(self, number: int, *, is_exact: bool = True) -> None:
        self._tokens += number
        self._is_exact = self._is_exact and is_exact

    def text(self, text: str) -> None:
        if len(text) > self._chars_left or not self._texts_left:
            self.add(tokens.of_bytes(len(text.encode(errors="replace"))), is_exact=False)
            return
        self._chars_left -= len(text)
        self._texts_left -= 1
        counted = tokens.count_by(self._tokenizer, text)
        self.add(counted.tokens, is_exact=counted.is_exact)

    def guess(self, value: object) -> None:
        """Count what is not understood as the text of its JSON."""
        self.text(_json(value))
        self._is_exact = False

    def count(self) -> Count:
        is_exact = self._is_exact and self._tokenizer in {tokens.O200K, tokens.CL100K}
        return Count(self._tokens, is_exact, self._tokenizer)


def _message(tally: _Tally, message: object) -> None:
    tally.add(TOKENS_PER_MESSAGE)
    if not isinstance(message, Mapping):
        tally.guess(message)
        return
    for name in _TEXTS:
        if isinstance(text := message.get(name), str):
            tally.text(text)
    if isinstance(message.get("name"), str):
        tally.add(TOKENS_PER_NAME)
    if isinstance(parts := message.get("content"), list):
        for part in parts:
            _part(tally, part)
    for text in called(message):
        tally.text(text)


def called(message: Mapping[str, object]) -> Iterator[str]:
    """Yield what a message says to the tools it calls, without their names."""
    calls = message.get("tool_calls")
    functions = [message.get("function_call")]
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, Mapping):
            functions += [call.get("function"), call.get("custom")]
    for function in functions:
        if isinstance(function, Mapping):
            said = (function.get("arguments"), function.get("input"))
            yield from (text for text in said if isinstance(text, str))


def _part(tally: _Tally, part: object) -> None:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or not isinstance(kind, str):
        tally.guess(part)
    elif isinstance(text := part.get(kind), str) and kind in {"text", "refusal"}:
        tally.text(text)
    elif kind == "image_url":
        _image(tally, part.get("image_url"))
    elif kind == "input_audio":
        _audio(tally, part.get("input_audio"))
    elif kind == "file":
        _file(tally, part.get("file"))
    else:
        tally.guess(part)


def _image(tally: _Tally, image: object) -> None:
    """Count a picture without looking at it: small if that was asked for, else of middle size."""
    if isinstance(image, Mapping) and image.get("detail") == "low":
        tally.add(LOW_IMAGE_TOKENS)
    else:
        tally.add(IMAGE_TOKENS, is_exact=False)


def _audio(tally: _Tally, audio: object) -> None:
    sound = audio if isinstance(audio, Mapping) else {}
    is_plain = sound.get("format") == "wav"
    rate = WAV_CHARS_PER_TOKEN if is_plain else AUDIO_CHARS_PER_TOKEN
    tally.add(_chars(sound.get("data")) // rate, is_exact=False)


def _file(tally: _Tally, file: object) -> None:
    sent = file if isinstance(file, Mapping) else {}
    counted = _chars(sent.get("file_data")) // FILE_CHARS_PER_TOKEN
    tally.add(max(FILE_TOKENS_MIN, counted), is_exact=False)


def _chars(text: object) -> int:
    return len(text) if isinstance(text, str) else 0


def _tools(tally: _Tally, tools: list[object], *, beside_system: bool) -> None:
    text, is_understood = described(tools)
    tally.text(text)
    tally.add(TOKENS_OF_TOOLS, is_exact=is_understood)
    if beside_system:
        tally.add(-TOKENS_SAVED_BESIDE_SYSTEM)


def _is_system(message: object) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "system"


def _tool_choice(tally: _Tally, choice: object) -> None:
    if choice == "none":
        tally.add(TOKENS_OF_NO_TOOL)
    function = choice.get("function") if isinstance(choice, Mapping) else None
    if isinstance(function, Mapping) and isinstance(name := function.get("name"), str):
        tally.add(TOKENS_OF_NAMED_TOOL)
        tally.text(name)


def _json(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return ""
