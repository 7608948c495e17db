"""
What a request would cost, and whether it would be admitted now.

The request goes the way of a real one up to the live store, which is asked to look and not to
reserve. Nothing is held, counted or sent, and no refusal is noted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final

from django.conf import settings

from budgets import money
from budgets.contexts import Context, Limit, LimitKind
from budgets.errors import OutcomeUnknown, StoreClosed, StoreUnavailable
from budgets.models import PLATFORM_KINDS
from budgets.reservations import Look, Standing
from gateway import admission, applicants, identity, offers, refusals
from gateway.admission import Candidate
from gateway.applicants import Applicant, Known
from gateway.catalogue import Target
from gateway.counters import with_counters
from gateway.errors import LimitRefused
from gateway.offers import Offer
from gateway.pipeline import Inbound
from gateway.process import GatewayProcess
from gateway.queries import OWN_LEVELS
from spend import pricing
from spend.counting import prompt_tokens, tokens
from spend.counting.tokens import Count
from spend.rates import BATCH

DEPLOYMENTS_MAX: Final = 20
"""Of a model with more of them, those that are drawn most often."""
BY_BYTES: Final = "bytes"


@dataclass(frozen=True, slots=True)
class Considered:
    """The request at one of the deployments that may serve it."""

    candidate: Candidate
    priced_from: datetime | None
    look: Look | None = None
    """None: the live store is away, and requests pass without it."""

    @property
    def target(self) -> Target:
        return self.candidate.offer.target

    @property
    def refusal(self) -> LimitRefused | None:
        if self.look is None or self.look.refusal is None:
            return None
        return refusals.of_limit(self.look.refusal, context=self.candidate.context)

    @property
    def expected(self) -> Decimal | None:
        """What nine of ten such requests of this key have cost at most, where one is known."""
        if self.look is None or not self.look.learnt_from:
            return None
        offer = self.candidate.offer
        units = min(self.look.learnt, offer.ceiling_units)
        return money.to_decimal(units, currency=offer.currency)


async def estimate(inbound: Inbound, *, process: GatewayProcess) -> dict[str, Any]:
    """
    Return what a chat completion request would cost at least and at most, and if it would pass.

    :raises GatewayError: what the request itself would be told, if not by a limit on its path
    """
    await process.wait_to_admit()
    secret = identity.secret_of(inbound.headers)
    snapshot = await process.identities.identify(secret)
    asked = inbound.route.parse(inbound.body, headers=inbound.headers)
    applicant = Applicant(asked, inbound.route, secret, request_id="")
    try:
        considered = await admission.on_newest(
            secret,
            snapshot,
            process,
            make=lambda known: _consider(applicant, known, process),
            use=lambda them, until: _look_at_all(them, until, process),
        )
    except StoreUnavailable as error:
        raise refusals.of_store(error) from error
    counts = await _counts(applicant, [each.target for each in considered], process)
    return _report(applicant, considered, counts)


async def _consider(
    applicant: Applicant, known: Known, process: GatewayProcess
) -> list[Considered]:
    group = await applicants.deployments_for(applicant, known, process)
    drawn_first = sorted(group, key=lambda target: -target.weight)[:DEPLOYMENTS_MAX]
    found = []
    for target in drawn_first:
        offer = applicants.offer_at(target, applicant, known)
        candidate = await admission.candidate_for(applicant, offer, known, process)
        priced_from = target.priced_from(known.now, organization_id=known.snapshot.organization_id)
        found.append(Considered(candidate, priced_from))
    return found


async def _look_at_all(
    considered: Iterable[Considered], until: float, process: GatewayProcess
) -> list[Considered]:
    return [
        Considered(each.candidate, each.priced_from, await _look(each.candidate, until, process))
        for each in considered
    ]


async def _look(candidate: Candidate, until: float, process: GatewayProcess) -> Look | None:
    demand, context = candidate.demand(), candidate.context
    try:
        return await with_counters(
            context, until, process, lambda: process.store.look(demand, context=context)
        )
    except (OutcomeUnknown, StoreClosed):
        if settings.GATEWAY_ON_STORE_FAILURE == "allow":
            return None
        raise


async def _counts(
    applicant: Applicant, targets: Iterable[Target], process: GatewayProcess
) -> dict[str, Count]:
    """Return the tokens of the prompt, by the upstream's name of the model."""
    models = {target.upstream_model for target in targets}
    by_tokenizer = {tokens.tokenizer_of(model): model for model in sorted(models)}
    counted = {
        tokenizer: await _count(applicant, model, process)
        for tokenizer, model in by_tokenizer.items()
    }
    return {model: counted[tokens.tokenizer_of(model)] for model in models}


