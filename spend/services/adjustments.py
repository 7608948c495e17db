"""
Writes of discounts and margins.

One is never edited: another from a later instant goes before it, and it can be ended. The most
particular one in force applies, alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.db.models import Q, QuerySet

from budgets.changes import change, unique
from budgets.errors import InvalidInput
from budgets.models import Organization, Team
from spend.models import PriceAdjustment, Provider
from spend.price_terms import RATE_MAX, number
from spend.services.prices import GLOBAL_SCOPE, check_end

DISCOUNT_MAX: Final = Decimal(100)
MARGIN_MAX: Final = Decimal(1_000)
PERCENT_DECIMALS_MAX: Final = 6
REASON_LENGTH_MAX: Final = 500
ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A discount or margin as somebody gives it, unchecked but for what it points to."""

    effective_from: datetime
    provider: Provider | None = None
    organization: Organization | None = None
    team: Team | None = None
    discount_percent: object = ZERO
    margin_percent: object = ZERO
    margin_per_request: object = ZERO
    effective_until: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """What all requests to a provider, or to every one, are charged beside the list price."""

    discount_percent: Decimal = ZERO
    margin_percent: Decimal = ZERO
    margin_per_request: Decimal = ZERO


def create_adjustment(*, wanted: Wanted) -> PriceAdjustment:
    """
    Add a discount or margin from an instant on; one of zeros says that there is none.

    :raises InvalidInput: naming the field that does not fit
    :raises Conflict: if there is one of the same scope from that instant on
    """
    adjustment = _row(wanted)
    with change(scope=GLOBAL_SCOPE, reason=wanted.reason), unique("effective_from"):
        adjustment.save()
    return adjustment


def end_adjustment(*, adjustment: PriceAdjustment, at: datetime, now: datetime) -> PriceAdjustment:
    """
    Let a discount or margin end; what is less particular applies from then on.

    :raises InvalidInput: if that is in the past, or it is over
    """
    with change(scope=GLOBAL_SCOPE):
        _lock(adjustment)
        check_end(adjustment.effective_from, adjustment.effective_until, at=at, now=now)
        adjustment.effective_until = at
        adjustment.save(update_fields=["effective_until"])
    return adjustment


def delete_adjustment(*, adjustment: PriceAdjustment, now: datetime) -> None:
    """
    Remove a discount or margin that has not begun.

    :raises InvalidInput: if it has begun, for it may have been charged
    """
    with change(scope=GLOBAL_SCOPE):
        _lock(adjustment)
        if adjustment.effective_from <= now:
            problem = "has begun, so it may have been charged: end it instead"
            raise InvalidInput("adjustment_id", problem)
        adjustment.delete()


def in_force_for_all(*, now: datetime) -> dict[str | None, PriceAdjustment]:
    """Return what is in force for every organization, by provider; None: for every provider."""
    found: dict[str | None, PriceAdjustment] = {}
    rows = _holding(now).filter(organization=None, team=None).select_related("provider")
    for row in rows.order_by("effective_from"):
        found[row.provider.slug if row.provider else None] = row
    return found


def replace_for_all(*, wanted: Mapping[str | None, Terms], now: datetime) -> None:
    """
    Make these the discounts and margins for every organization, by provider; others end.

    What stays as it was is left alone.

    :raises InvalidInput: if a provider is not in the price book
    """
    providers = {each.slug: each for each in Provider.objects.filter(slug__in=_slugs(wanted))}
    for slug in _slugs(wanted):
        if slug not in providers:
            raise InvalidInput(slug, "is no provider of the price book")
    with change(scope=GLOBAL_SCOPE), unique("effective_from"):
        held = {slug: terms_of(row) for slug, row in in_force_for_all(now=now).items()}
        for scope in held.keys() | wanted.keys():
            if wanted.get(scope) != held.get(scope):
                _end_all(scope, now=now)
                _add(providers.get(scope or ""), wanted.get(scope), now=now)


def _end_all(slug: str | None, *, now: datetime) -> None:
    """End what is in force of one scope, so that nothing older comes back behind it."""
    rows = _holding(now).filter(organization=None, team=None, effective_from__lt=now)
    of_scope = rows.filter(provider__slug=slug) if slug else rows.filter(provider=None)
    of_scope.update(effective_until=now)


def _add(provider: Provider | None, terms: Terms | None, *, now: datetime) -> None:
    if terms is not None:
        PriceAdjustment.objects.create(
            provider=provider,
            discount_percent=terms.discount_percent,
            margin_percent=terms.margin_percent,
            margin_per_request=terms.margin_per_request,
            effective_from=now,
        )


def terms_of(row: PriceAdjustment) -> Terms:
    return Terms(row.discount_percent, row.margin_percent, row.margin_per_request)


def _holding(now: datetime) -> QuerySet[PriceAdjustment]:
    return PriceAdjustment.objects.filter(
        Q(effective_until=None) | Q(effective_until__gt=now), effective_from__lte=now
    )


def _slugs(wanted: Mapping[str | None, Terms]) -> list[str]:
    return sorted(slug for slug in wanted if slug is not None)


def _row(wanted: Wanted) -> PriceAdjustment:
    organization, team = wanted.organization, wanted.team
    if team is not None:
        if organization is not None and team.organization_id != organization.pk:
            raise InvalidInput("team_id", "is no team of that organization")
        organization = team.organization
    if wanted.effective_until and wanted.effective_until <= wanted.effective_from:
        raise InvalidInput("effective_until", "must be after effective_from")
    if len(wanted.reason) > REASON_LENGTH_MAX:
        raise InvalidInput("reason", f"must not have more than {REASON_LENGTH_MAX} characters")
    return PriceAdjustment(
        provider=wanted.provider,
        organization=organization,
        team=team,
        discount_percent=_percent(wanted.discount_percent, "discount_percent", DISCOUNT_MAX),
        margin_percent=_percent(wanted.margin_percent, "margin_percent", MARGIN_MAX),
        margin_per_request=number(
            wanted.margin_per_request, field="margin_per_request", most=RATE_MAX
        ),
        effective_from=wanted.effective_from,
        effective_until=wanted.effective_until,
        reason=wanted.reason,
    )


def _percent(value: object, field: str, most: Decimal) -> Decimal:
    return number(value, field=field, most=most, decimals=PERCENT_DECIMALS_MAX)


def _lock(adjustment: PriceAdjustment) -> None:
    """Keep it as it is until the transaction ends, and read what has become of it."""
    locked = PriceAdjustment.objects.order_by().select_for_update().filter(pk=adjustment.pk)
    row = locked.values("effective_from", "effective_until").first()
    if row is None:
        raise InvalidInput("adjustment_id", "is gone")
    for name, value in row.items():
        setattr(adjustment, name, value)
