"""
Price lists become prices in two steps: a list is proposed, and somebody applies or rejects it.

Prices that may have been charged are never edited. What is applied begins at a stated instant;
where the price book has a version from that instant on, the new one replaces it. Prices that
people have made by hand stay, and a rate that jumps is taken only where its model is confirmed.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import Prefetch

from budgets.changes import SYSTEM, acting, change
from budgets.errors import InvalidInput, NotFound
from budgets.snapshots import GLOBAL_SCOPE
from spend.catalogues import diff, importing, recorded
from spend.catalogues.diff import Book, Difference, HeldModel, HeldPrice, Kind
from spend.catalogues.listing import InvalidPriceList, ListedPrice, Listing
from spend.catalogues.recorded import Recorded
from spend.models import (
    Model,
    PriceProposal,
    PriceRate,
    PriceVersion,
    ProposalState,
    Provider,
)
from spend.pricebook import rate_of

CHANGES_BYTES_MAX: Final = 32 * 2**20
NOTE_LENGTH_MAX: Final = 500
OPEN_SHOWN_MAX: Final = 100
UNCONFIRMED: Final = "was not confirmed"
KEPT: Final = "is priced by hand"
STALE: Final = "has another price by now"


@dataclass(frozen=True, slots=True)
class Proposed:
    """The proposal that holds a list's changes; None if the list changes nothing."""

    proposal: PriceProposal | None
    is_new: bool
    difference: Difference


def difference_of(*, listing: Listing, now: datetime) -> Difference:
    """Return what a list would change; writes nothing."""
    known = Provider.objects.filter(models__prices__source=listing.source)
    providers = {each.provider for each in listing.models} | set(
        known.values_list("slug", flat=True)
    )
    return diff.compare(
        listing, book(providers=providers), now=now, jump_max=settings.PRICE_JUMP_MAX
    )


def propose(*, listing: Listing, by: str, now: datetime, insist: bool = True) -> Proposed:
    """
    Keep what a list would change for somebody to decide; the same changes are kept once.

    Open proposals of the same source give way to it. Without ``insist``, changes that somebody
    has rejected are not proposed again.

    :raises InvalidPriceList: if it would change more than can be kept
    """
    difference = difference_of(listing=listing, now=now)
    changes = [
        recorded.recorded(each, provider_name=_name_of(listing, each.model.provider))
        for each in difference.changes
    ]
    if not difference.applicable:
        return Proposed(None, False, difference)
    if len(json.dumps(changes)) > CHANGES_BYTES_MAX:
        raise InvalidPriceList("changes more than one proposal can hold; split it")
    digest = recorded.digest_of(listing.source, changes)
    found = _known(digest, insist=insist)
    if found is not None:
        return Proposed(found, False, difference)
    made = PriceProposal(
        source=listing.source,
        source_version=listing.version,
        digest=digest,
        changes=changes,
        withdrawn=list(difference.withdrawn),
        counts={
            **recorded.counts_of(changes),
            "withdrawn": difference.withdrawn_count,
            "unchanged": difference.unchanged_count,
        },
        proposed_at=now,
        proposed_by=by,
    )
    return _kept(made, difference, now)


def apply(
    *, proposal_id: int, by: str, now: datetime, confirmed: Collection[str] = ()
) -> PriceProposal:
    """
    Make a proposal's changes prices; applying it again changes nothing.

    ``confirmed`` names, as ``provider/model``, whose jumps are meant. What stays out is told in
    ``outcome``: unconfirmed jumps, prices made by hand, and what has changed since.

    :raises NotFound: if there is no such proposal
    :raises InvalidInput: if it was rejected, or if a name in ``confirmed`` is not in it
    """
    with acting(by), change(scope=GLOBAL_SCOPE, reason=f"price proposal {proposal_id}"):
        proposal = _locked(proposal_id)
        if proposal.state == ProposalState.APPLIED:
            return proposal
        if proposal.state == ProposalState.REJECTED:
            raise InvalidInput("proposal", "was rejected; propose the list anew")
        _check_confirmed(proposal.changes, confirmed)
        left_out = _write(proposal, frozenset(confirmed), now)
        proposal.outcome = {
            "applied": len(proposal.changes) - len(left_out),
            "left_out": left_out,
            "confirmed": sorted(confirmed),
        }
        _decide(proposal, ProposalState.APPLIED, by=by, now=now, note="")
    return proposal


