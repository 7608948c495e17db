"""
May this request spend? Reserve what it can cost, and what it is expected to, on every account of
its path.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeVar

from django.conf import settings

from budgets import periods
from budgets.contexts import Context, Limit, LimitKind, PathAccount, Terms
from budgets.errors import (
    LimitReached,
    OutcomeUnknown,
    ReservationEnded,
    StaleContext,
    StoreClosed,
    StoreUnavailable,
)
from budgets.models import AccountKind, Enforcement
from budgets.money import Units
from budgets.reservations import BATCH_SECONDS, Admission, Demand
from budgets.snapshots import KeySnapshot
from budgets.unconfirmed import Event
from gateway import choosing, identity, metrics, refusals
from gateway.applicants import Applicant, Known
from gateway.catalogue import Catalogue, Target
from gateway.counters import TOO_SLOW, with_counters
from gateway.errors import (
    GatewayError,
    NoExchangeRate,
    Unavailable,
)
from gateway.offers import Offer
from gateway.process import GatewayProcess
from gateway.routes.asked import Asked
from gateway.routing.health import Trial
from gateway.routing.strategies import Choice, Why
from spend import events
from spend.events import Described, Outcome

ADMISSION_SECONDS_MAX: Final = 5.0
CLOSED_PAUSE_SECONDS: Final = 0.1
ERROR_STATUS_MIN: Final = 400
DEPLOYMENT_KINDS: Final = frozenset({AccountKind.PROVIDER, AccountKind.DEPLOYMENT})
"""Whose refusal says nothing of other deployments of the model."""
UNKNOWN_ADMISSION: Final = 0
"""The store fills in when it was: the reserve's answer never came."""

Made = TypeVar("Made")
Got = TypeVar("Got")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A request with an offer, and the limits that it must fit in: what one reserve is about."""

    id: str
    offer: Offer
    context: Context
    described: Described

    def demand(self) -> Demand:
        return Demand(
            id=self.id,
            ceiling=self.offer.ceiling_units,
            prior=self.offer.prior_units,
            tokens=self.offer.tokens,
            # What single requests cost says nothing of a batch, nor one batch of the next.
            learnt_under="" if self.offer.teaches_nothing else _learnt_under(self.context),
            seconds=BATCH_SECONDS if self.offer.is_batch else settings.GATEWAY_RESERVATION_SECONDS,
            orphan=events.encode(
                self.described,
                Outcome(status=0, cost=self.offer.ceiling, usage={}, flags=self.offer.flags),
            ),
        )

    def unsent(self) -> Event:
        """Return what ends it where nobody knows whether it was reserved: nothing was spent."""
        nothing = Outcome(status=0, cost=Decimal(0), usage={})
        return Event(
            id=self.id,
            amount=Units(0),
            admitted_ms=UNKNOWN_ADMISSION,
            path=self.context.path_text,
            payload=events.encode(self.described, nothing),
            is_unsent=True,
        )


@dataclass(frozen=True, slots=True)
class Reserved:
    """What the live store has said to a candidate."""

    admission: Admission
    unasked: bool = False
    """It was away, and requests may pass without it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A request that holds its ceiling on every account of its path."""

    request_id: str
    """What the caller knows it by."""
    candidate: Candidate
    reserved: Reserved
    why: Why
    """Why its deployment was chosen."""

    @property
    def id(self) -> str:
        """Its own id, as an attempt."""
        return self.candidate.id

    @property
    def offer(self) -> Offer:
        return self.candidate.offer

    @property
    def context(self) -> Context:
        return self.candidate.context

    @property
    def admission(self) -> Admission:
        return self.reserved.admission

    @property
    def unasked(self) -> bool:
        return self.reserved.unasked

    @property
    def held(self) -> Decimal:
        """What it has cost where nobody learns what it has: as much as is held is charged."""
        return self.offer.cost_of(self.admission.held)

    def held_in(self, limit: Limit) -> Units:
        """Return what the request holds of a limit of money."""
        if limit.enforcement == Enforcement.STRICT:
            return self.offer.ceiling_units
        return self.admission.expected

    def event(self, outcome: Outcome) -> Event:
        """Return the spend event of this request, its cost rounded once, half to even."""
        described, held = self.candidate.described, self.admission.held
        return Event(
            id=self.id,
            amount=self.offer.units_of(outcome.cost),
            admitted_ms=self.admission.admitted_ms,
            path=self.context.path_text,
            payload=events.encode(described, outcome, reserved_units=held),
            tokens=events.input_tokens(outcome.usage) + events.output_tokens(outcome.usage),
            learnt_under=_learnt_under(self.context) if _teaches(outcome) else "",
        )


@dataclass(frozen=True, slots=True)
class Admitted(Held):
    """A request that may be sent to its deployment."""

    trial: Trial
    """What its deployment's health learns from."""


