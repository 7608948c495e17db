"""Resets: one account counts from a number on; nothing else changes, and nothing is lost."""

import threading
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import Error as DatabaseError
from django.db import connection, connections

from budgets import figures, totals
from budgets.changes import acting
from budgets.errors import InvalidInput
from budgets.models import PLATFORM_KINDS, Account, AccountKind, Change, PeriodTotal, Reset
from budgets.periods import FOREVER, Period
from budgets.services import accounts, resets
from budgets.services.accounts import Terms
from budgets.services.limits import Limits, set_limits
from budgets.services.resets import Wanted, reset_account
from spend import ledger, verification
from spend.models import QuarterHour, SpendEvent
from spend.verification import Difference
from tests.api_client import spend
from tests.budgets.support import record_everything
from tests.conftest import Cast

pytestmark = pytest.mark.usefixtures("alone")

MONTH = Terms(max_budget=Decimal(100), duration="1mo", enforcement="strict")


def now() -> datetime:
    return datetime.now(UTC)


def reset(account: Account, to: str = "0", **fields: str) -> list[Reset]:
    wanted = Wanted(Decimal(to), **{"reason": "a slip of the pen"} | fields)
    return reset_account(account=account, wanted=wanted, now=now())


def differences() -> tuple[Difference, ...]:
    record_everything()
    return verification.verify().differences


def limit(account: Account, **limits: Any) -> None:
    set_limits(account=account, limits=Limits(**limits), now=now())


def spent(account: Account) -> tuple[Decimal, Decimal]:
    """Return what the running period holds, and the lifetime."""
    found = figures.figures_of([account.pk], at=now())[account.pk]
    return found.spend, found.total_spend


@pytest.fixture
def key(cast: Cast) -> Account:
    """The account of a key that has spent 5 of the month's 100."""
    account = cast.key("100").key.account
    spend(cast.organization, [account.pk, cast.organization.account_id], "5")
    return account


def test_running_period_counts_from_the_number_and_the_lifetime_stays(key: Account) -> None:
    reset(key, "1.25")

    assert spent(key) == (Decimal("1.25"), Decimal(5))


def test_other_accounts_of_the_path_keep_what_they_have_spent(cast: Cast, key: Account) -> None:
    reset(key)

    assert spent(cast.organization.account) == (Decimal(5), Decimal(5))


def test_no_report_and_no_event_knows_of_it(key: Account) -> None:
    reset(key)

    kept = QuarterHour.objects.filter(account_id=key.pk)
    assert sum(row.amount_units for row in kept) == 5 * 10**9
    assert SpendEvent.objects.filter(accounts__contains=[key.pk]).count() == 1


def test_every_running_period_gets_its_own_row_and_none_falls_below_zero(
    cast: Cast, key: Account
) -> None:
    limit(key, windows=[Terms(max_budget=Decimal(3), duration="1d")])

    rows = reset(key, "2")

    assert [row.amount_units for row in rows] == [-3 * 10**9] * 2
    assert {row.reset_id for row in rows} == {rows[0].reset_id}


def test_period_that_holds_less_than_the_number_stays_as_it_is(cast: Cast) -> None:
    account = cast.key().key.account
    windows = [Terms(max_budget=Decimal(9), duration="1d")]
    limit(account, terms=Terms(max_budget=Decimal(9)), windows=windows)
    spend(cast.organization, [account.pk], "4", at=now() - timedelta(days=2))
    spend(cast.organization, [account.pk], "1")

    life, day = reset(account, "3")

    assert (life.before_units, life.amount_units) == (5 * 10**9, -2 * 10**9)
    assert (day.before_units, day.amount_units) == (10**9, 0)
    assert spent(account) == (Decimal(3), Decimal(5))


@pytest.mark.parametrize("kind", AccountKind)
def test_each_kind_of_account_can_be_reset(kind: AccountKind, cast: Cast) -> None:
    account = account_of(kind, cast)
    charged = account.holder_id or account.pk
    spend(cast.organization, [charged], "2", model=account.model or "model")

    reset(account, "0.5")

    assert spent(account) == (Decimal("0.5"), Decimal(2))
    assert differences() == ()


def account_of(kind: AccountKind, cast: Cast) -> Account:
    """Return an account of that kind with a month's limit."""
    if kind in PLATFORM_KINDS:
        account = accounts.platform_account(kind=kind, text=uuid.uuid4().hex)
    elif kind == AccountKind.HOLDER_MODEL:
        limit(cast.team.account, models={"narrow": MONTH})
        return Account.objects.get(holder=cast.team.account)
    else:
        account = Account.objects.create(
            organization=cast.organization, kind=kind, label=f"a {kind}"
        )
    limit(account, terms=MONTH)
    return account


def test_next_period_begins_at_zero_all_the_same(cast: Cast, key: Account) -> None:
    (row,) = reset(key)

    following = Period(row.period_end, row.period_end + timedelta(days=31))

    totals.make_missing(wanted=[(key.pk, following)])
    assert PeriodTotal.objects.get(account=key, period_start=row.period_end).amount_units == 0


def test_total_that_is_summed_anew_is_the_same(key: Account) -> None:
    (row,) = reset(key, "2")
    kept = PeriodTotal.objects.filter(account=key, period_start=row.period_start)
    (before,) = kept.values_list("amount_units", "reset_units", "events")
    kept.delete()

    totals.make_missing(wanted=[(key.pk, Period(row.period_start, row.period_end))])

    assert list(kept.values_list("amount_units", "reset_units", "events")) == [before]


