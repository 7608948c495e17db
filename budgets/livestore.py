"""
The gateway's side of the live store: reserve, settle, release, load.

The rules are those of the protocol (docs/explanation/live-store.md). One :class:`LiveStore` per
gateway process; it keeps every event in memory until the ledger has it.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from budgets import scripts
from budgets.contexts import Context
from budgets.errors import (
    BudgetBusy,
    BudgetExceeded,
    CountersMissing,
    OutcomeUnknown,
    ReservationEnded,
    StaleContext,
    StoreClosed,
    StoreFull,
)
from budgets.money import Units
from budgets.store_connection import ReplyError, StoreConnection
from budgets.unconfirmed import Event, Unconfirmed

log = logging.getLogger(__name__)

STREAM_EVENTS_MAX: Final = 1_000_000
UNRECORDED_EVENTS_MAX: Final = 2_000
"""More events than this above the recorded position, and loading a counter waits."""
COUNTER_IDLE_MS: Final = 7 * 24 * 3_600 * 1_000
TOMBSTONE_MS: Final = 120_000
SETTLE_TRIES_AT_ONCE: Final = 3
RESEND_FAILURES_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """What a limit's counter holds right after an admission."""

    spent: Units
    reserved: Units


@dataclass(frozen=True, slots=True)
class Admission:
    """A request was admitted: when, by the store's clock, and how its limits stand after it."""

    admitted_ms: int
    standings: tuple[Standing, ...]


@dataclass(frozen=True, slots=True)
class LedgerTotal:
    """What one Postgres snapshot says of an account's period."""

    account: str
    start_ms: int
    end_ms: int
    spent: Units
    generation: int
    position: str
    revision: int