async def admit(
    applicant: Applicant,
    *,
    snapshot: KeySnapshot,
    process: GatewayProcess,
    tried: Collection[str] = (),
) -> Admitted:
    """
    Reserve the most that the request can cost, at a deployment that has not been tried.

    :raises GatewayError: why it may not, in words for the caller
    :raises NoneLeft: if all deployments have been tried
    :raises StoreUnavailable: if the live store could not be asked
    """

    async def make(known: Known) -> tuple[Candidate, Choice[Target]]:
        chosen = await choosing.choose(applicant, known, process, tried=tried)
        candidate = await candidate_for(applicant, chosen.offer, known, process)
        return candidate, chosen.choice

    async def use(made: tuple[Candidate, Choice[Target]], until: float) -> Admitted:
        candidate, choice = made
        trial = process.board.of(choice.target.public_id).open(time.monotonic())
        try:
            reserved = await with_counters(
                candidate.context, until, process, lambda: reserve(candidate, process)
            )
        except BaseException:
            trial.ended()
            raise
        return Admitted(applicant.request_id, candidate, reserved, choice.why, trial)

    try:
        return await on_newest(applicant.secret, snapshot, process, make=make, use=use)
    except GatewayError as refusal:
        process.unpriced.note(refusal)
        raise


async def on_newest(
    secret: str,
    snapshot: KeySnapshot,
    process: GatewayProcess,
    *,
    make: Callable[[Known], Awaitable[Made]],
    use: Callable[[Made, float], Awaitable[Got]],
) -> Got:
    """
    Return what ``use`` makes, until when it may take, of what ``make`` makes of the newest that is
    known: read anew where the store says that it is stale, and before anything is refused by it.

    :raises GatewayError: what ``make`` or ``use`` raises, or that it has taken too long
    :raises StoreUnavailable: if the live store could not be asked
    """
    models = await process.catalogues.get()
    until = time.monotonic() + ADMISSION_SECONDS_MAX
    is_newest = False
    while time.monotonic() < until:
        now = periods.from_milliseconds(await _now_ms(process))
        try:
            made = await make(Known(snapshot, models, now))
        except GatewayError:
            # What reserve lets through it checks by version; what is refused here, we do.
            if is_newest:
                raise
            is_newest = True
            snapshot = await process.identities.recheck(secret)
            models = await process.catalogues.read_again()
            continue
        try:
            return await use(made, until)
        except StaleContext:
            snapshot = await process.identities.read_again(secret)
            models = await process.catalogues.read_again()
        except StoreClosed:
            # Lost, and about to be rebuilt: what was not reserved can be tried again.
            process.look_at_store()
            if time.monotonic() + CLOSED_PAUSE_SECONDS > until:
                raise
            await asyncio.sleep(CLOSED_PAUSE_SECONDS)
    raise Unavailable(TOO_SLOW, code="admission_timeout")


async def _now_ms(process: GatewayProcess) -> int:
    """Return the time by the store's clock; by ours only where requests may pass without it."""
    try:
        return await process.store.now_ms()
    except StoreUnavailable:
        if settings.GATEWAY_ON_STORE_FAILURE != "allow":
            raise
        return _our_time_ms()


def _our_time_ms() -> int:
    return time.time_ns() // 1_000_000


async def candidate_for(
    applicant: Applicant, offer: Offer, known: Known, process: GatewayProcess
) -> Candidate:
    """
    Return the request with an offer and every limit on its path.

    :raises GatewayError: if an account of its path is closed or blocked, or counts otherwise
    """
    context = await _context(applicant.asked, offer, known, process)
    described = _described(applicant, offer, known.snapshot)
    return Candidate(applicant.id, offer, context, described)


async def _context(asked: Asked, offer: Offer, known: Known, process: GatewayProcess) -> Context:
    snapshot, models = known.snapshot, known.models
    names: list[tuple[str, str]] = [(AccountKind.TAG, tag) for tag in asked.tags]
    if asked.end_user:
        names.insert(0, (AccountKind.END_USER, asked.end_user))
    labels = await process.identities.labels(names, of=snapshot)
    identity.check_labels(labels, model=asked.model)
    return snapshot.context(
        at=known.now,
        global_version=models.version,
        model=asked.model,
        labels=labels,
        platform=_platform(asked, offer, snapshot, models),
    )


