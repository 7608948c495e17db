"""Reads of the ledger (single rows, sums by day) and of the price book, for many at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.db.models import Prefetch, Q, QuerySet, Sum, prefetch_related_objects
from django.db.models.functions import TruncDate

from budgets import money
from budgets.models import Organization
from spend import events
from spend.models import Model, PriceRate, PriceVersion, SpendEvent
from spend.pricebook import best_match

ROWS_MAX: Final = 10_000
DAYS_SUMMARIZED_MAX: Final = 366


@dataclass(frozen=True, slots=True)
class Asked:
    """Which rows of the ledger are wanted; days are UTC days, the last one included."""

    key_digests: tuple[str, ...] = ()
    user: str = ""
    request_id: UUID | None = None
    first_day: date | None = None
    last_day: date | None = None


@dataclass(frozen=True, slots=True)
class Sums:
    """What was spent on a day in a currency: in all, and by key, user and model."""

    day: date
    currency: str
    spend: Decimal
    keys: Mapping[str, Decimal]
    users: Mapping[str, Decimal]
    models: Mapping[str, Decimal]


def rows(asked: Asked) -> list[SpendEvent]:
    """Return rows, the newest first; of more than ``ROWS_MAX`` the newest, and one to tell by."""
    return list(_events(asked).order_by("-admitted_at", "-id")[: ROWS_MAX + 1])


def sums_by_day(asked: Asked) -> list[Sums]:
    """Return what was spent on each day that has rows, the first day first."""
    groups = (
        _events(asked)
        .order_by()
        .annotate(day=TruncDate("admitted_at", tzinfo=UTC))
        .values("day", "currency", "key_digest", "user", "model")
        .annotate(units=Sum("amount_units"))
    )
    by_day: dict[tuple[date, str], list[dict[str, Any]]] = {}
    for group in groups:
        by_day.setdefault((group["day"], group["currency"]), []).append(dict(group))
    return [_sums(day, currency, by_day[day, currency]) for day, currency in sorted(by_day)]


def of_request(request_id: UUID) -> Q:
    """Return which rows of the ledger are a request's: one query finds where to look for them."""
    ids = [request_id, events.orphan_id(request_id), events.reversal_id(request_id)]
    times = set(SpendEvent.objects.filter(id__in=ids).values_list("admitted_at", flat=True))
    return Q(request_id=request_id, admitted_at__in=times)


def organization_ids(found: Iterable[SpendEvent]) -> dict[int, str]:
    """Return the public id of each organization that has one of these rows."""
    pks = {row.organization_id for row in found}
    return dict(Organization.objects.filter(pk__in=pks).values_list("pk", "public_id"))


def _events(asked: Asked) -> QuerySet[SpendEvent]:
    found = SpendEvent.objects.all()
    if asked.key_digests:
        found = found.filter(key_digest__in=asked.key_digests)
    if asked.user:
        found = found.filter(user=asked.user)
    if asked.request_id is not None:
        found = found.filter(of_request(asked.request_id))
    if asked.first_day is not None:
        found = found.filter(admitted_at__gte=_midnight(asked.first_day))
    if asked.last_day is not None:
        found = found.filter(admitted_at__lt=_midnight(asked.last_day + timedelta(days=1)))
    return found


def _sums(day: date, currency: str, groups: Sequence[Mapping[str, Any]]) -> Sums:
    def by(name: str) -> dict[str, Decimal]:
        units: dict[str, int] = {}
        for group in groups:
            units[group[name]] = units.get(group[name], 0) + group["units"]
        return {each: money.to_decimal(n, currency=currency) for each, n in units.items()}

    total = sum(group["units"] for group in groups)
    return Sums(
        day=day,
        currency=currency,
        spend=money.to_decimal(total, currency=currency),
        keys=by("key_digest"),
        users=by("user"),
        models=by("model"),
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def models_named(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Model]:
    """
    Return the price book's model of each (provider, name) that it knows: three queries for all.

    Finds what :func:`spend.pricebook.find_model` finds for one.
    """
    wanted = set(pairs)
    of_provider: dict[str, list[Model]] = {}
    rates = Prefetch("rates", PriceRate.objects.plain())
    versions = PriceVersion.objects.current().order_by("effective_from").prefetch_related(rates)
    known = Model.objects.filter(provider__slug__in={provider for provider, _ in wanted})
    for model in known.select_related("provider").order_by("id"):
        of_provider.setdefault(model.provider.slug, []).append(model)
    found = {pair: best_match(of_provider.get(pair[0], []), pair[1]) for pair in wanted}
    matched = {pair: model for pair, model in found.items() if model is not None}
    prefetch_related_objects(list(matched.values()), Prefetch("prices", versions))
    return matched


def price_in_force(
    model: Model, *, at: datetime, organization_id: int | None = None
) -> PriceVersion | None:
    """Return the price of a model from :func:`models_named` for an organization, else for all."""
    in_force = [version for version in model.prices.all() if version.holds(at)]
    own = [each for each in in_force if each.organization_id == organization_id]
    for_all = [each for each in in_force if each.organization_id is None]
    return next(iter([*reversed(own), *reversed(for_all)]), None)
