"""
The gateway's side of the live store: reserve, settle, release, load.

The rules are those of the protocol (docs/explanation/live-store.md). One :class:`LiveStore` per
gateway process; it keeps every event in memory until the ledger has it.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from django.conf import settings

from budgets import failpoints, scripts
from budgets.contexts import Context
from budgets.errors import OutcomeUnknown, StoreClosed
from budgets.money import Units
from budgets.reservations import Admission, Demand, Hold, Look
from budgets.store_answers import admission_of, look_of, refusal_of
from budgets.store_interface import ReplyError, Store
from budgets.unconfirmed import Event, Unconfirmed

log = logging.getLogger(__name__)

STREAM_EVENTS_MAX: Final = 1_000_000
UNRECORDED_EVENTS_MAX: Final = 2_000
"""More events than this above the recorded position, and loading a counter waits."""
COUNTER_IDLE_MS: Final = 7 * 24 * 3_600 * 1_000
TOMBSTONE_MS: Final = 120_000
SETTLE_TRIES_AT_ONCE: Final = 3
RESEND_FAILURES_MAX: Final = 3
CLOCK_SECONDS: Final = 60.0
"""How long an idea of the store's clock is kept."""
JOIN_CHUNK: Final = 500


Recorded = Callable[[Sequence[str]], Awaitable[Collection[str]]]
"""Tells which of these requests the ledger has a row of, an orphan's or the true one."""


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
    def __init__(self, *, connection: Store, member: str, timeout_ms: int) -> None:
        assert 2 * timeout_ms < TOMBSTONE_MS, "a tombstone must outlive any late packet"
        self._connection = connection
        self._member = member
        self._timeout_ms = timeout_ms
        self._clock_offset_ms: float | None = None
        self._clock_asked_at = 0.0
        self.generation = 0
        self.unconfirmed = Unconfirmed()
        self.holds: dict[str, Hold] = {}

    async def reserve(self, demand: Demand, *, context: Context) -> Admission:
        """
        Reserve on every account of the path, or on none; twice under one id is once.

        :raises LimitReached: if a limit of the path has no room, in one of its four kinds
        :raises StaleContext: if the context is no longer the one that applies
        :raises CountersMissing: if counters must be loaded first
        :raises ReservationEnded: if that id was ended before
        :raises StoreUnavailable: if the store is closed or full, or did not answer
        """
        assert demand.id, "without an id nothing is reserved"
        detail = await self._ask_to_reserve(demand, context)
        failpoints.hit(failpoints.AFTER_RESERVE)
        admission = admission_of(detail)
        self.holds[demand.id] = Hold(demand, admission, context.path_text)
        return admission

    async def look(self, demand: Demand, *, context: Context) -> Look:
        """
        Return what :meth:`reserve` would say to the same demand now; nothing is held or counted.

        :raises StaleContext: if the context is no longer the one that applies
        :raises CountersMissing: if counters must be loaded first
        :raises StoreUnavailable: if the store is closed or full, or did not answer
        """
        return look_of(await self._ask_to_reserve(replace(demand, id=""), context))

    async def _ask_to_reserve(self, demand: Demand, context: Context) -> list[bytes]:
        assert demand.ceiling >= demand.prior >= 0, "a reservation is never negative"
        not_after, generation = await self._not_after(), self.generation
        words: list[str | bytes] = [
            str(generation), not_after, str(STREAM_EVENTS_MAX), demand.id,
            str(demand.ceiling), str(demand.prior), str(demand.seconds * 1_000), self._member,
            context.path_text, demand.orphan, str(context.organization_id),
            str(context.organization_version), str(context.global_version),
            str(context.valid_from_ms), str(context.valid_until_ms), str(demand.tokens),
            demand.learnt_under,
        ]  # fmt: skip
        words += context.limit_words
        outcome, *detail = await self._run(scripts.RESERVE, words)
        if outcome == b"stale":
            # It may be our idea of the store's clock that is: ask it anew.
            self._clock_offset_ms = None
        if outcome not in {b"reserved", b"again", b"looked"}:
            raise refusal_of(outcome, detail)
        if generation != self.generation:
            raise StoreClosed  # it was reserved in a store that has been lost since
        return detail

    def hold_unasked(self, demand: Demand, *, context: Context, admitted_ms: int) -> Admission:
        """Hold in memory alone what the store could not be asked for; it is told on its return."""
        admission = Admission(admitted_ms, demand.ceiling, demand.ceiling)
        self.holds[demand.id] = Hold(demand, admission, context.path_text)
        return admission

    async def settle(self, event: Event) -> None:
        """
        Replace the reservation of that id by its true cost and emit the event, once.

        Where the outcome stays unknown the event is kept and sent again by :meth:`resend`.
        """
        self.unconfirmed.add(event)
        self.holds.pop(event.id, None)
        failpoints.hit(failpoints.BEFORE_SETTLE)
        try:
            for _ in range(SETTLE_TRIES_AT_ONCE):
                try:
                    await self._settle_once(event)
                except OutcomeUnknown:
                    continue
                except StoreClosed:
                    break
                failpoints.hit(failpoints.AFTER_SETTLE)
                return
            log.warning("settle_outcome_unknown", extra={"request_id": event.id})
        finally:
            # Also on a way out that nobody foresaw: what was not settled is sent again.
            self.unconfirmed.mark_unknown(event.id)

    def settle_later(self, event: Event) -> None:
        """Keep an event for :meth:`resend`: the store was away when its request was admitted."""
        self.unconfirmed.add(event)
        self.unconfirmed.mark_unknown(event.id)
        self.holds.pop(event.id, None)

    async def is_judged(self) -> bool:
        """
        Return whether somebody watches the members now.

        :raises OutcomeUnknown: if the store did not answer
        """
        return await self._connection.command("EXISTS", f"{scripts.TAG}judge") == 1

    async def release(self, id: str, *, otherwise: Event) -> None:
        """
        End the reservation of a request that was never sent: nothing is charged.

        Where the store knows of none, it settles ``otherwise`` (at cost 0) under its id, so that
        a late packet cannot reserve.
        """
        assert otherwise.amount == 0, "what was never sent costs nothing"
        self.holds.pop(id, None)
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
        outcome, *_ = await self._run_open(scripts.LOAD, words)
        return outcome == b"loaded"

    async def load_in_flight(self, account: UUID) -> None:
        """
        Count the requests that an account has in flight, from the open reservations.

        :raises StoreUnavailable: if the store is closed or did not answer
        """
        words = [str(self.generation), account.hex, "", "", "0", "0-0", "0", "0"]
        await self._run_open(scripts.LOAD, [*words, str(COUNTER_IDLE_MS)])

    async def join(self, *, generation: int, settled: Recorded, recorded: Recorded) -> None:
        """
        Hand in, to a store that is being rebuilt, all that this process holds: what is in flight
        and not ``recorded`` in the ledger, then events that are not ``settled`` there; and drop
        what is not in flight any more.

        :raises StoreUnavailable: if the store did not take it all; to be tried again
        """
        self.generation = generation
        self.unconfirmed.begin_generation()
        began_ms = await self.now_ms()
        for ids in _chunks(list(self.holds)):
            # What was taken for an orphan is charged already; its true cost will replace that.
            charged = await recorded(ids)
            await self._hold_again([id for id in ids if id not in charged])
        events = {event.id: event for event in self.unconfirmed.of_unknown_outcome()}
        for ids in _chunks(list(events)):
            done = await settled(ids)
            self.unconfirmed.forget(done)
            for id in ids:
                if id not in done:
                    await self._settle_once(events[id])
        words = [str(generation), self._member, str(began_ms), *self.holds]
        await self._run_open(scripts.DROP_OTHERS, words)

    async def _hold_again(self, ids: Sequence[str]) -> None:
        for id in ids:
            if (hold := self.holds.get(id)) is not None:
                words = [str(self.generation), id, *hold.words(member=self._member)]
                await self._run_open(scripts.HOLD_AGAIN, words)

    async def resend(self) -> None:
        """Send again what had an unknown outcome, and forget what the ledger has."""
        if time.monotonic() - self._clock_asked_at > CLOCK_SECONDS:
            self._clock_offset_ms = None
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
        outcome, *detail = await self._run(scripts.POSITION, [str(self.generation)])
        if outcome == b"position":
            self.unconfirmed.forget_up_to(detail[0].decode())

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
        not_after, generation = await self._not_after(), self.generation
        words: list[str | bytes] = [
            str(generation), not_after, event.id, str(event.amount), str(event.admitted_ms),
            event.path, event.payload, str(TOMBSTONE_MS), str(event.tokens), event.learnt_under,
        ]  # fmt: skip
        outcome, *detail = await self._run_open(scripts.SETTLE, words)
        if outcome == b"late":
            raise OutcomeUnknown("the packet came late")
        if generation != self.generation:
            raise OutcomeUnknown("it was settled in a store that has been lost since")
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

    async def _run_open(self, script: scripts.Script, words: Sequence[str | bytes]) -> list[bytes]:
        """:raises StoreClosed: if the store is not the one that this process knows"""
        reply = await self._run(script, words)
        if reply[0] == b"closed":
            raise StoreClosed
        return reply

    async def _not_after(self) -> str:
        """Return until when a packet sent now may still count, by the store's clock, in ms."""
        if self._clock_offset_ms is None:
            reply = await self._connection.command("TIME")
            assert isinstance(reply, list)
            store_ms = int(reply[0]) * 1_000 + int(reply[1]) / 1_000
            store_ms += settings.STORE_CLOCK_OFFSET_MS
            self._clock_asked_at = time.monotonic()
            self._clock_offset_ms = store_ms - time.monotonic() * 1_000
        return str(int(time.monotonic() * 1_000 + self._clock_offset_ms) + self._timeout_ms)


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), JOIN_CHUNK):
        yield ids[start : start + JOIN_CHUNK]
