"""Who asks for what, what that is judged by, and what deployments can offer it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from budgets.snapshots import KeySnapshot
from gateway import offers
from gateway.caching.slots import Slot
from gateway.catalogue import Catalogue, Target
from gateway.errors import RouteNotServed
from gateway.offers import Offer
from gateway.process import GatewayProcess
from gateway.routes.asked import Asked
from gateway.routes.route import Route


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who asks for what: what stays the same however often reserve is tried."""

    asked: Asked
    route: Route
    secret: str
    request_id: str
    """What the caller knows it by; the first attempt has the same id."""
    passed_on: Mapping[str, str] = field(default_factory=dict)
    """Headers of the client that the upstream must see."""
    attempt_id: str = ""
    """Of a further attempt; empty for the first."""
    slot: Slot | None = None
    """Where the answer may be kept; None: nowhere."""
    deployment: str = ""
    """The only one that may serve it, as it has the file of a batch; empty: any may."""

    @property
    def id(self) -> str:
        return self.attempt_id or self.request_id


@dataclass(frozen=True, slots=True)
class Known:
    """What a request is judged by: its key, the models and their prices, at one time."""

    snapshot: KeySnapshot
    models: Catalogue
    now: datetime


async def deployments_for(
    applicant: Applicant, known: Known, process: GatewayProcess
) -> list[Target]:
    """
    Return the deployments that may serve the request; there is at least one.

    :raises GatewayError: if the key may not, or there is no such model
    """
    await process.catalogues.resolve(known.models, applicant.asked.model)
    group = offers.deployments_for(
        applicant.asked,
        route=applicant.route,
        snapshot=known.snapshot,
        models=known.models,
        now=known.now,
    )
    return group if not applicant.deployment else _only(applicant, group)


def _only(applicant: Applicant, group: list[Target]) -> list[Target]:
    found = [target for target in group if target.public_id == applicant.deployment]
    if not found:
        raise RouteNotServed(
            f"The deployment of {applicant.asked.model!r} that has the file is gone: upload it"
            " again.",
            param="input_file_id",
        )
    return found


def offer_at(target: Target, applicant: Applicant, known: Known) -> Offer:
    """
    Bound the request's cost at a deployment.

    :raises GatewayError: if it has no price there, or nothing bounds its cost
    """
    return offers.offer_at(
        target,
        asked=applicant.asked,
        route=applicant.route,
        snapshot=known.snapshot,
        models=known.models,
        now=known.now,
    )
