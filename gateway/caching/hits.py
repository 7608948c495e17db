"""
An answer that is given again: it passes the gate like any other, and costs nothing or a share.

Key, lists and limits are checked by the same reserve, and it is settled as a row of its own. On
its path are no provider and no deployment: nothing is sent there. What cannot be given again, or
not to this caller, is a miss, and the request goes its usual way.
"""

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from django.conf import settings

from budgets import money
from budgets.money import EXACT, AmountTooLarge, Units
from budgets.snapshots import KeySnapshot
from gateway import admission, applicants, metrics, reply_headers
from gateway.admission import Candidate, Held
from gateway.applicants import Applicant, Known
from gateway.caching.entries import Entry
from gateway.caching.replay import Replay
from gateway.caching.store import CacheAway
from gateway.counters import with_counters
from gateway.errors import GatewayError
from gateway.metrics import Flight
from gateway.offers import PERCENT, Offer
from gateway.process import GatewayProcess
from gateway.reply import Reply
from gateway.routing import tags
from gateway.routing.strategies import Why
from spend import events, pricing
from spend.events import Outcome

HIT, MISS, OFF = "hit", "miss", "off"
STATUS: Final = 200


class Missed(Exception):
    """What is kept will not do: its deployment has gone, or what it would cost is not known."""


@dataclass(frozen=True, slots=True)
class Saving:
    """What a kept answer would cost now, and what of that is charged, in the price's currency."""

    offer: Offer
    full_cost: Decimal
    charge: Decimal
    units: Units
    """The full cost in units of the organization's currency."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A kept answer that has passed the gate."""

    held: Held
    saving: Saving

    def outcome(self) -> Outcome:
        flags = {events.CACHE_HIT}
        if self.held.unasked:
            flags.add(events.UNCHECKED)
        if self.saving.offer.rate.is_stale:
            flags.add(events.RATE_STALE)
        return Outcome(
            status=STATUS,
            cost=self.saving.charge,
            usage={},
            flags=tuple(sorted(flags)),
            settled_at=datetime.now(UTC),
            saved_units=self.saving.units,
        )


def is_looked_up(applicant: Applicant) -> bool:
    return applicant.slot is not None and applicant.slot.controls.reads


async def answer(
    applicant: Applicant, *, snapshot: KeySnapshot, process: GatewayProcess, flight: Flight
) -> Reply | None:
    """
    Return the answer that is kept, admitted and settled; None where there is none that will do.

    :raises GatewayError: if the request may not have it: it may have no other, either
    :raises StoreUnavailable: if the live store could not be asked
    """
    entry = await _find(applicant, process)
    if entry is None:
        return None
    try:
        hit = await _admit(applicant, entry, snapshot, process)
    except Missed:
        metrics.cache_looked_up(MISS)
        return None
    flight.admitted()
    metrics.cache_looked_up(HIT)
    outcome = hit.outcome()
    await admission.settle(hit.held, hit.held.event(outcome), process)
    return _reply(applicant, entry, hit, outcome)


async def _find(applicant: Applicant, process: GatewayProcess) -> Entry | None:
    """Return what is kept and young enough; what is not is counted as a miss."""
    slot = applicant.slot
    assert slot is not None, "it is asked first whether this is looked up"
    assert process.cache is not None, "there is no slot without a cache"
    try:
        entry = await process.cache.find(slot.key)
    except CacheAway:
        metrics.cache_looked_up(metrics.AWAY)
        return None
    age_max = slot.controls.age_seconds_max
    is_too_old = age_max is not None and entry and entry.age_seconds(now_ms=_now_ms()) > age_max
    if entry is None or is_too_old:
        metrics.cache_looked_up(MISS)
        return None
    return entry


async def _admit(
    applicant: Applicant, entry: Entry, snapshot: KeySnapshot, process: GatewayProcess
) -> Hit:
    """
    :raises GatewayError: why it may not, in words for the caller
    :raises Missed: if the entry will not do
    """

    async def make(known: Known) -> tuple[Candidate, Saving]:
        saving = await _saving(applicant, entry, known, process)
        return await admission.candidate_for(applicant, saving.offer, known, process), saving

    async def reserve(made: tuple[Candidate, Saving], until: float) -> Hit:
        candidate, saving = made
        reserved = await with_counters(
            candidate.context, until, process, lambda: admission.reserve(candidate, process)
        )
        return Hit(Held(applicant.request_id, candidate, reserved, Why.CACHE), saving)

    return await admission.on_newest(applicant.secret, snapshot, process, make=make, use=reserve)


async def _saving(
    applicant: Applicant, entry: Entry, known: Known, process: GatewayProcess
) -> Saving:
    """
    Return what the answer would cost at the deployment that gave it, by the price of now.

    :raises GatewayError: if the key may not, or there is no such model
    :raises Missed: if that deployment is not one of the model's any more, or has no price
    """
    group = await applicants.deployments_for(applicant, known, process)
    fitting = tags.fitting(group, tags=applicant.asked.tags)
    target = next((each for each in fitting if entry.is_of(each)), None)
    if target is None or entry.organization_id != known.snapshot.organization_id:
        raise Missed
    try:
        offer = applicants.offer_at(target, applicant, known)
        tier, _ = offer.price.tier_of(served=entry.conditions.service_tier)
        conditions = entry.conditions._replace(service_tier=tier)
        cost = pricing.cost(price=offer.price, usage=entry.usage, conditions=conditions).amount
        units = offer.units_of(cost)
    except (GatewayError, AmountTooLarge) as error:
        raise Missed from error
    charge = EXACT.multiply(cost, settings.RESPONSE_CACHE_HIT_PERCENT * PERCENT)
    return Saving(replace(offer, ceiling=charge, prior=charge, is_hit=True), cost, charge, units)


def _reply(applicant: Applicant, entry: Entry, hit: Hit, outcome: Outcome) -> Reply:
    assert applicant.slot is not None, "that is how it was found"
    headers = (
        {"content-type": entry.content_type}
        | reply_headers.of_cost(hit.held, outcome)
        | reply_headers.of_attempts(0, fallback=None)
        | {
            "x-costplatform-cache": HIT,
            "x-costplatform-saved": money.plain(hit.saving.full_cost),
            "x-litellm-cache-key": applicant.slot.key,
            "age": str(entry.age_seconds(now_ms=_now_ms())),
        }
    )
    if not entry.is_stream:
        return Reply(STATUS, headers, entry.body)
    body = entry.without_usage() if applicant.asked.hides_usage else entry.body
    in_events = entry.content_type.startswith("text/event-stream")
    return Reply(STATUS, headers, stream=Replay(body, in_events=in_events))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
