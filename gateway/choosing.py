"""Which deployment an attempt goes to, and what it is offered there."""

import random
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gateway import applicants, offers
from gateway.applicants import Applicant, Known
from gateway.catalogue import Target
from gateway.errors import GatewayError, NoDeploymentForTags
from gateway.offers import Offer
from gateway.process import GatewayProcess
from gateway.routing import strategies, tags
from gateway.routing.strategies import Choice, Why
from spend import pricing

DRAW: Final = random.Random()  # noqa: S311  # balancing load is no secret


class NoneLeft(Exception):
    """Every deployment that may serve the request has been tried."""


@dataclass(frozen=True, slots=True)
class Chosen:
    offer: Offer
    choice: Choice[Target]


async def choose(
    applicant: Applicant, known: Known, process: GatewayProcess, *, tried: Collection[str]
) -> Chosen:
    """
    Return the first deployment in the order of the model's rule that can make an offer.

    :raises GatewayError: if the key may not, there is no such model, or none can make one
    :raises NoneLeft: if all of them have been tried
    """
    group = await applicants.deployments_for(applicant, known, process)
    fitting = tags.fitting(group, tags=applicant.asked.tags)
    if not fitting:
        raise NoDeploymentForTags(
            f"No deployment of {applicant.asked.model!r} is for requests with these tags.",
            param="metadata.tags",
        )
    left = [target for target in fitting if target.public_id not in tried]
    if not left:
        raise NoneLeft
    problem: GatewayError | None = None
    for choice in _ordered(left, applicant, known, process):
        try:
            return Chosen(applicants.offer_at(choice.target, applicant, known), choice)
        except GatewayError as error:
            problem = problem or error
    assert problem is not None, "there was at least one"
    raise problem


def _ordered(
    targets: list[Target], applicant: Applicant, known: Known, process: GatewayProcess
) -> Iterator[Choice[Target]]:
    if len(targets) == 1:
        yield Choice(targets[0], Why.ONLY_ONE)
        return
    rule = known.models.rule_for(applicant.asked.model, known.snapshot.organization_id)
    yield from strategies.plan(
        targets,
        strategy=rule.strategy,
        board=process.board,
        now=time.monotonic(),
        cost_of=_expected_cost(applicant, known, process),
        rng=DRAW,
    )


def _expected_cost(
    applicant: Applicant, known: Known, process: GatewayProcess
) -> Callable[[Target], Decimal | None]:
    """Return what tells the cost of this request by what its like have used."""
    asked = applicant.asked

    def cost_of(target: Target) -> Decimal | None:
        try:
            offer = applicants.offer_at(target, applicant, known)
        except GatewayError:
            return None
        usage = process.mixes.expect(
            asked.model,
            body_bytes=len(offer.body.data),
            output_tokens_max=offers.output_tokens_max(asked, target),
        )
        cost = pricing.cost(price=offer.price, usage={**usage, **asked.assumed})
        return None if cost.unpriced else offer.rate.convert(cost.amount)

    return cost_of