def reject(*, proposal_id: int, by: str, now: datetime, note: str) -> PriceProposal:
    """
    Leave all prices as they are; rejecting it again changes nothing.

    :raises NotFound: if there is no such proposal
    :raises InvalidInput: if it was applied, or if ``note`` is empty or too long
    """
    if not note.strip() or len(note) > NOTE_LENGTH_MAX:
        raise InvalidInput("note", f"must say why, in at most {NOTE_LENGTH_MAX} characters")
    with transaction.atomic():
        proposal = _locked(proposal_id)
        if proposal.state == ProposalState.APPLIED:
            raise InvalidInput("proposal", "was applied already")
        if proposal.is_open:
            _decide(proposal, ProposalState.REJECTED, by=by, now=now, note=note.strip())
    return proposal


def book(*, providers: Collection[str] | None = None) -> Book:
    """Return the price book as lists are compared with it: what is for everybody."""
    rates = Prefetch("rates", PriceRate.objects.order_by("id"))
    versions = PriceVersion.objects.for_everybody().order_by("-effective_from")
    models = Model.objects.select_related("provider").order_by("id")
    if providers is not None:
        models = models.filter(provider__slug__in=providers)
    priced = Prefetch("prices", versions.prefetch_related(rates), to_attr="held")
    return Book(_held(model) for model in models.prefetch_related(priced))


def _held(model: Any) -> HeldModel:
    return HeldModel(
        provider=model.provider.slug,
        name=model.name,
        other_names=tuple(model.other_names),
        prefixes=tuple(model.prefixes),
        prices=tuple(map(_held_price, model.held)),
    )


def _held_price(version: PriceVersion) -> HeldPrice:
    return HeldPrice(
        id=version.pk,
        source=version.source,
        start=version.effective_from,
        end=version.effective_until,
        currency=version.currency,
        rates=tuple(map(rate_of, version.rates.all())),
        region_factors={name: Decimal(text) for name, text in version.region_factors.items()},
    )


def _name_of(listing: Listing, slug: str) -> str:
    return listing.provider_names.get(slug, slug)


def _known(digest: str, *, insist: bool) -> PriceProposal | None:
    """Return the proposal of these very changes that is open, or that somebody has rejected."""
    same = PriceProposal.objects.filter(digest=digest)
    found = same.filter(state=ProposalState.PROPOSED).first()
    if found is None and not insist:
        rejected = same.filter(state=ProposalState.REJECTED).exclude(decided_by=SYSTEM)
        found = rejected.order_by("-id").first()
    return found


def _kept(made: PriceProposal, difference: Difference, now: datetime) -> Proposed:
    """Write the proposal, unless another process was quicker with the same one."""
    try:
        with transaction.atomic():
            made.save(force_insert=True)
            others = PriceProposal.objects.filter(
                source=made.source, state=ProposalState.PROPOSED
            ).exclude(pk=made.pk)
            others.update(
                state=ProposalState.REJECTED,
                decided_by=SYSTEM,
                decided_at=now,
                note=f"Proposal {made.pk} of the same source has taken its place.",
            )
    except IntegrityError:
        found = PriceProposal.objects.get(digest=made.digest, state=ProposalState.PROPOSED)
        return Proposed(found, False, difference)
    return Proposed(made, True, difference)


def _locked(proposal_id: int) -> PriceProposal:
    try:
        return PriceProposal.objects.select_for_update().get(pk=proposal_id)
    except PriceProposal.DoesNotExist as error:
        raise NotFound("proposal", proposal_id) from error


def _check_confirmed(changes: Sequence[Recorded], confirmed: Collection[str]) -> None:
    names = {recorded.called(each) for each in changes if each["needs_confirmation"]}
    for name in confirmed:
        if name not in names:
            raise InvalidInput("confirm", f"names {name[:255]!r}, which needs no confirmation here")


