"""How the server says that a client has gone, without a task that waits for it."""

from collections.abc import Callable
from typing import Final

EXTENSION: Final = "costplatform.departure"
"""Under this name a :class:`Departure` is in the extensions of a request's scope."""


class Departure:
    __slots__ = ("_call", "_has_happened")

    def __init__(self) -> None:
        self._call: Callable[[], object] | None = None
        self._has_happened = False

    def call(self, call: Callable[[], object] | None) -> None:
        """Have this called when the client goes, or has gone; None calls nobody any more."""
        self._call = call
        if self._has_happened:
            self.happened()

    def happened(self) -> None:
        self._has_happened = True
        if self._call is not None:
            self._call()
