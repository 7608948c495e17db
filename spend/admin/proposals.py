"""Price proposals: what a list would change, side by side, and the decision about it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.admin import display as column
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from budgets import display
from budgets.admin.base import ReadOnlyAdmin, acting_for, actor_of
from budgets.admin.lists import state, two_lines
from budgets.errors import InvalidInput, NotFound
from spend import proposals_told
from spend.catalogues import recorded
from spend.catalogues.diff import Kind
from spend.models import PriceProposal, ProposalState
from spend.services import price_imports

OPEN_COUNTED_MAX: Final = 99
CHANGES_SHOWN_MAX: Final = 500
LINES_SHOWN_MAX: Final = 40
WITHDRAWN_SHOWN_MAX: Final = 100
STATES: Final = {
    ProposalState.PROPOSED: ("warning", "pending_actions", "Open"),
    ProposalState.APPLIED: ("fine", "check_circle", "Applied"),
    ProposalState.REJECTED: ("full", "block", "Rejected"),
}


@dataclass(frozen=True, slots=True)
class LineShown:
    name: str
    old: str
    new: str
    per: str
    factor: str
    is_jump: bool


@dataclass(frozen=True, slots=True)
class ChangeShown:
    called: str
    model: str
    kind: str
    start: str
    currency: str
    is_kept: bool
    needs_confirmation: bool
    has_other_currency: bool
    lines: list[LineShown]
    lines_left: int


def waiting() -> QuerySet[PriceProposal]:
    """Return the proposals that wait for somebody; no more than can be counted beside a link."""
    return PriceProposal.objects.filter(state=ProposalState.PROPOSED).order_by()[:OPEN_COUNTED_MAX]


@require_POST
def apply_view(request: HttpRequest, proposal_id: int) -> HttpResponse:
    """Apply the proposal, with the jumps that are ticked, and go back to its page."""
    return _decided(
        request,
        proposal_id,
        lambda by: price_imports.apply(
            proposal_id=proposal_id,
            by=by,
            now=timezone.now(),
            confirmed=request.POST.getlist("confirm"),
        ),
    )


@require_POST
def reject_view(request: HttpRequest, proposal_id: int) -> HttpResponse:
    """Reject the proposal and go back to its page."""
    note = request.POST.get("note", "")
    return _decided(
        request,
        proposal_id,
        lambda by: price_imports.reject(
            proposal_id=proposal_id, by=by, now=timezone.now(), note=note
        ),
    )


@admin.register(PriceProposal)
class PriceProposalAdmin(ReadOnlyAdmin):
    purpose = "A price proposal is what a price list would change, until somebody decides."
    list_display = ("called", "in_state", "changing", "proposed_at", "decided")
    list_filter = ("state", "source")
    search_fields = ("source", "source_version")
    search_help_text = "Source or its version"
    ordering = ("-id",)
    fields = (("proposed_at", "proposed_by"), ("decided_at", "decided_by"), "note")
    change_form_outer_before_template = "spend/proposal.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        found = super().get_queryset(request)
        is_page = request.resolver_match and request.resolver_match.kwargs.get("object_id")
        return found if is_page else found.defer("changes", "withdrawn")

    def get_urls(self) -> Any:
        return [
            path(
                "<int:proposal_id>/apply/", self.admin_site.admin_view(apply_view),
                name="price_proposal_apply",
            ),
            path(
                "<int:proposal_id>/reject/", self.admin_site.admin_view(reject_view),
                name="price_proposal_reject",
            ),
            *super().get_urls(),
        ]  # fmt: skip

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        return super().shown(request, obj) | ({} if obj is None else told(obj))

    @column(description="List", ordering="source")
    def called(self, obj: PriceProposal) -> str:
        return two_lines(obj.source, obj.source_version)

    @column(description="State", ordering="state")
    def in_state(self, obj: PriceProposal) -> str:
        return state(*STATES[ProposalState(obj.state)])

    @column(description="Would change")
    def changing(self, obj: PriceProposal) -> str:
        return proposals_told.counts(obj.counts)

    @column(description="Decided by", ordering="decided_by")
    def decided(self, obj: PriceProposal) -> str:
        return obj.decided_by or "–"


def told(proposal: PriceProposal) -> dict[str, Any]:
    """Return what the page of a proposal shows, grouped by provider, jumps first."""
    ordered = sorted(proposal.changes, key=_order)
    kept = ordered[:CHANGES_SHOWN_MAX]
    by_provider = sorted(kept, key=lambda each: each["provider"])
    return {
        "proposal": proposal,
        "sums": proposals_told.counts(proposal.counts),
        "groups": [
            (provider, [_shown(each) for each in group])
            for provider, group in groupby(by_provider, key=lambda each: each["provider"])
        ],
        "not_shown": display.count(len(ordered) - len(kept)) if len(ordered) > len(kept) else "",
        "withdrawn": proposal.withdrawn[:WITHDRAWN_SHOWN_MAX],
        "left_out": proposal.outcome.get("left_out", ())[:CHANGES_SHOWN_MAX],
        "applied_count": proposal.outcome.get("applied"),
    }


def _order(change: recorded.Recorded) -> tuple[bool, bool, str]:
    is_kept = change["kind"] == Kind.KEPT
    return is_kept, not change["needs_confirmation"], recorded.called(change)


def _shown(change: recorded.Recorded) -> ChangeShown:
    lines = proposals_told.lines_of(change)
    jumps_first = sorted(lines, key=lambda line: not line["jump"])
    said = change["effective_from"]
    is_kept = change["kind"] == Kind.KEPT
    return ChangeShown(
        called=recorded.called(change),
        model=change["model"],
        kind=proposals_told.KIND_WORDS[Kind(change["kind"])],
        start=proposals_told.start_words(datetime.fromisoformat(said) if said else None),
        currency=change["currency"],
        is_kept=is_kept,
        needs_confirmation=change["needs_confirmation"] and not is_kept,
        has_other_currency=change["held"] is not None
        and change["held_currency"] != change["currency"],
        lines=list(_lines(jumps_first[:LINES_SHOWN_MAX])),
        lines_left=max(0, len(lines) - LINES_SHOWN_MAX),
    )


def _lines(lines: Iterable[dict[str, Any]]) -> Iterable[LineShown]:
    for line in lines:
        component = line["component"]
        yield LineShown(
            name=proposals_told.class_words(line),
            old=proposals_told.amount(component, line["old"]) if line["old"] else "–",
            new=proposals_told.amount(component, line["new"]),
            per=proposals_told.unit_words(component),
            factor=_factor(line),
            is_jump=line["jump"],
        )


def _factor(line: Mapping[str, Any]) -> str:
    """Return how many times as much it costs, or why it jumps without such a number."""
    if line["factor"]:
        return f"×{line['factor']}"
    if not line["jump"]:
        return ""
    return "0 ↔ more" if line["old"] else "very dear"


def _decided(request: HttpRequest, proposal_id: int, decide: Any) -> HttpResponse:
    if not request.user.has_perm("spend.change_priceproposal"):
        raise PermissionDenied
    try:
        with acting_for(request):
            proposal = decide(actor_of(request))
    except NotFound as error:
        raise Http404 from error
    except InvalidInput as error:
        messages.error(request, f"Not done: {error.field} {error.problem}.")
    else:
        messages.success(request, f"{proposal} is {proposal.get_state_display().lower()}.")
    page = reverse("admin:spend_priceproposal_change", args=[proposal_id])
    return HttpResponseRedirect(page)
