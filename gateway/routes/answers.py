"""How the answers of a route are read: their usage, and what was written in them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from gateway.written import Written
from spend.usage import Reading
from spend.usage.streams import LastTold

Json = Mapping[str, Any]


class Told(NamedTuple):
    """What one event of a stream says of its course."""

    is_whole: bool | None = None
    """Whether the usage told so far is all of it; None: as before."""
    is_last: bool = False
    """Nothing that matters comes after it."""
    only_usage: bool = False
    """It carries usage and nothing else."""
    tells_usage: bool = True
    """It may tell something of the usage."""


CONTENT = Told(is_whole=False, tells_usage=False)
"""A piece of the answer itself."""
GOES_ON = Told(is_whole=False)
SAYS_NOTHING = Told()
ENDS = Told(is_whole=True, is_last=True)


class StreamUsage(Protocol):
    """Reads the events of one stream (spend/usage)."""

    def add(self, event: object) -> None: ...

    def reading(self) -> Reading | None: ...


class Answers(ABC):
    """
    Answers that are JSON, are not streamed, and tell their usage or nothing of it; each route has
    a class that says what differs.
    """

    @abstractmethod
    def read(self, reply: Json, *, request: Json) -> Reading | None:
        """Return the usage of a whole answer, None if it tells none."""

    def read_opaque(self, body: bytes, *, request: Json, written: Written) -> Reading | None:
        """Return the usage of an answer that is no JSON object, or take what was written in it."""
        written.add_unread(body)
        return None

    def stream(self, request: Json) -> StreamUsage:
        """Return a reader of the usage of a stream, which may come where none was asked for."""
        return LastTold(self.read, request=request)

    def note(self, reply: Json, written: Written) -> None:  # noqa: B027  # most write no text
        """Take what was written in a whole answer that tells no usage."""

    def is_content(self, data: bytes) -> bool:
        """
        Return whether an event before the usage is a piece of the answer, and says no more: it is
        read only if the usage never comes. In doubt it is not.
        """
        return False

    def note_event(self, event: Json, written: Written) -> Told:
        """Take what was written in an event; return what it says of the stream's course."""
        return SAYS_NOTHING

    @abstractmethod
    def count_prompt(self, request: Json, *, model: str) -> int:
        """Return the tokens of a prompt whose usage nobody tells."""
