"""
Resets: what an account has spent in its running periods is counted anew, from a number on.

Nothing of the ledger is edited, and nothing seems less spent: a reset is rows beside the events,
one for each running period, and period totals tell apart what was spent and what was taken off.
"""

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Final

from django.db import models, transaction
from redis.exceptions import RedisError

from budgets import changes, in_force, money, store_answers, storekeeper, totals
from budgets.errors import InvalidInput, NotRecorded
from budgets.models import PLATFORM, Account, Budget, Partition, PeriodTotal, Reset
from budgets.money import Units
from budgets.periods import FOREVER, Period
from budgets.storekeeper import PARTITION

log = logging.getLogger(__name__)

REASON_LENGTH_MAX: Final = 500
IDEMPOTENCY_KEY_LENGTH_MAX: Final = 128
RECORDED_SECONDS_MAX: Final = 5.0
POLL_SECONDS: Final = 0.05
UNRECORDED_MAX: Final = 2_000
"""Beyond so many events that wait to be recorded nobody looks whether they are the account's."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A reset as somebody asks for it; with an idempotency key it is done once."""

    reset_to: Decimal
    reason: str
    idempotency_key: str = ""


def reset_account(*, account: Account, wanted: Wanted, now: datetime) -> list[Reset]:
    """
    Have an account count from ``reset_to`` on, in every running period that holds more; return
    what was taken off each. Other accounts stay as they are, and so does what is reserved.

    Takes until the recorder has recorded what the account was charged before; what is charged
    meanwhile counts after the reset.

    :raises InvalidInput: naming what does not fit
    :raises NotRecorded: if the recorder did not get there within ``RECORDED_SECONDS_MAX``
    """
    reason, reset_to = _checked_reason(wanted.reason), _checked_amount(wanted.reset_to, account)
    _check_idempotency_key(wanted.idempotency_key)
    _wait_until_recorded(account)
    with changes.change(scope=account.organization_id or PLATFORM, reason=reason):
        partition = totals.lock_partition()
        if done := _done_before(account, wanted, reset_to):
            return done
        rows = _rows(account, reset_to, now)
        for row in rows:
            row.reason, row.idempotency_key = reason, wanted.idempotency_key
        _write(rows, partition)
    return rows


def running(account: Account, *, at: datetime) -> list[PeriodTotal]:
    """Return what the ledger has of the periods that a reset is about, the longest first."""
    wanted = _periods(account, at)
    known = PeriodTotal.objects.filter(account=account, period_start__in=[p.start for p in wanted])
    totals_ = [row for row in known if Period(row.period_start, row.period_end) in wanted]
    return sorted(totals_, key=lambda row: row.period_start)


def _rows(account: Account, reset_to: Units, now: datetime) -> list[Reset]:
    totals.make_missing(wanted={(account.pk, period) for period in _periods(account, now)})
    spent = running(account, at=now)
    most = max(row.amount_units for row in spent)
    if reset_to > most:
        told = money.plain_units(max(most, 0), currency=account.currency)
        raise InvalidInput("reset_to", f"must be from 0 to what is spent, {told}")
    reset_id, by = uuid.uuid4(), changes.actor()
    return [
        Reset(
            reset_id=reset_id,
            account_id=account.pk,
            period_start=row.period_start,
            period_end=row.period_end,
            reset_to_units=reset_to,
            before_units=row.amount_units,
            amount_units=min(0, reset_to - row.amount_units),
            at=now,
            requested_by=by,
        )
        for row in spent
    ]


def _write(rows: Sequence[Reset], partition: Partition) -> None:
    """Add the rows, keep the totals in step, and have the counter loaded anew."""
    Reset.objects.bulk_create(rows)
    account_id = rows[0].account_id
    for row in rows:
        PeriodTotal.objects.filter(
            account=account_id, period_start=row.period_start, period_end=row.period_end
        ).update(
            amount_units=models.F("amount_units") + row.amount_units,
            reset_units=models.F("reset_units") - row.amount_units,
        )
    totals.note_reloads(partition=partition, account_ids=[account_id])
    transaction.on_commit(partial(_drop_counter, partition, account_id))


