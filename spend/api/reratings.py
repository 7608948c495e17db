"""``/api/v1/reratings`` and ``/api/v1/unpriced-models``: what was charged wrongly, or not yet."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.utils import timezone
from rest_framework import serializers

from budgets import queries
from budgets.api.answers import MoneyText, OrNull
from budgets.api.budgets import headers_of
from budgets.api.endpoints import ACTOR, Answer, Asked, ManagementView, Strict, endpoint
from budgets.api.fields import OPTIONAL, Flag, ProviderName, PublicId, QueryWhole, Text
from budgets.api.inputs import Paged
from budgets.api.platform_inputs import Nothing
from budgets.errors import NotFound
from budgets.queries import PAGE_SIZE_MAX
from spend import exposure, rerating, tasks
from spend.api.fields import Instant
from spend.models import Rerating, UnpricedModel
from spend.rerating import Preview, Scope
from spend.services import reratings, unpriced

ACCOUNTS_MAX: Final = 1_000


class NewRerating(Strict):
    provider = ProviderName()
    model = Text()
    start = Instant()
    end = Instant()
    organization_id = PublicId(**OPTIONAL)
    dry_run = Flag(default=True)
    reason = Text(max_length=reratings.REASON_LENGTH_MAX, **OPTIONAL)


class ListPages(Paged):
    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)


class AccountChange(serializers.Serializer):
    """What an account is charged for these requests, before and after."""

    account_id = serializers.UUIDField()
    account = serializers.CharField(source="label")
    requests = serializers.IntegerField(source="change.requests")
    before = MoneyText(source="change.before")
    after = MoneyText(source="change.after")
    difference = MoneyText(source="change.difference")
    currency = serializers.CharField(source="change.currency")


class ReratingAnswer(serializers.Serializer):
    """
    A re-rating, or what one would do: then ``id`` is null, and ``accounts`` is not.

    ``accounts`` are those whose charge changes by the most; ``accounts_left_out`` tells how many
    more there are.
    """

    id = serializers.IntegerField(allow_null=True)
    dry_run = serializers.BooleanField()
    provider = serializers.CharField()
    model = serializers.CharField()
    organization_id = OrNull()
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    reason = OrNull()
    requested_by = OrNull()
    created_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    requests_total = serializers.IntegerField(allow_null=True)
    requests_seen = serializers.IntegerField()
    requests_changed = serializers.IntegerField()
    requests_skipped = serializers.IntegerField()
    skipped = serializers.DictField(child=serializers.IntegerField())
    differences = serializers.DictField(child=MoneyText())
    accounts = AccountChange(many=True, allow_null=True)
    accounts_left_out = serializers.IntegerField()


class Exposure(serializers.Serializer):
    """What the tokens would cost at the dearest prices that the provider has now."""

    amount = MoneyText()
    currency = serializers.CharField()


class UnpricedAnswer(serializers.Serializer):
    """A model without a price; ``exposure`` has an entry for each currency of the provider."""

    provider = serializers.CharField(source="queued.provider")
    model = serializers.CharField(source="queued.upstream_model")
    refused = serializers.IntegerField(source="queued.refused")
    waiting = serializers.IntegerField(source="queued.waiting")
    input_tokens = serializers.IntegerField(source="queued.input_tokens")
    output_tokens = serializers.IntegerField(source="queued.output_tokens")
    first_seen_at = serializers.DateTimeField(source="queued.first_seen_at")
    last_seen_at = serializers.DateTimeField(source="queued.last_seen_at")
    exposure = Exposure(many=True)


class Reratings(ManagementView):
    @endpoint(takes=ListPages, answers=ReratingAnswer, many=True)
    def get(self, asked: Asked) -> Answer:
        """List the re-ratings, the newest first; the headers tell how many pages there are."""
        rows = Rerating.objects.select_related("organization").order_by("-pk")
        page = queries.page_of(rows, number=asked["page"], size=asked["size"])
        return Answer([_told(each) for each in page.rows], headers_of(page))

    @endpoint(takes=NewRerating, answers=ReratingAnswer, operation_id="rerating_make")
    def post(self, asked: Asked) -> dict[str, Any]:
        """
        Tell what re-rating these requests would change, or with ``dry_run`` false do it.

        Where there are many the answer comes before it is done: ask for it until it has a
        ``finished_at``.
        """
        scope, public_id, now = _scope(asked), asked.get("organization_id"), timezone.now()
        if asked["dry_run"]:
            return _previewed(scope, public_id, reratings.preview(scope=scope, now=now))
        made = reratings.start(scope=scope, by=ACTOR, reason=asked.get("reason") or "", now=now)
        return _told(tasks.rerate_now_or_soon(made))


class ReratingDetail(ManagementView):
    @endpoint(takes=Nothing, answers=ReratingAnswer, operation_id="rerating_info")
    def get(self, asked: Asked, rerating_id: int) -> dict[str, Any]:
        """Tell how far a re-rating has come, and what it has changed."""
        rows = Rerating.objects.select_related("organization")
        found = rows.filter(pk=rerating_id).first()
        if found is None:
            raise NotFound("rerating_id", rerating_id)
        return _told(found)


class UnpricedModels(ManagementView):
    @endpoint(takes=ListPages, answers=UnpricedAnswer, many=True)
    def get(self, asked: Asked) -> Answer:
        """List models that were refused, or wait to be charged, for want of a price."""
        page = queries.page_of(unpriced.waiting(), number=asked["page"], size=asked["size"])
        known = exposure.of_models(page.rows, at=timezone.now())
        views = [UnpricedView(row, known[row.pk]) for row in page.rows]
        return Answer(views, headers_of(page))


@dataclass(frozen=True, slots=True)
class UnpricedView:
    """A row of the queue, and what its tokens may cost."""

    queued: UnpricedModel
    exposure: list[exposure.Exposure]


def _scope(asked: Asked) -> Scope:
    public_id = asked.get("organization_id")
    return Scope(
        provider=asked["provider"],
        upstream_model=asked["model"],
        start=asked["start"],
        end=asked["end"],
        organization_id=queries.find_organization(public_id).pk if public_id else None,
    )


def _previewed(scope: Scope, public_id: str | None, found: Preview) -> dict[str, Any]:
    return {
        **_scope_told(scope, public_id),
        "id": None,
        "dry_run": True,
        "reason": "",
        "requested_by": "",
        "created_at": None,
        "finished_at": None,
        "requests_total": found.seen,
        "requests_seen": found.seen,
        "requests_changed": found.changed,
        "requests_skipped": found.skipped.total(),
        "skipped": found.skipped,
        "differences": {name: each.difference for name, each in found.by_currency.items()},
        "accounts": found.rows(most=ACCOUNTS_MAX),
        "accounts_left_out": max(0, len(found.by_account) - ACCOUNTS_MAX),
    }


def _told(made: Rerating) -> dict[str, Any]:
    public_id = made.organization.public_id if made.organization else None
    return {
        **_scope_told(rerating.scope_of(made), public_id),
        "id": made.pk,
        "dry_run": False,
        "reason": made.reason,
        "requested_by": made.requested_by,
        "created_at": made.created_at,
        "finished_at": made.finished_at,
        "requests_total": made.requests_total,
        "requests_seen": made.requests_seen,
        "requests_changed": made.requests_changed,
        "requests_skipped": made.requests_skipped,
        "skipped": made.skipped,
        "differences": {name: Decimal(text) for name, text in made.differences.items()},
        "accounts": None,
        "accounts_left_out": 0,
    }


def _scope_told(scope: Scope, public_id: str | None) -> dict[str, Any]:
    return {
        "provider": scope.provider,
        "model": scope.upstream_model,
        "organization_id": public_id or "",
        "start": scope.start,
        "end": scope.end,
    }