class LiveStore:
    def __init__(self, *, connection: StoreConnection, member: str, timeout_ms: int) -> None:
        assert 2 * timeout_ms < TOMBSTONE_MS, "a tombstone must outlive any late packet"
        self._connection = connection
        self._member = member
        self._timeout_ms = timeout_ms
        self._clock_offset_ms: float | None = None
        self.generation = 0
        self.unconfirmed = Unconfirmed()

    async def reserve(
        self, *, id: str, amount: Units, context: Context, seconds: int, orphan: bytes
    ) -> Admission:
        """
        Reserve ``amount`` on every account of the path, or on none; twice under one id is once.

        ``orphan`` is what will be recorded if nobody settles within ``seconds``.

        :raises BudgetExceeded: if what is already spent leaves no room for ``amount``
        :raises BudgetBusy: if there would be room, were other requests not in flight
        :raises StaleContext: if the context is no longer the one that applies
        :raises CountersMissing: if counters must be loaded first
        :raises ReservationEnded: if that id was ended before
        :raises StoreUnavailable: if the store is closed or full, or did not answer
        """
        assert amount >= 0, "a reservation is never negative"
        words: list[str | bytes] = [
            str(self.generation), await self._not_after(), str(STREAM_EVENTS_MAX), id, str(amount),
            str(seconds * 1_000), self._member, context.path_text(), orphan,
            str(context.organization_id), str(context.organization_version),
            str(context.global_version), str(context.valid_from_ms), str(context.valid_until_ms),
        ]  # fmt: skip
        for limit in context.limits:
            period = limit.period
            words += [limit.account.id.hex, f"{period.start_ms}:{period.end_ms}", str(limit.limit)]
        outcome, *detail = await self._run(scripts.RESERVE, words)
        if outcome in {b"reserved", b"again"}:
            return _admission(detail)
        raise _refusal(outcome, detail, amount)

    async def settle(self, event: Event) -> None:
        """
        Replace the reservation of that id by its true cost and emit the event, once.

        Where the outcome stays unknown the event is kept and sent again by :meth:`resend`.
        """
        self.unconfirmed.add(event)
        try:
            for _ in range(SETTLE_TRIES_AT_ONCE):
                try:
                    await self._settle_once(event)
                except OutcomeUnknown:
                    continue
                except StoreClosed:
                    break
                return
            log.warning("settle_outcome_unknown", extra={"request_id": event.id})
        finally:
            # Also on a way out that nobody foresaw: what was not settled is sent again.
            self.unconfirmed.mark_unknown(event.id)

    async def release(self, id: str, *, otherwise: Event) -> None:
        """
        End the reservation of a request that was never sent: nothing is charged.

        Where the store knows of none, it settles ``otherwise`` (at cost 0) under its id, so that
        a late packet cannot reserve.
        """
        assert otherwise.amount == 0, "what was never sent costs nothing"
        try:
            words = [str(self.generation), await self._not_after(), id, str(TOMBSTONE_MS)]
            outcome, *_ = await self._run(scripts.RELEASE, words)
        except (OutcomeUnknown, StoreClosed):
            outcome = b"unknown"
        if outcome in {b"unknown", b"late", b"closed"}:
            await self.settle(otherwise)

    async def load(self, total: LedgerTotal) -> bool:
        """
        Make a counter from its ledger total; return False if the total must be read anew.

        :raises StoreUnavailable: if the store is closed or did not answer
        """
        if total.generation != self.generation:
            if not await self.is_open():
                raise StoreClosed
            return False
        words = [
            str(self.generation), total.account, str(total.start_ms), str(total.end_ms),
            str(total.spent), total.position, str(total.revision), str(UNRECORDED_EVENTS_MAX),
            str(COUNTER_IDLE_MS),
        ]  # fmt: skip
        outcome, *_ = await self._run(scripts.LOAD, words)
        if outcome == b"closed":
            raise StoreClosed
        return outcome == b"loaded"

    async def resend(self) -> None:
        """Send again what had an unknown outcome, and forget what the ledger has."""
        failures = 0
        for event in self.unconfirmed.of_unknown_outcome():
            try:
                await self._settle_once(event)
            except StoreClosed:
                return
            except OutcomeUnknown:
                # One that always fails must not keep back those behind it.
                failures += 1
                if failures == RESEND_FAILURES_MAX:
                    return
        if not await self.is_open():
            return  # the position would be another generation's
        position = await self._connection.command("HGET", f"{scripts.TAG}mark", "position")
        if isinstance(position, bytes):
            self.unconfirmed.forget_up_to(position.decode())

    async def is_reserved(self, id: str) -> bool:
        return await self._connection.command("EXISTS", f"{scripts.TAG}r:{id}") == 1

    async def is_settled(self, id: str) -> bool:
        return await self._connection.command("EXISTS", f"{scripts.TAG}t:{id}") == 1

    async def is_open(self) -> bool:
        """Return whether the store answers and is of the generation that this process knows."""
        words = [str(self.generation)]
        try:
            return await self._run(scripts.RAISE_VERSIONS, words) == [b"raised"]
        except (OutcomeUnknown, ReplyError):
            return False

    async def now_ms(self) -> int:
        """
        Return the time by the store's clock.

        :raises OutcomeUnknown: if the store did not answer
        """
        return int(await self._not_after()) - self._timeout_ms

    async def close(self) -> None:
        await self._connection.close()

    async def _settle_once(self, event: Event) -> None:
        words: list[str | bytes] = [
            str(self.generation), await self._not_after(), event.id, str(event.amount),
            str(event.admitted_ms), event.path, event.payload, str(TOMBSTONE_MS),
        ]  # fmt: skip
        outcome, *detail = await self._run(scripts.SETTLE, words)
        if outcome == b"closed":
            raise StoreClosed
        if outcome == b"late":
            raise OutcomeUnknown("the packet came late")
        entry, position = (part.decode() for part in detail)
        self.unconfirmed.settled(event.id, entry=entry)
        self.unconfirmed.forget_up_to(position)

    async def _run(self, script: scripts.Script, words: Sequence[str | bytes]) -> list[bytes]:
        try:
            reply = await self._connection.run(script, key=scripts.TAG, arguments=words)
        except ReplyError as error:
            log.exception("store_script_failed")
            raise OutcomeUnknown("the live store refused a script") from error
        except OutcomeUnknown:
            self._clock_offset_ms = None
            raise
        if reply[0] == b"late":
            # Our idea of the store's clock may be what is wrong: ask it anew.
            self._clock_offset_ms = None
        return reply

    async def _not_after(self) -> str:
        """Return until when a packet sent now may still count, by the store's clock, in ms."""
        if self._clock_offset_ms is None:
            reply = await self._connection.command("TIME")
            assert isinstance(reply, list)
            store_ms = int(reply[0]) * 1_000 + int(reply[1]) / 1_000
            self._clock_offset_ms = store_ms - time.monotonic() * 1_000
        return str(int(time.monotonic() * 1_000 + self._clock_offset_ms) + self._timeout_ms)


def _admission(detail: Sequence[bytes]) -> Admission:
    admitted, *counters = (int(part) for part in detail)
    pairs = zip(counters[::2], counters[1::2], strict=True)
    return Admission(admitted, tuple(Standing(Units(s), Units(r)) for s, r in pairs))


def _refusal(outcome: bytes, detail: Sequence[bytes], needed: Units) -> Exception:
    if outcome in {b"exceeded", b"busy"}:
        index, spent, reserved = (int(part) for part in detail)
        kind = BudgetExceeded if outcome == b"exceeded" else BudgetBusy
        return kind(limit_index=index, spent=Units(spent), reserved=Units(reserved), needed=needed)
    if outcome == b"missing":
        return CountersMissing([int(part) for part in detail])
    return _REFUSALS[outcome]()


_REFUSALS: Final[dict[bytes, type[Exception]]] = {
    b"stale": StaleContext,
    b"ended": ReservationEnded,
    b"late": OutcomeUnknown,
    b"full": StoreFull,
    b"closed": StoreClosed,
}
