"""The gateway's memory of events that the ledger does not have yet."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from budgets import store_answers
from budgets.money import Units


@dataclass(frozen=True, slots=True)
class Event:
    """A settled request as the live store takes it; ``payload`` is opaque to it."""

    id: str
    amount: Units
    admitted_ms: int
    path: str
    payload: bytes
    tokens: int = 0
    learnt_under: str = ""
    """What such requests cost is learnt under this name; empty: this one teaches nothing."""
    is_unsent: bool = False
    """It ends a reservation that was never used, and costs nothing."""


class Unconfirmed:
    """
    Keeps an event from before its first settle until the recorded position has passed it.

    Events are settled nearly in the order of their stream ids, so forgetting looks at the oldest
    first and stops at the first that is newer than the position.
    """

    def __init__(self) -> None:
        self._sending: dict[str, Event] = {}
        self._unknown: dict[str, Event] = {}
        self._settled: dict[str, tuple[tuple[int, int], Event]] = {}

    def __len__(self) -> int:
        return len(self._sending) + len(self._unknown) + len(self._settled)

    def __iter__(self) -> Iterator[Event]:
        yield from self._sending.values()
        yield from self._unknown.values()
        yield from (event for _, event in self._settled.values())

    def add(self, event: Event) -> None:
        self._sending[event.id] = event

    def mark_unknown(self, id: str) -> None:
        if (event := self._sending.pop(id, None)) is not None:
            self._unknown[id] = event

    def holds_money(self) -> bool:
        """Return whether anything is kept that would be missing from a ledger without it."""
        return any(not event.is_unsent for event in self)

    def begin_generation(self) -> None:
        """Take nothing for granted any more: everything is sent again."""
        everything = {event.id: event for event in self}
        self._sending, self._settled = {}, {}
        self._unknown = everything

    def settled(self, id: str, *, entry: str) -> None:
        event = self._sending.pop(id, None) or self._unknown.pop(id, None)
        if event is not None:
            self._settled[id] = (store_answers.order_of(entry), event)

    def forget(self, ids: Iterable[str]) -> None:
        """Drop events that the ledger has, whatever became of them in the live store."""
        for id in ids:
            self._unknown.pop(id, None)
            self._settled.pop(id, None)

    def of_unknown_outcome(self) -> list[Event]:
        return list(self._unknown.values())

    def forget_up_to(self, position: str) -> None:
        """Drop every event whose stream entry the ledger has."""
        recorded = store_answers.order_of(position)
        while self._settled:
            id, (entry, _) = next(iter(self._settled.items()))
            if entry > recorded:
                return
            del self._settled[id]
