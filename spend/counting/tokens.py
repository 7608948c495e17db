"""
Counts the tokens of a text without asking anyone.

Exact for models whose encoding OpenAI has published (``o200k_base``, ``cl100k_base``). All other
models keep theirs to themselves, so theirs is an estimate and says so:

- Claude's: the tokens of ``cl100k_base``, or the words, numbers and runs of signs if these are
  more, and one more for every eight characters of an alphabet that ``cl100k_base`` knows better
  (Greek to Thai).
- Everyone else's: the tokens of ``cl100k_base``.

A long text is counted in pieces that are cut where every encoding cuts anyway, so their sum is
exact; where a piece has no such place it is cut all the same, and the count is an estimate. Beyond
``TEXT_CHARS_MAX`` a token is counted for every four bytes.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

from spend.counting.token_cache import CountCache

if TYPE_CHECKING:
    from bpe_openai import Encoding

T = TypeVar("T")

O200K: Final = "o200k_base"
CL100K: Final = "cl100k_base"
CLAUDE: Final = "claude_estimate"
OTHER: Final = "cl100k_estimate"

BYTES_PER_TOKEN: Final = 4
TEXT_CHARS_MAX: Final = 2**20
PIECE_CHARS: Final = 2**14
"""The encoder holds the interpreter's lock: half a millisecond a piece, and others may go on."""
INLINE_CHARS_MAX: Final = 4_096
"""A tenth of a millisecond of prose, three times what it costs to hand it to a thread."""
WAITING_MAX: Final = 256
SEAM_CHARS: Final = 512
"""So far back from a piece's end a place to cut is looked for."""
ALPHABET_CHARS_PER_TOKEN: Final = 8
MODEL_CHARS_MAX: Final = 255

assert SEAM_CHARS < PIECE_CHARS < TEXT_CHARS_MAX

_O200K_MODELS: Final = re.compile(
    r"(chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-5(\.\d+)?|gpt-oss|gpt-audio|gpt-realtime"
    r"|codex-mini|o[134])(?![a-z0-9.])"
)
_CL100K_MODELS: Final = re.compile(
    r"(gpt-4|gpt-3\.5|gpt-35|text-embedding-3|text-embedding-ada-002|davinci-002|babbage-002)"
    r"(?![a-z0-9.])"
)
# Both encodings split a text here whatever surrounds it: before a space that follows no space,
# after a line's end that a word follows, and before a sign that follows a word.
_SEAM: Final = re.compile(
    r"(?<=\S)(?= )|(?<=\n)(?=[^\W_])|(?<=[^\W_])(?=[.,;:!?()\[\]{}\"<>=，。、；：！？（）])"
)
_WORDS: Final = re.compile(r" ?[^\W\d_]+| ?\d{1,3}| ?[^\w\s]+|_+|\s+")
_OTHER_ALPHABETS: Final = re.compile(r"[\u0370-\u1fff]")

_loading: Final = Lock()
_known: Final = CountCache()


@dataclass(frozen=True, slots=True)
class Count:
    """How many tokens, by which tokenizer, and whether the provider would count the same."""

    tokens: int
    is_exact: bool
    tokenizer: str


def tokenizer_of(model: str) -> str:
    """Return what counts for a model, which may be named with its provider or as a fine-tune."""
    name = model[:MODEL_CHARS_MAX].lower().rpartition("/")[2]
    name = name.removeprefix("ft:").removeprefix("openai.")
    if _O200K_MODELS.match(name):
        return O200K
    if _CL100K_MODELS.match(name):
        return CL100K
    return CLAUDE if "claude" in name else OTHER


def count_text(*, text: str, model: str) -> Count:
    """Return how many tokens the text has; what looks like a special token is plain text."""
    return count_by(tokenizer_of(model), text)