def _decide(
    proposal: PriceProposal, state: ProposalState, *, by: str, now: datetime, note: str
) -> None:
    proposal.state, proposal.decided_by, proposal.decided_at = state, by, now
    proposal.note = note
    proposal.save(update_fields=["state", "decided_by", "decided_at", "note", "outcome"])


def _write(
    proposal: PriceProposal, confirmed: Collection[str], now: datetime
) -> list[dict[str, str]]:
    """Write what nothing stands in the way of; return the rest, each with the reason."""
    providers = _providers(proposal.changes)
    before = book(providers=providers.keys())
    left_out: list[dict[str, str]] = []
    wanted: list[Recorded] = []
    for each in proposal.changes:
        reason = _hindrance(each, before, confirmed, now)
        if reason:
            left_out.append({"model": recorded.called(each), "reason": reason})
        else:
            wanted.append(each)
    models = _models(wanted, providers)
    versions = [
        (models[recorded.called(each)], recorded.price_of(each, now=now)) for each in wanted
    ]
    _write_versions(versions, proposal)
    return left_out


def _providers(changes: Iterable[Recorded]) -> dict[str, Provider]:
    """Return the providers by slug, those that are new made, all locked in one order."""
    names = {each["provider"]: each["provider_name"] for each in changes}
    for slug, name in sorted(names.items()):
        Provider.objects.get_or_create(slug=slug, defaults={"name": name[:255]})
    locked = Provider.objects.select_for_update().filter(slug__in=names).order_by("id")
    return {each.slug: each for each in locked}


def _hindrance(change: Recorded, before: Book, confirmed: Collection[str], now: datetime) -> str:
    """Return why a change is not made, or nothing."""
    if change["kind"] == Kind.KEPT:
        return KEPT
    if change["needs_confirmation"] and recorded.called(change) not in confirmed:
        return UNCONFIRMED
    charged_as, start = (
        before.charged_as(recorded.model_of(change)),
        recorded.start_of(change, now=now),
    )
    held = None
    if charged_as is not None:
        held = charged_as.starting(start) or charged_as.at(start)
    return "" if (held.id if held else None) == change["held"] else STALE


def _models(changes: Iterable[Recorded], providers: Mapping[str, Provider]) -> dict[str, Model]:
    """Return the models by what they are called; those that are new are made."""
    listed = {recorded.called(each): recorded.model_of(each) for each in changes}
    known = Model.objects.select_related("provider").filter(
        provider__in=providers.values(), name__in={each.name for each in listed.values()}
    )
    found = {str(each): each for each in known}
    fresh = [
        importing.model_row(providers[each.provider], each)
        for called, each in listed.items()
        if called not in found
    ]
    made = Model.objects.bulk_create(fresh, batch_size=5_000)
    return found | {str(each): each for each in made}


def _write_versions(priced: Sequence[tuple[Model, ListedPrice]], proposal: PriceProposal) -> None:
    """Write versions with their rates; those that begin at the same instant are replaced."""
    models = {model.pk for model, _ in priced}
    versions = PriceVersion.objects.for_everybody().filter(model__in=models)
    current = {(each.model_id, each.effective_from): each.pk for each in versions}
    fresh: list[PriceVersion] = []
    rows: list[PriceRate] = []
    for model, price in priced:
        version = importing.version_row(
            model, price, source=proposal.source, version=proposal.source_version
        )
        replaced = current.get((model.pk, price.effective_from))
        if replaced is None:
            fresh.append(version)
        else:
            _replace(replaced, version)
        rows += importing.rate_rows(version, price.rates)
    PriceVersion.objects.bulk_create(fresh, batch_size=5_000)
    PriceRate.objects.bulk_create(rows, batch_size=5_000)


def _replace(replaced: int, version: PriceVersion) -> None:
    """
    Write a version in place of another: two that are in force at once cannot be written, so the
    old one gives way first, to an id that its foreign key looks for when the transaction ends.
    """
    version.pk = _next_id()
    PriceVersion.objects.filter(pk=replaced).update(replaced_by_id=version.pk)
    version.save(force_insert=True)


def _next_id() -> int:
    table = PriceVersion._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence(%s, 'id'))", [table])
        return int(cursor.fetchone()[0])
