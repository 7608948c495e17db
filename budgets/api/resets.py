"""Resets of what was spent: of keys and members as LiteLLM has them, of any account in ours."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.utils import timezone
from rest_framework import serializers

from budgets import figures, money, queries
from budgets.api.answers import Money, MoneyText, OrNull
from budgets.api.endpoints import Asked, ManagementView, Strict, endpoint
from budgets.api.fields import OPTIONAL, Amount, AmountText, Text
from budgets.models import Account, Reset
from budgets.services.resets import (
    IDEMPOTENCY_KEY_LENGTH_MAX,
    REASON_LENGTH_MAX,
    Wanted,
    reset_account,
)

UNSAID: Final = "none was given"


class ResetSpend(Strict):
    reset_to = Amount()
    reason = Text(max_length=REASON_LENGTH_MAX, **OPTIONAL)
    idempotency_key = Text(max_length=IDEMPOTENCY_KEY_LENGTH_MAX, **OPTIONAL)


class ResetAccount(Strict):
    reset_to = AmountText()
    reason = Text(max_length=REASON_LENGTH_MAX)
    idempotency_key = Text(max_length=IDEMPOTENCY_KEY_LENGTH_MAX, **OPTIONAL)


class SpendReset(serializers.Serializer):
    """What the running period held before, and what it counts from now on."""

    spend = Money()
    previous_spend = Money()
    total_spend = Money()
    max_budget = Money(allow_null=True)
    budget_reset_at = serializers.DateTimeField(allow_null=True)


class KeySpendReset(SpendReset):
    key_hash = serializers.CharField()


class MemberSpendReset(SpendReset):
    team_id = serializers.CharField()
    user_id = serializers.CharField()


class PeriodReset(serializers.Serializer):
    """What was taken off a running period."""

    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()
    spent_before = MoneyText()
    taken_off = MoneyText()


class AccountReset(serializers.Serializer):
    reset_id = serializers.UUIDField()
    account_id = serializers.UUIDField()
    kind = serializers.CharField()
    organization_id = OrNull()
    reset_to = MoneyText()
    currency = serializers.CharField()
    at = serializers.DateTimeField()
    requested_by = serializers.CharField()
    reason = serializers.CharField()
    periods = PeriodReset(many=True)


class KeyReset(ManagementView):
    @endpoint(takes=ResetSpend, answers=KeySpendReset)
    def post(self, asked: Asked, key: str) -> dict[str, Any]:
        """Have a key count from ``reset_to`` on; what it spent in its life stays told."""
        found = queries.find_key(key)
        return {"key_hash": found.digest, **_reset(found.account, asked)}


class MemberReset(ManagementView):
    @endpoint(takes=ResetSpend, answers=MemberSpendReset)
    def post(self, asked: Asked, team_id: str, user_id: str) -> dict[str, Any]:
        """Have what somebody spent for a team count from ``reset_to`` on."""
        team, user = queries.find_team(team_id), queries.find_user(user_id)
        member = queries.find_member(team=team, user=user)
        named = {"team_id": team.public_id, "user_id": user.public_id}
        return {**named, **_reset(member.account, asked)}


class AnyReset(ManagementView):
    @endpoint(takes=ResetAccount, answers=AccountReset)
    def post(self, asked: Asked, account_id: UUID) -> dict[str, Any]:
        """Have any account count from ``reset_to`` on, in each of its running periods."""
        account = queries.find_account(account_id)
        return _told(account, _done(account, asked))


def _done(account: Account, asked: Asked) -> Sequence[Reset]:
    wanted = Wanted(
        reset_to=asked["reset_to"],
        reason=asked.get("reason") or UNSAID,
        idempotency_key=asked.get("idempotency_key") or "",
    )
    return reset_account(account=account, wanted=wanted, now=timezone.now())


def _reset(account: Account, asked: Asked) -> dict[str, Any]:
    now = timezone.now()
    before = figures.figures_of([account.pk], at=now)[account.pk]
    _done(account, asked)
    after = figures.figures_of([account.pk], at=now)[account.pk]
    governing = after.governing
    return {
        "spend": after.spend,
        "previous_spend": before.spend,
        "total_spend": after.total_spend,
        "max_budget": governing.budget.max_budget if governing else None,
        "budget_reset_at": after.resets_at,
    }


def _told(account: Account, rows: Sequence[Reset]) -> dict[str, Any]:
    first, currency = rows[0], account.currency

    def amount(units: int) -> Decimal:
        return money.to_decimal(units, currency=currency)

    return {
        "reset_id": first.reset_id,
        "account_id": account.pk,
        "kind": account.kind,
        "organization_id": account.organization.public_id if account.organization else "",
        "reset_to": amount(first.reset_to_units),
        "currency": currency,
        "at": first.at,
        "requested_by": first.requested_by,
        "reason": first.reason,
        "periods": [
            {
                "period_start": row.period_start,
                "period_end": row.period_end,
                "spent_before": amount(row.before_units),
                "taken_off": amount(-row.amount_units),
            }
            for row in rows
        ],
    }