async def _count(applicant: Applicant, model: str, process: GatewayProcess) -> Count:
    """Count beside the event loop; by bytes where many count, as bills must not wait for this."""
    size = len(applicant.route.send(applicant.asked, model).data)
    by_bytes = Count(tokens.of_bytes(size), is_exact=False, tokenizer=BY_BYTES)
    if process.estimating.locked():
        return by_bytes
    async with process.estimating:
        return await tokens.aside(
            count=partial(prompt_tokens.count_request, request=applicant.asked.fields, model=model),
            chars=size,
            model=model,
            otherwise=by_bytes,
        )


def _report(
    applicant: Applicant, considered: Sequence[Considered], counts: Mapping[str, Count]
) -> dict[str, Any]:
    rows = [_deployment(applicant, each, counts[each.target.upstream_model]) for each in considered]
    dearest = max(rows, key=lambda row: Decimal(row["max"] or 0))
    is_priced = all(row["max"] is not None for row in rows)
    known = [row["expected"] for row in rows if row["expected"] is not None]
    refused = [row["refusal"] for row in rows if row["refusal"] is not None]
    first = considered[0]
    return {
        "object": "estimate",
        "model": applicant.asked.model,
        "currency": first.candidate.context.currency,
        "min": min((row["min"] for row in rows), key=Decimal) if is_priced else None,
        "max": dearest["max"] if is_priced else None,
        "expected": max(known, key=Decimal) if known else None,
        "expected_from": first.look.learnt_from if first.look else 0,
        **{name: dearest[name] for name in ("prompt_tokens", "prompt_tokens_exact")},
        "output_tokens_max": dearest["output_tokens_max"],
        "would_be_admitted": not refused,
        "unchecked": first.look is None,
        "refusal": refused[0] if refused else None,
        "deployments": rows,
        "budgets": list(_budgets(first.candidate.context, first.look)),
    }


def _deployment(applicant: Applicant, considered: Considered, count: Count) -> dict[str, Any]:
    offer, target, refusal = considered.candidate.offer, considered.target, considered.refusal
    expected = considered.expected
    return {
        "id": target.public_id,
        "provider": target.provider,
        "upstream_model": target.upstream_model,
        "weight": target.weight,
        **_range(applicant, offer, count),
        "expected": None if expected is None else money.plain(expected),
        "prompt_tokens": count.tokens,
        "prompt_tokens_exact": count.is_exact,
        "tokenizer": count.tokenizer,
        "output_tokens_max": offers.output_tokens_max(applicant.asked, target),
        "price": {
            "reference": offer.price.reference,
            "effective_from": considered.priced_from and considered.priced_from.isoformat(),
            "currency": offer.price.currency,
            "exchange_rate": money.plain(offer.rate.value),
            "exchange_rate_date": offer.rate.day and offer.rate.day.isoformat(),
        },
        "would_be_admitted": refusal is None,
        "refusal": refusal and {"status": refusal.http_status} | refusal.told(),
    }


def _range(applicant: Applicant, offer: Offer, count: Count) -> dict[str, str | None]:
    """Return the least and the most; null, and not 0, where an unpriced model may be called."""
    if not offer.price.is_set:
        return {"min": None, "max": None}
    least = pricing.least(
        price=offer.price,
        input_tokens=count.tokens,
        choices=applicant.asked.choices,
        # Held for, should a provider say so; but nobody who waits for the answer gets it at half.
        service_tiers=offer.price.tiers_of(applicant.asked.service_tier) - {BATCH},
    )
    units = (min(offer.units_of(least), offer.ceiling_units), offer.ceiling_units)
    low, high = (money.plain(money.to_decimal(each, currency=offer.currency)) for each in units)
    return {"min": low, "max": high}


def _budgets(context: Context, look: Look | None) -> Iterator[dict[str, Any]]:
    """
    Yield the limits of the path, nearest first; of those that the key does not own, how much they
    leave, as it can ask at any time, and of those that all organizations share nothing.
    """
    for index, limit in enumerate(context.limits):
        is_own = limit.account.kind in OWN_LEVELS
        if limit.account.kind in PLATFORM_KINDS or not (is_own or limit.kind == LimitKind.MONEY):
            continue
        standing = look.standings[index] if look else None
        account = limit.account
        yield {
            "account": {"id": str(account.id), "kind": account.kind, "label": account.label},
            "budget_id": limit.budget_id,
            "limits": limit.kind.value,
            "enforcement": limit.enforcement,
            **_standing(limit, standing, context.currency, is_own=is_own),
        }


def _standing(
    limit: Limit, standing: Standing | None, currency: str, *, is_own: bool
) -> dict[str, Any]:
    def told(number: int) -> str | int:
        return (
            money.plain(money.to_decimal(number, currency=currency)) if limit.is_money else number
        )

    row: dict[str, Any] = {
        "limit": told(limit.limit),
        "left": None,
        "currency": currency if limit.is_money else None,
        "resets_at": limit.resets_at and limit.resets_at.isoformat(),
    }
    if standing is not None:
        row["left"] = told(max(limit.limit - standing.used - standing.reserved, 0))
        if is_own:
            row["spent" if limit.is_money else "used"] = told(standing.used)
            row["held"] = told(standing.reserved)
    return row
