"""Each event reaches the ledger exactly once, whatever happens to recorders and store."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import Error as DatabaseError

from budgets import storekeeper
from budgets.errors import InvalidInput
from budgets.livestore import LiveStore
from budgets.models import (
    Account,
    AccountKind,
    EndUser,
    PeriodTotal,
    Reload,
    Tag,
    derived_account_id,
)
from budgets.periods import FOREVER
from budgets.scripts import TAG
from budgets.services.closing import reopen_account
from budgets.snapshots import read_key, version_of
from spend import ledger, recorder
from spend.components import Component
from spend.models import SetAside, SpendEvent
from spend.pricing import Line
from spend.recorder import LostRace
from tests.budgets.support import (
    DOLLAR,
    Bench,
    PathAccount,
    account,
    bench,
    context,
    entries_of,
    load,
    partition,
    payload_of,
    record_everything,
)
from tests.budgets.test_livestore import sweep_as_dead
from tests.conftest import Cast
from tests.spend.support import (
    apply,
    crash_before_telling_the_store,
    entry,
    now,
    priced,
    record_once,
    rolled_up,
    row_of,
    rows_of,
)

pytestmark = pytest.mark.usefixtures("alone", "orm_in_async")


def total_of(account_id: UUID) -> tuple[int, int]:
    kept = PeriodTotal.objects.get(account=account_id, period_start=FOREVER.start)
    return kept.amount_units, kept.events


# --- Once --------------------------------------------------------------------------------


async def test_batch_is_recorded_in_order_and_the_stream_trimmed(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    record_everything()
    spent = [await team.spend(n) for n in (1, 2, 3)]
    before = partition()

    recorded = record_once(count=2)

    after = partition()
    assert recorded is not None
    assert recorded.rows == 2
    assert (recorded.position, recorded.revision) == (after.position, after.revision)
    assert after.revision == before.revision + 1
    assert [rows_of(event.id) for event in spent] == [[("usage", 1)], [("usage", 2)], []]
    assert [left.id for left in entries_of(*(event.id for event in spent))] == [spent[2].id]


async def test_empty_stream_records_nothing_and_moves_nothing(store: LiveStore) -> None:
    record_everything()
    before = partition()

    recorded = record_once()

    assert recorded is None
    assert (partition().position, partition().revision) == (before.position, before.revision)


async def test_batch_that_is_read_twice_is_recorded_once(store: LiveStore, cast: Cast) -> None:
    """The recorder ended between its commit and the trimming: the next reads from the position."""
    team = await bench(store, cast.organization)
    event = await team.spend(5)
    with crash_before_telling_the_store():
        record_once()

    record_everything()

    assert rows_of(event.id) == [("usage", 5)]
    assert total_of(team.account.id) == (5, 1)
    assert rolled_up(team.account.id) == {"QuarterHour": (5, 1), "Day": (5, 1)}
    assert entries_of(event.id) == []


async def test_event_that_is_settled_anew_after_its_tombstone_is_recorded_once(
    store: LiveStore, cast: Cast
) -> None:
    """Sent again in a new generation: counted twice in the counter, until that is reloaded."""
    team = await bench(store, cast.organization)
    event = await team.spend(5)
    record_everything()
    storekeeper.store().delete(f"{TAG}t:{event.id}")
    await store.settle(event)
    counted = team.counter.spent

    record_everything()
    await load(store, team.context.limits)

    assert counted == 10
    assert rows_of(event.id) == [("usage", 5)]
    assert total_of(team.account.id) == (5, 1)
    assert team.counter.spent == 5


def test_event_that_stands_twice_in_one_batch_is_recorded_once(cast: Cast) -> None:
    of = account(cast.organization)
    once = entry(context(cast.organization, [of]), 5, at=now())

    rows = apply(once, once)

    assert rows == 1
    assert rows_of(once.id) == [("usage", 5)]
    assert total_of(of.id) == (5, 1)
    assert Reload.objects.filter(account_id=of.id).exists()


async def test_recorder_that_was_overtaken_rolls_everything_back(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    event = await team.spend(5)
    slow, patched = partition(), pytest.MonkeyPatch()

    def overtake(days: object) -> int:
        patched.undo()
        record_once()
        return 0

    patched.setattr(ledger, "make_partitions", overtake)

    with pytest.raises(LostRace):
        recorder.record_next(partition=slow, now=now(), count=1_000)

    assert rows_of(event.id) == [("usage", 5)]
    assert total_of(team.account.id) == (5, 1)
    assert rolled_up(team.account.id)["Day"] == (5, 1)


async def test_recorder_of_an_older_generation_records_nothing(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    event = await team.spend(5)
    fenced = partition()
    fenced.generation -= 1

    with pytest.raises(LostRace):
        recorder.record_next(partition=fenced, now=now(), count=1_000)

    assert rows_of(event.id) == []


async def test_transaction_that_fails_leaves_the_position_where_it_was(
    store: LiveStore, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = await bench(store, cast.organization)
    record_everything()
    event = await team.spend(5)
    before = partition().position

    def fail() -> None:
        raise DatabaseError

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "add_to_totals", fail)
        with pytest.raises(DatabaseError):
            record_once()
    after, rows = partition().position, rows_of(event.id)
    record_everything()

    assert (after, rows) == (before, [])
    assert rows_of(event.id) == [("usage", 5)]


# --- What a row says ---------------------------------------------------------------------


async def test_row_says_who_what_through_whom_and_at_which_price(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    line = Line(Component.INPUT, 3, Decimal("0.000000001"), Decimal("0.000000003"))
    outcome = priced(
        7,
        status=201,
        flags=("estimated",),
        lines=(line,),
        settled_at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    outcome = replace(outcome, usage={Component.INPUT: 3})
    payload = payload_of(
        team.context, outcome=outcome, model="asked", upstream_model="named", tags=("a", "b"),
        end_user="customer", team="t", user="u", streamed=True, reserved_units=9,
    )  # fmt: skip
    held = await team.reserve(9)

    await team.settle(held, 7, payload=payload)
    record_everything()

    row = row_of(held.id)
    assert (row.amount_units, row.cost, row.currency) == (7, Decimal("0.000000007"), "USD")
    assert row.organization_id == cast.organization.pk
    assert (row.model, row.upstream_model, row.deployment) == ("asked", "named", "deployment")
    assert (row.end_user, row.tags, row.team, row.user) == ("customer", ["a", "b"], "t", "u")
    assert (row.status, row.flags, row.streamed, row.reserved_units) == (
        201,
        ["estimated"],
        True,
        9,
    )
    assert (row.usage, row.input_tokens, row.output_tokens) == ({"input": 3}, 3, 0)
    assert [Decimal(part) for part in row.lines[0][1:]] == [3, line.rate, line.amount]
    assert row.settled_at == datetime(2026, 1, 2, tzinfo=UTC)
    assert row.accounts == [each.id for each in team.context.path]
    assert row.admitted_at.timestamp() * 1_000 == pytest.approx(held.admission.admitted_ms)


async def test_damaged_payload_still_counts_and_is_flagged(
    store: LiveStore, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    team = await bench(store, cast.organization)
    caplog.set_level(logging.CRITICAL)
    held = await team.reserve(9)

    await team.settle(held, 7, payload=b'{"tags": 3')
    record_everything()

    row = row_of(held.id)
    assert (row.amount_units, row.flags, row.organization_id) == (
        7,
        ["damaged"],
        cast.organization.pk,
    )
    assert total_of(team.account.id) == (7, 1)
    assert rolled_up(team.account.id)["QuarterHour"] == (7, 1)


@pytest.mark.parametrize(
    "refused",
    [{"upstream_model": "\x00"}, {"end_user": "a\x00b"}, {"model": "m" * 300}, {"tags": ("\x00",)}],
    ids=["NUL in a row", "NUL in an end user", "too long", "NUL in a tag"],
)
async def test_event_that_postgres_refuses_is_set_aside_counts_and_stops_no_other(
    refused: dict[str, Any], store: LiveStore, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    """Protocol, 13: its amount, time and accounts are in the ledger; the rest is for a person."""
    caplog.set_level(logging.CRITICAL)
    team = await bench(store, cast.organization)
    record_everything()
    payload = payload_of(team.context, **refused)
    poison = await team.settle(await team.reserve(9), 7, payload=payload)
    healthy = await team.spend(5)

    with _poison_removed(poison.id, team.account):
        record_everything()

    assert rows_of(healthy.id) == [("usage", 5)]
    assert (rows_of(poison.id), row_of(poison.id).flags) == ([("usage", 7)], ["damaged"])
    assert total_of(team.account.id) == (12, 2)
    assert rolled_up(team.account.id)["Day"] == (12, 2)
    assert SetAside.objects.filter(fields__id=poison.id).count() == 1


async def test_entry_that_is_no_event_at_all_is_set_aside_and_stops_no_other(
    store: LiveStore, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    team = await bench(store, cast.organization)
    record_everything()
    fields = {"id": "none", "amount": "much", "event": b"\x00\xff"}
    position = storekeeper.store().xadd(storekeeper.STREAM, fields).decode()
    healthy = await team.spend(5)

    record_everything()

    assert rows_of(healthy.id) == [("usage", 5)]
    assert SetAside.objects.get(position=position).fields["amount"] == "much"


async def test_accounts_of_an_entry_whose_amount_nobody_can_read_are_closed_until_reopened(
    store: LiveStore, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    issued = cast.key("5")
    fields = {"id": "none", "amount": "much", "path": issued.key.account_id.hex, "event": "?"}
    before = version_of(cast.organization.pk)

    storekeeper.store().xadd(storekeeper.STREAM, fields)
    record_everything()
    closed = read_key(digest=issued.key.digest, legacy_digest="")
    after = version_of(cast.organization.pk)
    account = Account.objects.get(pk=issued.key.account_id)
    with pytest.raises(InvalidInput):
        reopen_account(account=account, reason=" ")
    reopen_account(account=account, reason="it cost 3 cents")
    reopened = read_key(digest=issued.key.digest, legacy_digest="")

    assert closed is not None
    assert closed.closed is not None
    assert closed.closed.id == issued.key.account_id
    assert after > before
    assert reopened is not None
    assert reopened.closed is None


# --- Orphans -----------------------------------------------------------------------------


async def test_true_settle_after_a_recorded_orphan_takes_it_back(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)
    sweep_as_dead(held)
    record_everything()
    orphan = rows_of(held.id)

    await team.settle(held, 5)
    record_everything()

    assert orphan == [("orphan", DOLLAR)]
    assert sorted(rows_of(held.id)) == [
        ("orphan", DOLLAR), ("orphan_reversal", -DOLLAR), ("usage", 5),
    ]  # fmt: skip
    assert total_of(team.account.id) == (5, 3)
    assert rolled_up(team.account.id) == {"QuarterHour": (5, 3), "Day": (5, 3)}


async def test_orphan_is_flagged_and_so_is_what_takes_it_back(store: LiveStore, cast: Cast) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)
    sweep_as_dead(held)
    await team.settle(held, 5)
    record_once(count=1)

    record_everything()

    flags = dict(SpendEvent.objects.filter(request_id=held.id).values_list("kind", "flags"))
    assert "orphaned" in flags["orphan"]
    assert "orphaned" not in flags["usage"]


async def test_orphan_and_true_settle_in_one_batch_leave_the_true_one(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)
    sweep_as_dead(held)
    await team.settle(held, 5)

    record_everything()
    await load(store, team.context.limits)

    assert sum(amount for _, amount in rows_of(held.id)) == 5
    assert total_of(team.account.id)[0] == 5
    assert team.counter.spent == 5


async def test_orphan_after_the_true_settle_is_dropped_and_the_counter_reloaded(
    store: LiveStore, cast: Cast
) -> None:
    """The store rolled back to a moment when the request was still open."""
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)
    await team.settle(held, 5)
    record_everything()
    storekeeper.store().delete(f"{TAG}t:{held.id}")
    again = await team.reserve(DOLLAR, id=held.id)
    _admit_at(held.id, held.admission.admitted_ms)
    sweep_as_dead(again)

    record_everything()
    await load(store, team.context.limits)

    assert rows_of(held.id) == [("usage", 5)]
    assert team.counter.spent == 5


async def test_orphan_that_was_taken_back_is_not_taken_back_twice(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    held = await team.reserve(DOLLAR)
    sweep_as_dead(held)
    record_everything()
    event = await team.settle(held, 5)
    record_everything()

    storekeeper.store().delete(f"{TAG}t:{held.id}")
    await store.settle(event)
    record_everything()

    assert sum(amount for _, amount in rows_of(held.id)) == 5
    assert total_of(team.account.id) == (5, 3)


# --- Accounts that nobody made -----------------------------------------------------------


async def test_end_users_and_tags_get_rows_when_they_first_spend(
    store: LiveStore, cast: Cast
) -> None:
    labels = [
        (AccountKind.END_USER, "customer"),
        (AccountKind.TAG, "red"),
        (AccountKind.TAG, "blue"),
    ]
    path = [account(cast.organization), *(_derived(cast, *label) for label in labels)]
    through = context(cast.organization, path)
    payload = payload_of(through, end_user="customer", tags=("red", "blue"))
    for amount in (5, 7):
        held = await Bench(store, path[0], through).reserve(9)
        await store.settle(held.event(amount, payload=payload))

    record_everything()

    customer = EndUser.objects.get(organization=cast.organization)
    assert (customer.external_id, customer.account_id) == ("customer", path[1].id)
    tags = Tag.objects.filter(organization=cast.organization).values_list("name", "account_id")
    assert set(tags) == {("red", path[2].id), ("blue", path[3].id)}
    assert [total_of(each.id) for each in path] == [(12, 2)] * 4
    assert rolled_up(path[1].id) == {"LabelQuarterHour": (12, 2), "LabelDay": (12, 2)}


async def test_one_text_is_another_account_in_another_organization_and_as_another_kind(
    cast: Cast,
) -> None:
    ids = {
        derived_account_id(organization_id=organization.pk, kind=kind, text="same")
        for organization in (cast.organization, cast.outsider)
        for kind in (AccountKind.END_USER, AccountKind.TAG)
    }

    assert len(ids) == 4


async def test_account_that_was_deleted_while_its_request_ran_still_counts(
    store: LiveStore, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    of = account(cast.organization)
    caplog.set_level(logging.CRITICAL)
    held = await Bench(store, of, context(cast.organization, [of])).reserve(9)
    Account.objects.filter(id=of.id).delete()

    await store.settle(held.event(7))
    record_everything()

    assert total_of(of.id) == (7, 1)
    assert Account.objects.filter(id=of.id).exists()


# --- Telling the store -------------------------------------------------------------------


async def test_reload_that_was_listed_anew_meanwhile_is_kept(
    store: LiveStore, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = await bench(store, cast.organization)
    Reload.objects.create(account_id=team.account.id, revision=1)

    def listed_anew(**_: object) -> None:
        Reload.objects.filter(account_id=team.account.id).update(revision=10**6)

    with monkeypatch.context() as patched:
        patched.setattr(storekeeper, "reload", listed_anew)
        recorder.tell_store(partition())
    kept = Reload.objects.filter(account_id=team.account.id).exists()
    Reload.objects.filter(account_id=team.account.id).delete()

    assert kept


async def test_store_does_not_learn_the_revision_before_the_reloads_are_done(
    store: LiveStore, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A counter loaded with that revision would otherwise be dropped, or a wrong one be kept."""
    team = await bench(store, cast.organization)
    Reload.objects.create(account_id=team.account.id, revision=partition().revision)
    order: list[object] = []
    with monkeypatch.context() as patched:
        patched.setattr(storekeeper, "mirror", lambda **words: order.append(words["revision"]))
        patched.setattr(storekeeper, "reload", lambda **words: order.append("reload"))
        recorder.tell_store(partition())
    Reload.objects.filter(account_id=team.account.id).delete()

    assert order == [None, "reload"]


def _derived(cast: Cast, kind: AccountKind, text: str) -> PathAccount:
    id = derived_account_id(organization_id=cast.organization.pk, kind=kind, text=text)
    return PathAccount(id, kind, text)


def _admit_at(id: str, admitted_ms: int) -> None:
    storekeeper.store().hset(f"{TAG}r:{id}", "admitted", admitted_ms)


@contextmanager
def _poison_removed(id: str, of: PathAccount) -> Iterator[None]:
    """Let the other tests go on, also where the recorder is stuck."""
    try:
        yield
    finally:
        for left in entries_of(id):
            storekeeper.store().xdel(storekeeper.STREAM, left.position)
            storekeeper.store().delete(f"{TAG}c:{of.id.hex}")
        record_everything()
