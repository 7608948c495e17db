"""``/api/v1/increases``: more money for a while. Amounts are texts, as all below ``/api/v1``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.utils import timezone
from rest_framework import serializers

from budgets import queries
from budgets.ancestors import Room, room_above
from budgets.api import increase_inputs as inputs
from budgets.api.answers import MoneyText, OrNull
from budgets.api.budgets import headers_of
from budgets.api.endpoints import Answer, Asked, ManagementView, endpoint
from budgets.figures import Figures, InForce, figures_of
from budgets.models import Increase, IncreaseState
from budgets.services import increases
from budgets.services.increases import Amended, Person, Wanted


class AccountNamed(serializers.Serializer):
    id = serializers.CharField()
    kind = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field, which DRF takes out


class IncreaseRow(serializers.Serializer):
    """An increase, and what its budget holds on the account now."""

    id = serializers.CharField(source="row.pk")
    account = AccountNamed(source="row.account")
    organization_id = OrNull(source="row.account.organization.public_id", default=None)
    budget_id = serializers.CharField(source="row.budget.public_id")
    amount = MoneyText(source="row.amount")
    currency = serializers.CharField(source="row.account.currency")
    starts_at = serializers.DateTimeField(source="row.starts_at")
    ends_at = serializers.DateTimeField(source="row.ends_at")
    why = serializers.CharField(source="row.why")
    state = serializers.CharField(source="row.state")
    counts_now = serializers.BooleanField()
    is_grant = serializers.BooleanField(source="row.is_grant")
    asked_by = serializers.CharField(source="row.asked_by")
    asked_at = serializers.DateTimeField(source="row.asked_at")
    decided_by = OrNull(source="row.decided_by")
    decided_at = serializers.DateTimeField(source="row.decided_at", allow_null=True)
    seconded_by = OrNull(source="row.seconded_by")
    seconded_at = serializers.DateTimeField(source="row.seconded_at", allow_null=True)
    cancelled_by = OrNull(source="row.cancelled_by")
    cancelled_at = serializers.DateTimeField(source="row.cancelled_at", allow_null=True)
    note = OrNull(source="row.note")
    max_budget = MoneyText(source="row.budget.max_budget", allow_null=True)
    limit = MoneyText(source="standing.limit", allow_null=True)
    spent = MoneyText(source="standing.spend", allow_null=True)
    remaining = MoneyText(source="standing.remaining", allow_null=True)


class RoomAbove(serializers.Serializer):
    """What an account above has left; if less than the increase, that refuses first."""

    account = AccountNamed()
    budget_id = serializers.CharField(source="standing.budget.public_id")
    limit = MoneyText(source="standing.limit", allow_null=True)
    remaining = MoneyText(source="standing.remaining", allow_null=True)
    would_exceed = serializers.BooleanField()


class IncreaseDetail(IncreaseRow):
    above = RoomAbove(many=True)


@dataclass(frozen=True, slots=True)
class IncreaseView:
    row: Increase
    standing: InForce | None
    at: datetime
    above: Sequence[Room] = ()

    @property
    def counts_now(self) -> bool:
        return self.row.state == IncreaseState.APPROVED and self.row.added.counts_at(self.at)


class Increases(ManagementView):
    @endpoint(takes=inputs.ListIncreases, answers=IncreaseRow, many=True)
    def get(self, asked: Asked) -> Answer:
        """List increases, the newest first."""
        found = queries.all_increases()
        for name, path in _FILTERS.items():
            if value := asked.get(name):
                found = found.filter(**{path: value})
        page = queries.page_of(found, number=asked["page"], size=asked["size"])
        return Answer(_views(page.rows, timezone.now()), headers_of(page))

    @endpoint(takes=inputs.AskForIncrease, answers=IncreaseDetail, operation_id="increase_ask")
    def post(self, asked: Asked) -> IncreaseView:
        """Ask for an increase; it counts when somebody else has approved it."""
        now = timezone.now()
        account = queries.find_account(asked["account_id"])
        budget_id = asked.get("budget_id")
        row = increases.ask(
            account=account,
            budget=queries.find_any_budget(budget_id) if budget_id else None,
            wanted=Wanted(
                asked["amount"], asked["why"], asked.get("starts_at"), asked.get("ends_at")
            ),
            by=_person(asked),
            now=now,
        )
        return _told(row.pk, now)


class IncreaseOne(ManagementView):
    @endpoint(takes=inputs.OneIncrease, answers=IncreaseDetail, operation_id="increase_info")
    def get(self, asked: Asked, *, increase_id: UUID) -> IncreaseView:
        """Tell all about an increase, and what every account above has left."""
        return _told(increase_id, timezone.now())


class IncreaseApprove(ManagementView):
    @endpoint(takes=inputs.ApproveIncrease, answers=IncreaseDetail)
    def post(self, asked: Asked, *, increase_id: UUID) -> IncreaseView:
        """Approve an increase, or be the first of two who must; who asked may not."""
        now = timezone.now()
        increases.approve(
            increase_id=increase_id,
            by=_person(asked),
            now=now,
            amended=Amended(asked.get("amount"), asked.get("starts_at"), asked.get("ends_at")),
            note=asked.get("note") or "",
        )
        return _told(increase_id, now)


class IncreaseDeny(ManagementView):
    @endpoint(takes=inputs.DenyIncrease, answers=IncreaseDetail)
    def post(self, asked: Asked, *, increase_id: UUID) -> IncreaseView:
        """Refuse what was asked for; ``note`` says why."""
        now = timezone.now()
        increases.deny(increase_id=increase_id, by=_person(asked), note=asked["note"], now=now)
        return _told(increase_id, now)


class IncreaseCancel(ManagementView):
    @endpoint(takes=inputs.CancelIncrease, answers=IncreaseDetail)
    def post(self, asked: Asked, *, increase_id: UUID) -> IncreaseView:
        """Take back what was asked for, or end what was approved from the next request on."""
        now = timezone.now()
        increases.cancel(
            increase_id=increase_id, by=_person(asked), note=asked.get("note") or "", now=now
        )
        return _told(increase_id, now)


class IncreaseShorten(ManagementView):
    @endpoint(takes=inputs.ShortenIncrease, answers=IncreaseDetail)
    def post(self, asked: Asked, *, increase_id: UUID) -> IncreaseView:
        """Let an approved increase end earlier."""
        now = timezone.now()
        increases.shorten(
            increase_id=increase_id,
            by=_person(asked),
            ends_at=asked["ends_at"],
            note=asked.get("note") or "",
            now=now,
        )
        return _told(increase_id, now)


_FILTERS = {
    "state": "state",
    "account_id": "account_id",
    "organization_id": "account__organization__public_id",
    "asked_by": "asked_by",
}


def _person(asked: Asked) -> Person:
    """Return for whom the master key acts: a user, or itself."""
    user_id = asked.get("user_id")
    return Person(queries.find_user(user_id)) if user_id else Person()


def _told(increase_id: UUID, at: datetime) -> IncreaseView:
    (view,) = _views([queries.find_increase(increase_id)], at)
    row = view.row
    return IncreaseView(row, view.standing, at, room_above(row.account, row.amount, at=at))


def _views(rows: Iterable[Increase], at: datetime) -> list[IncreaseView]:
    rows = list(rows)
    figures = figures_of({row.account_id for row in rows}, at=at)
    return [IncreaseView(row, _standing(row, figures[row.account_id]), at) for row in rows]


def _standing(row: Increase, figures: Figures) -> InForce | None:
    """Return what the budget holds, unless it is no longer in force there."""
    return next((each for each in figures.budgets if each.budget.pk == row.budget_id), None)
