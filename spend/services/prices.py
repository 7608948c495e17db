"""
Writes of the price book.

What may have been charged is not edited: a correction of a price that has begun is a row of its
own, which replaces it from then on; the ledger goes on naming the one that was charged. A price
that begins later may be changed and deleted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import connection

from budgets.changes import change, unique
from budgets.errors import InvalidInput
from budgets.fields import NAME_LENGTH_MAX, validate_currency
from budgets.models import Organization
from spend import price_terms, pricebook
from spend.models import Model, PriceRate, PriceVersion, Provider
from spend.price_terms import Jump, NotConfirmed
from spend.rates import Rate

GLOBAL_SCOPE: Final = 0
MANUAL: Final = "manual"
SOURCE_LENGTH_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """A price as somebody gives it, unchecked but for what it points to."""

    model: Model
    effective_from: datetime
    rates: Sequence[Mapping[str, object]]
    organization: Organization | None = None
    effective_until: datetime | None = None
    currency: str = "USD"
    region_factors: Mapping[str, object] = field(default_factory=dict)
    source: str = MANUAL
    source_version: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """A price whose values fit, the one before it, and what is far from that."""

    rates: tuple[Rate, ...]
    region_factors: dict[str, str]
    before: PriceVersion | None
    before_rates: tuple[Rate, ...]
    jumps: list[Jump]


def check(*, wanted: Wanted, replacing: PriceVersion | None = None) -> Checked:
    """
    Check a price against the one before it; write nothing.

    :raises InvalidInput: naming the field that does not fit
    """
    _check_version(wanted)
    rates = price_terms.rates(wanted.rates)
    factors = price_terms.region_factors(wanted.region_factors)
    before = replacing or price_before(wanted)
    known = tuple(map(pricebook.rate_of, before.rates.all())) if before else ()
    # Amounts of another currency tell nothing about a slip: each then counts as a first one.
    compared = known if before and before.currency == wanted.currency else ()
    jumps = price_terms.jumps(rates, compared, currency=wanted.currency)
    return Checked(rates, factors, before, compared, jumps)


def create_version(*, wanted: Wanted, confirm: bool = False, reason: str = "") -> PriceVersion:
    """
    Add a price of a model from an instant on.

    :raises InvalidInput: naming the field that does not fit
    :raises NotConfirmed: if a rate is far from the one before
    :raises Conflict: if there is a price from that instant on
    """
    checked = check(wanted=wanted)
    _confirmed(checked, confirm=confirm)
    version = _row(wanted, checked)
    with change(scope=GLOBAL_SCOPE, reason=reason), unique("effective_from"):
        version.save()
        _write_rates(version, checked.rates)
    return version


def correct_version(
    *,
    version: PriceVersion,
    wanted: Wanted,
    now: datetime,
    confirm: bool = False,
    reason: str = "",
) -> PriceVersion:
    """
    Put another price in a price's place: the same row where it has not begun, else a new one.

    Requests that come from now on are charged at the new one; what was charged stays.

    :raises InvalidInput: naming the field that does not fit, or if it was replaced already, or if
        it is in force and would not be any more
    :raises NotConfirmed: if a rate is far from the one that is corrected
    :raises Conflict: if another price begins at the same instant
    """
    if (wanted.model.pk, _pk(wanted.organization)) != (version.model_id, version.organization_id):
        raise InvalidInput("model", "and organization stay what they are")
    checked = check(wanted=wanted, replacing=version)
    _confirmed(checked, confirm=confirm)
    with change(scope=GLOBAL_SCOPE, reason=reason), unique("effective_from"):
        _lock_current(version)
        _check_in_force(version, wanted, now=now)
        made = _row(wanted, checked)
        if is_open(version, now=now):
            made.pk, made.created_at = version.pk, version.created_at
            made.rates.all().delete()
        else:
            made.pk = _next_pk()
            # Its successor's row comes within the transaction; until then two would collide.
            PriceVersion.objects.filter(pk=version.pk).update(replaced_by_id=made.pk)
        made.save(force_update=made.pk == version.pk, force_insert=made.pk != version.pk)
        _write_rates(made, checked.rates)
    return made


def end_version(*, version: PriceVersion, at: datetime, now: datetime) -> PriceVersion:
    """
    Let a price end; who has no other then is refused as unpriced.

    :raises InvalidInput: if that is in the past, or the price is over or was replaced
    """
    with change(scope=GLOBAL_SCOPE):
        _lock_current(version)
        check_end(version.effective_from, version.effective_until, at=at, now=now)
        version.effective_until = at
        version.save(update_fields=["effective_until"])
    return version


def delete_version(*, version: PriceVersion, now: datetime) -> None:
    """
    Remove a price that has not begun.

    :raises InvalidInput: if it has begun, for it may have been charged
    """
    with change(scope=GLOBAL_SCOPE):
        _lock_current(version)
        if not is_open(version, now=now):
            raise InvalidInput("price_id", "has begun, so it may have been charged: end it instead")
        version.delete()


def is_open(version: PriceVersion, *, now: datetime) -> bool:
    """Return whether a price may still be changed: it has not begun, and nothing replaces it."""
    return version.effective_from > now and version.replaced_by_id is None


def check_end(start: datetime, end: datetime | None, *, at: datetime, now: datetime) -> None:
    """
    Check that something in force in [start, end) may end at ``at``.

    :raises InvalidInput: if not
    """
    if end is not None and end <= now:
        raise InvalidInput("effective_until", "has passed: it is over")
    if at < now:
        raise InvalidInput("effective_until", "must not be in the past")
    if at <= start:
        raise InvalidInput("effective_until", "must be after effective_from")


def price_before(wanted: Wanted) -> PriceVersion | None:
    """Return the price that holds at that instant: the organization's, else everybody's."""
    holding = PriceVersion.objects.current().holding_at(wanted.effective_from)
    same = holding.filter(model=wanted.model).order_by("-effective_from")
    for_all = same.filter(organization=None)
    own = same.filter(organization=wanted.organization) if wanted.organization else for_all
    return own.first() or for_all.first()


def model_for_price(*, provider: str, name: str, make: bool) -> Model:
    """
    Return the price book's model of exactly that name; add it, and its provider, if asked to.

    :raises InvalidInput: if there is none, and none shall be made
    """
    found = Model.objects.select_related("provider").filter(provider__slug=provider, name=name)
    known = found.first()
    if known is not None:
        return known
    if not make:
        raise InvalidInput("model", f"{name!r} of {provider} is not in the price book")
    if len(name) > NAME_LENGTH_MAX or not name.isprintable():
        raise InvalidInput("model", "must be a printable name")
    with change(scope=GLOBAL_SCOPE), unique("model"):
        owner, _ = Provider.objects.get_or_create(slug=provider, defaults={"name": provider})
        return Model.objects.create(provider=owner, name=name)


def _check_version(wanted: Wanted) -> None:
    try:
        validate_currency(wanted.currency)
    except ValidationError as error:
        raise InvalidInput("currency", error.messages[0]) from error
    if wanted.effective_until and wanted.effective_until <= wanted.effective_from:
        raise InvalidInput("effective_until", "must be after effective_from")
    for name in ("source", "source_version"):
        text = getattr(wanted, name)
        if len(text) > SOURCE_LENGTH_MAX or not text.isprintable():
            raise InvalidInput(name, f"must be printable, {SOURCE_LENGTH_MAX} characters at most")


def _check_in_force(version: PriceVersion, wanted: Wanted, *, now: datetime) -> None:
    """Check that a correction leaves no time without the price that it was in force in."""
    if version.effective_from <= now and wanted.effective_from > version.effective_from:
        problem = "is later than that of a price that has begun: add a price from then on instead"
        raise InvalidInput("effective_from", problem)
    is_over = version.effective_until is not None and version.effective_until <= now
    if wanted.effective_until is not None and wanted.effective_until < now and not is_over:
        raise InvalidInput("effective_until", "must not be in the past")


def _confirmed(checked: Checked, *, confirm: bool) -> None:
    if checked.jumps and not confirm:
        first = checked.jumps[0]
        field = "rates" if first.index is None else f"rates[{first.index}].rate"
        raise NotConfirmed(field, first.problem)


def _lock_current(version: PriceVersion) -> None:
    """Keep a price as it is until the transaction ends, and read what has become of it."""
    locked = PriceVersion.objects.order_by().select_for_update().filter(pk=version.pk)
    row: Any = locked.values("replaced_by_id", "effective_until", "effective_from").first()
    if row is None:
        raise InvalidInput("price_id", "is gone")
    if row["replaced_by_id"] is not None:
        raise InvalidInput("price_id", "was corrected already; correct what replaced it")
    for name, value in row.items():
        setattr(version, name, value)


def _row(wanted: Wanted, checked: Checked) -> PriceVersion:
    return PriceVersion(
        model=wanted.model,
        organization=wanted.organization,
        currency=wanted.currency,
        effective_from=wanted.effective_from,
        effective_until=wanted.effective_until,
        region_factors=checked.region_factors,
        source=wanted.source,
        source_version=wanted.source_version,
    )


def _write_rates(version: PriceVersion, rates: Sequence[Rate]) -> None:
    PriceRate.objects.bulk_create(
        PriceRate(
            version=version, component=each.component, rate=each.rate, per=each.per,
            tier_from=each.tier_from, service_tier=each.service_tier, variant=each.variant,
            window=each.window,
        )
        for each in rates
    )  # fmt: skip


def _next_pk() -> int:
    with connection.cursor() as cursor:
        table: Any = PriceVersion._meta.db_table
        cursor.execute("SELECT nextval(pg_get_serial_sequence(%s, 'id'))", [table])
        return int(cursor.fetchone()[0])


def _pk(organization: Organization | None) -> int | None:
    return organization.pk if organization else None
