"""The sandbox's own count of what it was asked and what it did, to hold a ledger against."""

import asyncio
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path


@dataclass
class Counts:
    accepted: int = 0
    completed: int = 0
    cancelled: int = 0


@dataclass(kw_only=True)
class Entry:
    """One accepted request, from its first line in the log to its second."""

    journal: "Journal"
    counts: Counts
    names: dict[str, object]
    completion_tokens: int = 0
    characters: int = 0
    usage: object = None
    ended: bool = field(default=False, init=False)

    def end(self, *, completed: bool = False, cancelled: bool = False) -> None:
        """Write the second line; only the first call does."""
        if self.ended:
            return
        self.ended = True
        self.counts.completed += completed
        self.counts.cancelled += cancelled
        produced = {
            "completion_tokens": self.completion_tokens,
            "characters": self.characters,
            "usage": self.usage,
        }
        how = {"cancelled": cancelled, "completed": completed}
        self.journal.write("end", self.names | produced | how)


class Journal:
    """Counts in memory and, where it has a log, appends a line per event to it."""

    def __init__(self, log: Path | None = None) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._file = None if log is None else os.open(log, flags, 0o600)
        self._disk = None if self._file is None else Disk(self._file)
        self.counts = Counts()

    async def accept(
        self,
        *,
        reply_id: str,
        request_id: str,
        model: str,
        stream: bool,
        marker: str | None,
    ) -> Entry:
        """
        Write a request's first line and return once the disk has it.

        :raises OSError: if the log cannot take it; the request must not be answered then
        """
        names: dict[str, object] = {"id": reply_id, "request_id": request_id}
        self.write("accepted", names | {"model": model, "stream": stream, "marker": marker})
        await self._settled()
        self.counts.accepted += 1
        return Entry(journal=self, counts=self.counts, names=names)

    async def refuse(self, *, request_id: str, model: str, status: int, marker: str | None) -> None:
        """Write the only line of a request that its script turned away; it is not accepted."""
        line = {"request_id": request_id, "model": model, "status": status, "marker": marker}
        self.write("refused", line)
        await self._settled()

    def reset(self) -> None:
        """Start counting at zero; what is under way ends in the old count."""
        self.counts = Counts()

    def write(self, event: str, line: dict[str, object]) -> None:
        if self._file is None:
            return
        stamped = {"event": event, "at": datetime.now(UTC).isoformat()} | line
        data = json.dumps(stamped).encode() + b"\n"
        # One write to a file opened for appending: lines of several processes never mix.
        if os.write(self._file, data) != len(data):
            message = "the log took only a part of a line"
            raise OSError(message)

    async def _settled(self) -> None:
        if self._disk is not None:
            await self._disk.settled()


class Disk:
    """Flushes a file in a thread; requests that wait at the same time share one flush."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._waiting: list[asyncio.Future[None]] = []
        self._flusher: asyncio.Task[None] | None = None

    async def settled(self) -> None:
        """Return once everything written before the call is on the disk."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        await waiter

    async def _flush(self) -> None:
        while self._waiting:
            waiters, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(os.fsync, self._file)
            except OSError as error:
                _release(waiters, error)
            else:
                _release(waiters, None)


def _release(waiters: list[asyncio.Future[None]], error: OSError | None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
