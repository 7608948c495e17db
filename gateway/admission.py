"""
May this request spend? Choose a deployment, bound what the request can cost, and reserve that on
every account of its path.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.conf import settings
from django.db import Error as DatabaseError

from budgets import money, periods, snapshots
from budgets.contexts import Context, Limit, PathAccount
from budgets.errors import (
    CountersMissing,
    LimitReached,
    OutcomeUnknown,
    ReservationEnded,
    StaleContext,
)
from budgets.livestore import Admission
from budgets.models import AccountKind, derived_account_id
from budgets.money import Units
from budgets.snapshots import KeySnapshot
from budgets.unconfirmed import Event
from gateway import catalogue, identity, refusals
from gateway.catalogue import Catalogue, Target
from gateway.chat import ChatRequest
from gateway.errors import (
    GatewayError,
    ModelForbidden,
    ModelNotFound,
    ModelUnpriced,
    NoExchangeRate,
    Unavailable,
    UnboundedRequest,
)
from gateway.process import GatewayProcess
from spend import events, pricing
from spend.events import Described, Outcome
from spend.pricing import Component, Price, UnboundedCost

ADMISSION_SECONDS_MAX: Final = 5.0
LOAD_PAUSE_SECONDS: Final = 0.01
UNKNOWN_ADMISSION: Final = 0
"""The store fills in when it was: the reserve's answer never came."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A deployment for the request, with what it can cost there at most."""

    target: Target
    price: Price
    body: bytes
    ceiling: Decimal
    held: Units


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that holds its ceiling on every account of its path."""

    request_id: str
    offer: Offer
    context: Context
    described: Described
    admission: Admission

    def event(self, outcome: Outcome) -> Event:
        """Return the spend event of this request, its cost rounded once, half to even."""
        return Event(
            id=self.request_id,
            amount=money.to_units(outcome.cost, currency=self.context.currency),
            admitted_ms=self.admission.admitted_ms,
            path=self.context.path_text(),
            payload=events.encode(self.described, outcome),
        )


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who asks for what: what stays the same however often reserve is tried."""

    asked: ChatRequest
    secret: str
    request_id: str
    route: str


async def admit(
    applicant: Applicant, *, snapshot: KeySnapshot, process: GatewayProcess
) -> Admitted:
    """
    Reserve the most that the request can cost.

    :raises GatewayError: why it may not, in words for the caller
    :raises StoreUnavailable: if the live store could not be asked
    """
    models = await process.catalogues.get()
    until = time.monotonic() + ADMISSION_SECONDS_MAX
    is_newest = False
    while time.monotonic() < until:
        now = periods.from_milliseconds(await process.store.now_ms())
        try:
            offer = make_offer(applicant.asked, snapshot=snapshot, models=models, now=now)
        except GatewayError:
            # What reserve lets through it checks by version; what is refused here, we do.
            if is_newest:
                raise
            is_newest = True
            snapshot = await process.identities.recheck(applicant.secret)
            models = await process.catalogues.read_again()
            continue
        context = _context(applicant.asked, snapshot, models, now)
        try:
            return await _reserve(applicant, offer, context, snapshot, process)
        except StaleContext:
            snapshot = await process.identities.read_again(applicant.secret)
            models = await process.catalogues.read_again()
        except CountersMissing as missing:
            await _load([context.limits[i] for i in missing.limit_indexes], until, process)
    raise Unavailable("The request could not be admitted in time.", code="admission_timeout")


def make_offer(
    asked: ChatRequest, *, snapshot: KeySnapshot, models: Catalogue, now: datetime
) -> Offer:
    """
    Choose a deployment and bound the request's cost there.

    :raises GatewayError: if the key may not, there is no such model, or nothing bounds its cost
    """
    identity.check_usable(snapshot, at=now)
    if not snapshot.may_call(asked.model):
        raise ModelForbidden(f"This key may not call {asked.model!r}.", param="model")
    group = models.group(asked.model, organization_id=snapshot.organization_id)
    if not group:
        raise ModelNotFound(f"There is no model {asked.model!r}.", param="model")
    target = catalogue.choose(group)
    price = _price(target, snapshot.currency, now)
    body = asked.body_for(upstream_model=target.upstream_model)
    ceiling = _ceiling(asked, target, price, len(body))
    held = money.ceiling_to_units(ceiling, currency=snapshot.currency)
    return Offer(target=target, price=price, body=body, ceiling=ceiling, held=held)


