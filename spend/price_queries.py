"""Reads of prices, discounts and margins, for lists and single pages."""

from datetime import datetime
from typing import Final

from django.db.models import Case, OuterRef, Prefetch, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce

from budgets.errors import NotFound
from budgets.models import Organization
from spend.components import Component
from spend.models import PriceAdjustment, PriceRate, PriceVersion

NOW: Final = "now"
LATER: Final = "later"
ENDED: Final = "ended"
REPLACED: Final = "replaced"
NOBODY: Final = Value(0)
"""Stands for no organization where two are compared: null is equal to nothing."""


def prices_asked(
    *,
    provider: str = "",
    model: str = "",
    organization: Organization | None = None,
    at: datetime | None = None,
) -> QuerySet[PriceVersion]:
    """
    Return prices, the newest of each model first; with ``at`` only those in force then.

    With an organization its own and those for everybody; without, those of all.
    """
    found = with_rates(PriceVersion.objects.select_related("model__provider", "organization"))
    if provider:
        found = found.filter(model__provider__slug=provider)
    if model:
        found = found.filter(model__name=model)
    if organization is not None:
        found = found.filter(Q(organization=None) | Q(organization=organization))
    if at is not None:
        found = found.filter(pk=in_force_pk(at))
    return found.order_by("model__provider__slug", "model__name", "-effective_from", "-pk")


def find_price(pk: int) -> PriceVersion:
    """
    :raises NotFound: if there is none
    """
    found = prices_asked().filter(pk=pk).first()
    if found is None:
        raise NotFound("price_id", pk)
    return found


def in_force_pk(at: datetime) -> Subquery:
    """Return the price in force for the same model and organization as the row that asks."""
    same = PriceVersion.objects.current().holding_at(at).filter(model=OuterRef("model"))
    whose = same.annotate(whose=Coalesce("organization_id", NOBODY)).filter(
        whose=Coalesce(OuterRef("organization_id"), NOBODY)
    )
    return Subquery(whose.order_by("-effective_from").values("pk")[:1])


def with_rates(versions: QuerySet[PriceVersion]) -> QuerySet[PriceVersion]:
    return versions.prefetch_related(Prefetch("rates", in_order(PriceRate.objects.all())))


def in_order(rates: QuerySet[PriceRate]) -> QuerySet[PriceRate]:
    """Return rates as price pages list them: standard ones first, input before output."""
    ranks = [When(component=each, then=Value(rank)) for rank, each in enumerate(Component)]
    rank = Case(*ranks, default=Value(len(ranks)))
    return rates.order_by("service_tier", "window", rank, "variant", "tier_from")


def state_of(row: PriceVersion | PriceAdjustment, *, now: datetime) -> str:
    """Return whether it has begun, ended or was replaced; of several that have begun, the one
    that begins last is in force.
    """
    if isinstance(row, PriceVersion) and row.replaced_by_id is not None:
        return REPLACED
    if row.effective_from > now:
        return LATER
    return ENDED if row.effective_until is not None and row.effective_until <= now else NOW


def adjustments_asked(
    *,
    provider: str = "",
    organization: Organization | None = None,
    team_id: str = "",
    at: datetime | None = None,
) -> QuerySet[PriceAdjustment]:
    """
    Return discounts and margins, the newest first; with ``at`` only those whose time holds it.

    With an organization its own and those for everybody; without, those of all.
    """
    found = PriceAdjustment.objects.select_related("provider", "organization", "team")
    if provider:
        found = found.filter(provider__slug=provider)
    if organization is not None:
        found = found.filter(Q(organization=None) | Q(organization=organization))
    if team_id:
        found = found.filter(team__public_id=team_id)
    if at is not None:
        holding = Q(effective_until=None) | Q(effective_until__gt=at)
        found = found.filter(holding, effective_from__lte=at)
    return found.order_by("-effective_from", "-pk")


def find_adjustment(pk: int) -> PriceAdjustment:
    """
    :raises NotFound: if there is none
    """
    found = adjustments_asked().filter(pk=pk).first()
    if found is None:
        raise NotFound("adjustment_id", pk)
    return found
