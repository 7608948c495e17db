"""
The streams that were begun for a request which Django serves.

Django drops a response whose client has gone before it began, and nothing in the response runs
then. So its streams are kept beside it, and are closed when the request is over.
"""

from typing import Final, Protocol

BEGUN: Final = "costplatform.begun"
"""Under this name a request's scope holds them."""


class LetsGo(Protocol):
    def let_go(self) -> None: ...


class Begun:
    def __init__(self) -> None:
        self._streams: list[LetsGo] = []
        self._is_over = False

    def add(self, stream: LetsGo) -> None:
        """Keep a stream; one that comes after the end is closed at once."""
        self._streams.append(stream)
        if self._is_over:
            self.end()

    def end(self) -> None:
        """Close what was not read to its end."""
        self._is_over = True
        for stream in self._streams:
            stream.let_go()