def _price(target: Target, currency: str, now: datetime) -> Price:
    price = target.price_at(now)
    if price is None or not _prices_both_sides(price):
        raise ModelUnpriced(
            f"{target.model_name!r} has no price, so nobody can say what it would cost.",
            param="model",
        )
    if price.currency != currency:
        raise NoExchangeRate(
            f"{target.model_name!r} is priced in {price.currency}, your budget counts in"
            f" {currency}, and there is no exchange rate.",
            param="model",
        )
    return price


def _prices_both_sides(price: Price) -> bool:
    """A price that says nothing of the output would make it free."""
    sides = (Component.INPUT, Component.OUTPUT)
    return all(price.rate_of(side, input_tokens=0) is not None for side in sides)


def _ceiling(asked: ChatRequest, target: Target, price: Price, body_bytes: int) -> Decimal:
    longest = target.longest_output
    output = asked.output_tokens_asked
    bound = longest if output is None else min(output, longest or output)
    try:
        return pricing.ceiling(
            price=price,
            input_tokens_max=body_bytes if asked.bytes_bound_input else target.context_window,
            output_tokens_max=None if bound is None else bound * asked.choices,
        )
    except UnboundedCost as error:
        param = "max_completion_tokens" if error.what == "output" else "messages"
        raise UnboundedRequest(
            f"Nothing bounds the {error.what} of this request: set {param}, or have the model's"
            " limits set.",
            param=param,
        ) from error


def _context(
    asked: ChatRequest, snapshot: KeySnapshot, models: Catalogue, now: datetime
) -> Context:
    context = snapshot.context(at=now, global_version=models.version)
    labels = [(AccountKind.TAG, tag) for tag in asked.tags]
    if asked.end_user:
        labels.insert(0, (AccountKind.END_USER, asked.end_user))
    if not labels:
        return context
    derived = tuple(
        PathAccount(
            derived_account_id(organization_id=context.organization_id, kind=kind, text=text),
            kind,
            text,
        )
        for kind, text in labels
    )
    return replace(context, path=context.path + derived)


async def _reserve(
    applicant: Applicant,
    offer: Offer,
    context: Context,
    snapshot: KeySnapshot,
    process: GatewayProcess,
) -> Admitted:
    described = _described(applicant, offer, snapshot)
    orphan = events.encode(described, Outcome(status=0, cost=offer.ceiling, usage={}))
    try:
        admission = await process.store.reserve(
            id=applicant.request_id,
            amount=offer.held,
            context=context,
            seconds=settings.GATEWAY_RESERVATION_SECONDS,
            orphan=orphan,
        )
    except LimitReached as refusal:
        raise refusals.of_limit(refusal, context=context) from refusal
    except ReservationEnded as error:
        raise Unavailable("The request came too late.", code="store_unavailable") from error
    except (OutcomeUnknown, asyncio.CancelledError):
        # It may have been reserved: end it, so that neither it nor a late packet holds money.
        process.spawn(
            process.store.release(
                applicant.request_id, otherwise=_unsent(applicant, context, described)
            )
        )
        raise
    return Admitted(applicant.request_id, offer, context, described, admission)


def _unsent(applicant: Applicant, context: Context, described: Described) -> Event:
    nothing = Outcome(status=0, cost=Decimal(0), usage={})
    return Event(
        id=applicant.request_id,
        amount=Units(0),
        admitted_ms=UNKNOWN_ADMISSION,
        path=context.path_text(),
        payload=events.encode(described, nothing),
        is_unsent=True,
    )


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
        route=applicant.route,
        model=asked.model,
        provider=target.provider,
        upstream_model=target.upstream_model,
        deployment=target.public_id,
        price_reference=offer.price.reference,
        cost_currency=offer.price.currency,
        streamed=asked.stream,
        reserved_units=offer.held,
    )


async def _load(limits: Sequence[Limit], until: float, process: GatewayProcess) -> None:
    """Load counters from the ledger; read a total again as long as the recorder is quicker."""
    waiting = list(limits)
    while waiting and time.monotonic() < until:
        try:
            totals = await process.database.run(snapshots.ledger_totals, waiting)
        except DatabaseError as error:
            raise Unavailable("The ledger cannot be reached.", code="ledger_unavailable") from error
        loaded = [await process.store.load(total) for total in totals]
        waiting = [limit for limit, done in zip(waiting, loaded, strict=True) if not done]
        if waiting:
            await asyncio.sleep(LOAD_PAUSE_SECONDS)