def _platform(
    asked: Asked, offer: Offer, snapshot: KeySnapshot, models: Catalogue
) -> Sequence[tuple[PathAccount, tuple[Terms, ...]]]:
    """
    Return the accounts that all organizations share; in another currency none can count.

    :raises AccountClosed: if nobody can say what was spent on one of them
    :raises NoExchangeRate: if one of them may refuse
    """
    accounts = models.accounts_of(offer.target, asked=asked.model)
    if offer.is_hit:
        accounts = tuple(each for each in accounts if each[0].kind not in DEPLOYMENT_KINDS)
    for account, _ in accounts:
        if account.id in models.closed:
            raise identity.closed(account)
    if snapshot.currency == settings.PLATFORM_CURRENCY:
        return accounts
    if any(each.may_refuse for _, terms in accounts for each in terms):
        raise NoExchangeRate(
            f"{asked.model!r} is limited in {settings.PLATFORM_CURRENCY}, your budget counts in"
            f" {snapshot.currency}, and there is no exchange rate.",
            param="model",
        )
    return ()


def _learnt_under(context: Context) -> str:
    """Return the name of requests that cost alike: of one key, for one model."""
    return context.model_path[0].hex


def _teaches(outcome: Outcome) -> bool:
    """Return whether this is what such a request costs: served, and told by the provider."""
    was_served = 0 < outcome.status < ERROR_STATUS_MIN
    return was_served and {events.ESTIMATED, events.CACHE_HIT}.isdisjoint(outcome.flags)


async def settle(held: Held, event: Event, process: GatewayProcess) -> None:
    """Settle whoever goes away meanwhile; later, where the store was not asked."""
    if held.unasked:
        process.store.settle_later(event)
    else:
        await asyncio.shield(process.spawn(process.store.settle(event)))


async def reserve(candidate: Candidate, process: GatewayProcess) -> Reserved:
    """
    Reserve what the candidate can cost on every account of its path, or on none.

    :raises LimitRefused: if a limit of the path has no room
    :raises StaleContext: if it was made of what is no longer the newest
    :raises CountersMissing: if counters must be loaded first
    :raises Unavailable: if it came too late
    :raises StoreUnavailable: if the live store could not be asked
    """
    context = candidate.context
    try:
        admission = await process.store.reserve(candidate.demand(), context=context)
    except LimitReached as refusal:
        limit = context.limits[refusal.limit_index]
        process.refusals.note(limit, refusal.code, context=context, request_id=candidate.id)
        told = refusals.of_limit(refusal, context=context)
        if limit.account.kind in DEPLOYMENT_KINDS:
            told.full_deployment = candidate.offer.target.public_id
        raise told from refusal
    except ReservationEnded as error:
        raise Unavailable("The request came too late.", code="store_unavailable") from error
    except (OutcomeUnknown, StoreClosed) as error:
        if settings.GATEWAY_ON_STORE_FAILURE == "allow":
            return _pass_unasked(candidate, process)
        if isinstance(error, OutcomeUnknown):
            _end(candidate, process)
        raise
    except asyncio.CancelledError:
        _end(candidate, process)
        raise
    _note_observed(candidate, admission, process)
    return Reserved(admission)


def _pass_unasked(candidate: Candidate, process: GatewayProcess) -> Reserved:
    admission = process.store.hold_unasked(
        candidate.demand(), context=candidate.context, admitted_ms=_our_time_ms()
    )
    process.look_at_store()
    metrics.passed_unchecked()
    return Reserved(admission, unasked=True)


def _end(candidate: Candidate, process: GatewayProcess) -> None:
    """It may have been reserved: end it, so that neither it nor a late packet holds money."""
    release = process.store.release(candidate.id, otherwise=candidate.unsent())
    process.spawn(release)


def _note_observed(candidate: Candidate, admission: Admission, process: GatewayProcess) -> None:
    """Count what budgets that only observe would have refused."""
    context = candidate.context
    for limit in map(context.limits.__getitem__, admission.observed):
        if limit.kind != LimitKind.SOFT:
            metrics.would_have_refused(reason=limit.kind.value, account_kind=limit.account.kind)
            process.refusals.note_observed(limit, context=context, request_id=candidate.id)


def _described(applicant: Applicant, offer: Offer, snapshot: KeySnapshot) -> Described:
    asked, target = applicant.asked, offer.target
    return Described(
        organization_id=snapshot.organization_id,
        currency=snapshot.currency,
        key_digest=snapshot.digest,
        team=snapshot.team_public_id,
        user=snapshot.user_public_id,
        end_user=asked.end_user,
        tags=asked.tags,
        route=applicant.route.path,
        model=asked.model,
        provider=target.provider,
        upstream_model=target.upstream_model,
        deployment=target.public_id,
        price_reference=offer.price.reference,
        cost_currency=offer.price.currency,
        streamed=asked.stream,
        reserved_units=offer.ceiling_units,
        exchange_rate=offer.rate.value,
        exchange_rate_date=offer.rate.day,
        attempt_of=applicant.request_id if applicant.attempt_id else None,
    )