def test_requests_after_a_reset_count_on_top_of_it(cast: Cast, key: Account) -> None:
    reset(key, "2")
    spend(cast.organization, [key.pk], "0.75")

    assert spent(key) == (Decimal("2.75"), Decimal("5.75"))
    assert differences() == ()


def test_verification_finds_a_total_that_has_forgotten_a_reset(key: Account) -> None:
    (row,) = reset(key, "2")
    kept = PeriodTotal.objects.filter(account=key, period_start=row.period_start)

    kept.update(amount_units=5 * 10**9)
    found = [str(each) for each in differences()]
    kept.update(amount_units=2 * 10**9, reset_units=0)
    found += [str(each) for each in differences()]
    kept.update(reset_units=3 * 10**9)

    assert len(found) == 2
    assert found[0].startswith(f"period total of account {key.pk}")
    assert found[1].startswith(f"what resets took off of account {key.pk}")
    assert differences() == ()


# --- Who and why -------------------------------------------------------------------------


def test_who_and_why_stand_on_the_row_and_in_the_history(key: Account) -> None:
    with acting("admin:ada"):
        (row,) = reset(key, reason="  double billing \U0001f4b8 ")

    kept = Change.objects.get(table_name="budgets_reset", object_id=str(row.pk))
    assert (row.requested_by, row.reason) == ("admin:ada", "double billing \U0001f4b8")
    assert (kept.action, kept.actor, kept.reason) == ("insert", "admin:ada", row.reason)
    assert kept.after is not None
    assert kept.after["account_id"] == str(key.pk)


@pytest.mark.parametrize("statement", [
    "UPDATE budgets_reset SET reason = 'x'", "DELETE FROM budgets_reset", "TRUNCATE budgets_reset",
])  # fmt: skip
def test_a_reset_is_never_altered(statement: str, key: Account) -> None:
    reset(key)

    with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
        cursor.execute(statement)


# --- What is refused ---------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "  \n\t", "a\x00b", "x" * 501])
def test_reason_that_says_nothing_or_cannot_be_kept_is_refused(reason: str, key: Account) -> None:
    with pytest.raises(InvalidInput) as refused:
        reset(key, reason=reason)

    assert refused.value.field == "reason"
    assert spent(key) == (Decimal(5), Decimal(5))


@pytest.mark.parametrize("reason", [
    "'; DROP TABLE budgets_reset; --", "<script>alert(1)</script>", "%s {} \\", "\u202egnorw",
])  # fmt: skip
def test_hostile_reason_is_kept_as_it_is(reason: str, key: Account) -> None:
    (row,) = reset(key, reason=reason)

    assert Reset.objects.get(pk=row.pk).reason == reason


@pytest.mark.parametrize("to", [
    "5.000000001", "-0.000000001", "NaN", "Infinity", "1000000001", "0.0000000001",
])  # fmt: skip
def test_number_that_is_not_between_zero_and_what_was_spent_is_refused(
    to: str, key: Account
) -> None:
    with pytest.raises(InvalidInput) as refused:
        reset(key, to)

    assert refused.value.field == "reset_to"
    assert not Reset.objects.filter(account_id=key.pk).exists()


# --- Once, and in parallel ---------------------------------------------------------------


def test_same_idempotency_key_resets_once(cast: Cast, key: Account) -> None:
    first = reset(key, "1", idempotency_key="monday")
    spend(cast.organization, [key.pk], "2")

    again = reset(key, "1", idempotency_key="monday")

    assert [row.pk for row in again] == [row.pk for row in first]
    assert spent(key)[0] == Decimal(3)
    with pytest.raises(InvalidInput, match="another amount"):
        reset(key, "2", idempotency_key="monday")


def test_idempotency_key_of_one_account_says_nothing_about_another(
    cast: Cast, key: Account
) -> None:
    reset(key, "1", idempotency_key="monday")
    reset(cast.organization.account, "1", idempotency_key="monday")

    assert spent(cast.organization.account)[0] == Decimal(1)


def test_resets_beside_the_recorder_lose_no_unit(cast: Cast, key: Account) -> None:
    def record() -> None:
        try:
            for _ in range(20):
                spend(cast.organization, [key.pk], "0.1")
        finally:
            connections.close_all()

    recorders = [threading.Thread(target=record) for _ in range(3)]
    for each in recorders:
        each.start()
    rows = [row for _ in range(15) for row in reset(key)]
    for each in recorders:
        each.join()

    events, _ = ledger.sum_of(key.pk, Period(rows[0].period_start, rows[0].period_end))
    total = PeriodTotal.objects.get(account=key, period_start=rows[0].period_start)
    assert events == 11 * 10**9
    assert total.amount_units == events + sum(row.amount_units for row in rows)
    assert total.amount_units >= 0
    assert differences() == ()


def test_account_without_a_budget_counts_its_life_anew(cast: Cast) -> None:
    account = cast.key().key.account
    spend(cast.organization, [account.pk], "2")

    (row,) = reset(account)

    assert Period(row.period_start, row.period_end) == FOREVER
    assert spent(account) == (Decimal(0), Decimal(2))
    assert resets.running(account, at=now())[0].spent_units == 2 * 10**9