def count_by(tokenizer: str, text: str) -> Count:
    """Return how many tokens one of the tokenizers above counts."""
    counted = text[:TEXT_CHARS_MAX]
    tokens, is_exact = _known.get(
        tokenizer=tokenizer, text=counted, count=lambda text: _count(tokenizer, text)
    )
    if len(text) > TEXT_CHARS_MAX:
        tokens, is_exact = tokens + of_bytes(_bytes_of(text[TEXT_CHARS_MAX:])), False
    return Count(tokens, is_exact, tokenizer)


def of_bytes(number: int) -> int:
    """Return the tokens of text that is not looked at: one for every four bytes, rounded up."""
    return -(-number // BYTES_PER_TOKEN)


def is_loaded(tokenizer: str) -> bool:
    """Return whether counting can begin at once; loading takes half a second, once a process."""
    return _encoding_name(tokenizer) in _loaded


async def aside(*, count: Callable[[], T], chars: int, model: str, otherwise: T) -> T:
    """
    Return what ``count`` counts, without keeping the event loop from its work: what is short is
    counted here, the rest in a thread, and ``otherwise`` is told where too many wait for that.
    """
    if chars <= INLINE_CHARS_MAX and is_loaded(tokenizer_of(model)):
        return count()
    if _waiting.full():
        return otherwise
    with _waiting:
        return await asyncio.get_running_loop().run_in_executor(_counter, count)


class _Waiting:
    """How many counts the thread has before it."""

    def __init__(self, *, at_most: int) -> None:
        self._at_most = at_most
        self._number = 0

    def full(self) -> bool:
        return self._number >= self._at_most

    def __enter__(self) -> None:
        self._number += 1

    def __exit__(self, *_: object) -> None:
        self._number -= 1


# One thread: the encoder holds the interpreter's lock, so a second would gain nothing.
_counter: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokens")
_waiting: Final = _Waiting(at_most=WAITING_MAX)


def _bytes_of(text: str) -> int:
    return len(text.encode(errors="replace"))


def _count(tokenizer: str, text: str) -> tuple[int, bool]:
    is_exact = tokenizer in {O200K, CL100K}
    encoding = _encoding(_encoding_name(tokenizer))
    tokens = 0
    for piece, is_at_seam in pieces(text):
        tokens += _claude(encoding, piece) if tokenizer == CLAUDE else _encoded(encoding, piece)
        is_exact = is_exact and is_at_seam
    return tokens, is_exact


def _claude(encoding: "Encoding", piece: str) -> int:
    words = len(_WORDS.findall(piece))
    letters = len(_OTHER_ALPHABETS.findall(piece))
    return max(_encoded(encoding, piece), words) + letters // ALPHABET_CHARS_PER_TOKEN


def _encoded(encoding: "Encoding", piece: str) -> int:
    return len(encoding.encode_ordinary(piece))


def pieces(text: str, *, chars: int = PIECE_CHARS) -> Iterator[tuple[str, bool]]:
    """Yield the text in pieces, each with whether it ends where the encodings end a token."""
    start = 0
    while len(text) - start > chars:
        end = _last_seam(text, start + 1, start + chars)
        yield text[start : end or start + chars], end is not None
        start = end or start + chars
    yield text[start:], True


def _last_seam(text: str, start: int, end: int) -> int | None:
    found = None
    for seam in _SEAM.finditer(text, max(start, end - SEAM_CHARS), end):
        found = seam.start()
    return found


def _encoding_name(tokenizer: str) -> str:
    return O200K if tokenizer == O200K else CL100K


_loaded: Final[dict[str, "Encoding"]] = {}


def _encoding(name: str) -> "Encoding":
    """Return an encoding, loaded once, however many threads ask."""
    if (encoding := _loaded.get(name)) is not None:
        return encoding
    with _loading:
        if name not in _loaded:
            # Its import reads the tables of tokens.
            from bpe_openai import get_encoding

            _loaded[name] = get_encoding(name)
        return _loaded[name]