def _drop_counter(partition: Partition, account_id: uuid.UUID) -> None:
    """Let the very next request load the new number; the recorder does it too, a moment later."""
    try:
        storekeeper.reload(
            generation=partition.generation, revision=partition.revision, accounts=[account_id]
        )
    except (RedisError, storekeeper.Closed):
        log.warning("counter_not_dropped", extra={"account": str(account_id)})


def _periods(account: Account, at: datetime) -> set[Period]:
    """
    Return the running periods of the budgets in force. Where none of them tells what ``spend``
    is about, it is about the account's whole life, and so is a reset.
    """
    budgets: Sequence[Budget] = in_force.budgets_on([account.pk]).get(account.pk, ())
    periods = {budget.period_at(at) for budget in budgets}
    governed = any(not budget.window_of_id for budget in budgets)
    return periods if governed else periods | {FOREVER}


def _done_before(account: Account, wanted: Wanted, reset_to: Units) -> list[Reset]:
    if not wanted.idempotency_key:
        return []
    done = list(
        Reset.objects.filter(
            account_id=account.pk, idempotency_key=wanted.idempotency_key
        ).order_by("period_start")
    )
    if any(row.reset_to_units != reset_to for row in done):
        raise InvalidInput("idempotency_key", "was used for a reset to another amount")
    return done


def _wait_until_recorded(account: Account) -> None:
    """Return when the ledger has all that the account has been charged up to now."""
    until = time.monotonic() + RECORDED_SECONDS_MAX
    newest = _newest_unrecorded(account)
    while newest and not _is_recorded(newest):
        if time.monotonic() > until:
            raise NotRecorded
        time.sleep(POLL_SECONDS)


def _newest_unrecorded(account: Account) -> str:
    """Return where the account's last event stands that is not recorded, or an empty text."""
    position = Partition.objects.values_list("position", flat=True).get(number=PARTITION)
    try:
        waiting = storekeeper.read_stream(after=position, count=UNRECORDED_MAX)
    except RedisError as error:
        raise NotRecorded from error
    concerned = [
        each.position
        for each in waiting
        if len(waiting) == UNRECORDED_MAX or account.pk in each.all_accounts
    ]
    return concerned[-1] if concerned else ""


def _is_recorded(position: str) -> bool:
    recorded = Partition.objects.values_list("position", flat=True).get(number=PARTITION)
    return store_answers.order_of(recorded) >= store_answers.order_of(position)


def _checked_amount(reset_to: Decimal, account: Account) -> Units:
    if not reset_to.is_finite() or not 0 <= reset_to <= money.LIMIT_MAX:
        raise InvalidInput("reset_to", "must be from 0 to what is spent")
    decimals = money.decimals_of(account.currency)
    if not money.fits_in_decimals(reset_to, decimals):
        raise InvalidInput("reset_to", f"must not have more than {decimals} decimals")
    return money.to_units(reset_to, currency=account.currency)


def _checked_reason(reason: str) -> str:
    text = reason.strip()
    if not text:
        raise InvalidInput("reason", "is needed: it is kept beside what is taken off")
    if len(text) > REASON_LENGTH_MAX:
        raise InvalidInput("reason", f"must not have more than {REASON_LENGTH_MAX} characters")
    if "\x00" in text:
        raise InvalidInput("reason", "must not hold NUL characters")
    return text


def _check_idempotency_key(key: str) -> None:
    if len(key) > IDEMPOTENCY_KEY_LENGTH_MAX or "\x00" in key:
        most = IDEMPOTENCY_KEY_LENGTH_MAX
        raise InvalidInput("idempotency_key", f"must have {most} characters at most, and no NUL")
