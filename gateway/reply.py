"""What a door sends, wherever it comes from."""

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)
class Reply:
    """What a door sends: a body, or a stream that must be closed if it is not read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    stream: "Streamed | None" = field(default=None)


class Streamed(Protocol):
    """What a door reads piece by piece, and closes wherever it ends."""

    when_settled: Callable[[Collection[str]], None]
    """Called once with the flags of its event: nothing of its answer counts any more."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """End it wherever it is."""

    def let_go(self) -> None:
        """Close it soon."""
