"""``/api/v1/price-proposals``: what price lists would change, and the decision about it."""

from typing import Any, Final

from django.utils import timezone
from rest_framework import serializers

from budgets import queries
from budgets.api.answers import Anything
from budgets.api.budgets import headers_of
from budgets.api.endpoints import ACTOR, Answer, Asked, ManagementView, Strict, endpoint
from budgets.api.fields import OPTIONAL, OneOf, QueryWhole, Text, TextList
from budgets.api.inputs import Paged
from budgets.errors import InvalidInput
from spend.catalogues import sources
from spend.catalogues.listing import InvalidPriceList, Listing
from spend.models import PriceProposal, ProposalState
from spend.services import price_imports
from spend.services.price_imports import NOTE_LENGTH_MAX

CONTENT_CHARACTERS_MAX: Final = 2 * 2**20 - 2**10
"""So that it fits into a body."""

SIZE: Final = 20


class ListProposals(Paged):
    state = OneOf(tuple(ProposalState.values), **OPTIONAL)
    size = QueryWhole(min_value=1, max_value=queries.PAGE_SIZE_MAX, default=SIZE)


class Propose(Strict):
    """``content`` is the list as text; that of ``genai-prices`` is installed and needs none."""

    source = OneOf(sources.NAMES)  # type: ignore[assignment]  # DRF has an attribute of that name
    content = Text(max_length=CONTENT_CHARACTERS_MAX, **OPTIONAL)


class ApplyProposal(Strict):
    """``confirm`` names, as ``provider/model``, whose jumps are meant."""

    confirm = TextList(**OPTIONAL)


class RejectProposal(Strict):
    note = Text(max_length=NOTE_LENGTH_MAX)


class ProposalShort(serializers.ModelSerializer):
    class Meta:
        model = PriceProposal
        fields = (
            "id", "source", "source_version", "state", "counts", "outcome",
            "proposed_at", "proposed_by", "decided_at", "decided_by", "note",
        )  # fmt: skip

    counts = Anything()
    outcome = Anything()


class Proposal(ProposalShort):
    """A proposal with its changes; rates are texts, each for so many units."""

    class Meta(ProposalShort.Meta):
        fields = (*ProposalShort.Meta.fields, "changes", "withdrawn")  # type: ignore[assignment]

    changes = Anything()
    withdrawn = Anything()


class PriceProposals(ManagementView):
    @endpoint(takes=ListProposals, answers=ProposalShort, many=True)
    def get(self, asked: Asked) -> Answer:
        """List proposals without their changes, the newest first."""
        found = PriceProposal.objects.defer("changes", "withdrawn")
        if asked.get("state"):
            found = found.filter(state=asked["state"])
        page = queries.page_of(found, number=asked["page"], size=asked["size"])
        return Answer(page.rows, headers_of(page))

    @endpoint(takes=Propose, answers=Proposal, operation_id="price_proposal_create")
    def post(self, asked: Asked) -> PriceProposal:
        """Propose what a list would change; the same changes are proposed once."""
        try:
            made = price_imports.propose(listing=_listing(asked), by=ACTOR, now=timezone.now())
        except InvalidPriceList as error:
            raise InvalidInput("content", str(error)) from error
        if made.proposal is None:
            raise InvalidInput("content", "changes nothing")
        return made.proposal


class PriceProposalApply(ManagementView):
    @endpoint(takes=ApplyProposal, answers=Proposal, operation_id="price_proposal_apply")
    def post(self, asked: Asked, *, proposal_id: int) -> PriceProposal:
        """Make its changes prices; applying it again changes nothing."""
        return price_imports.apply(
            proposal_id=proposal_id,
            by=ACTOR,
            now=timezone.now(),
            confirmed=asked.get("confirm") or (),
        )


class PriceProposalReject(ManagementView):
    @endpoint(takes=RejectProposal, answers=Proposal, operation_id="price_proposal_reject")
    def post(self, asked: Asked, *, proposal_id: int) -> PriceProposal:
        """Leave all prices as they are, and keep why."""
        return price_imports.reject(
            proposal_id=proposal_id, by=ACTOR, now=timezone.now(), note=asked["note"]
        )


def _listing(asked: dict[str, Any]) -> Listing:
    source, content = asked["source"], asked.get("content")
    if (content is None) != (source == sources.GENAI):
        raise InvalidInput("content", "is needed" if content is None else "is not taken from here")
    return sources.read(source=source, content=None if content is None else content.encode())
