"""Temporary increases: who may ask and decide, when they count, and what is kept of them."""

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, connections

from budgets import ancestors, contexts, in_force, increases, periods, snapshots
from budgets.changes import acting
from budgets.contexts import LimitKind, PathAccount
from budgets.errors import AlreadyDecided, InvalidInput, NotAllowed, NotFound
from budgets.figures import figures_of
from budgets.increases import Added
from budgets.models import (
    Account,
    AccountKind,
    Budget,
    Change,
    Increase,
    IncreaseState,
    Organization,
    TeamRole,
    User,
    UserRole,
)
from budgets.services import accounts, keys, tenancy
from budgets.services import increases as services
from budgets.services.accounts import Terms
from budgets.services.budgets import create_budget
from budgets.services.increases import Amended, Person, Wanted
from budgets.services.keys import Issued, Owner, issue_key
from budgets.services.limits import Limits, set_limits
from tests.conftest import Cast

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TEN = Terms(max_budget=Decimal(10), duration="1mo", enforcement="strict")
MASTER = Person()


def now() -> datetime:
    return datetime.now(UTC)


def in_a_while(**distance: Any) -> datetime:
    return now() + timedelta(**distance)


def wanted(amount: str = "5", **more: Any) -> Wanted:
    times = {"ends_at": in_a_while(hours=1)} | more
    return Wanted(amount=Decimal(amount), why="a launch", **times)


def person(**fields: Any) -> Person:
    name = f"p-{uuid.uuid4().hex[:10]}"
    return Person(User.objects.create(username=name, public_id=name, **fields))


def colleague(organization: Organization) -> Person:
    made = person()
    assert made.user is not None
    tenancy.join_organization(organization=organization, user=made.user)
    return made


def ask(account: Account, by: Person, amount: str = "5", **more: Any) -> Increase:
    return services.ask(
        account=account, budget=None, wanted=wanted(amount, **more), by=by, now=now()
    )


def approve(increase: Increase, by: Person = MASTER, **amended: Any) -> Increase:
    return services.approve(increase_id=increase.pk, by=by, now=now(), amended=Amended(**amended))


def limit_of(account: Account) -> Any:
    return figures_of([account.pk], at=now())[account.pk].budgets[0].limit


@dataclass
class Scene:
    """A key with a limit of 10, somebody who asks, and somebody who may decide."""

    cast: Cast
    issued: Issued
    asker: Person
    admin: Person

    @property
    def account(self) -> Account:
        return self.issued.key.account

    def asked(self, amount: str = "5", **more: Any) -> Increase:
        return ask(self.account, self.asker, amount, **more)


@pytest.fixture
def scene(cast: Cast) -> Scene:
    owner = Owner(cast.organization, cast.team, cast.user)
    issued = issue_key(owner=owner, values={}, terms=TEN, now=now())
    return Scene(cast, issued, colleague(cast.organization), person(is_superuser=True))


# --- The limit at an instant --------------------------------------------------------------
AN_HOUR = Added(Decimal(5), NOON, NOON + HOUR)


def test_an_increase_counts_from_its_start_and_no_longer_at_its_end() -> None:
    at = [
        NOON - timedelta(microseconds=1),
        NOON,
        NOON + HOUR - timedelta(microseconds=1),
        NOON + HOUR,
    ]

    limits = [increases.limit_at(Decimal(10), [AN_HOUR], at=each) for each in at]

    assert limits == [10, 15, 15, 10]


def test_increases_add_up_while_they_overlap_and_never_pass_what_any_limit_may_be() -> None:
    later = Added(Decimal(10**9), NOON + HOUR / 2, NOON + 2 * HOUR)

    limits = [
        increases.limit_at(Decimal(10), [AN_HOUR, later], at=NOON + n * HOUR / 2) for n in range(5)
    ]

    assert limits == [15, 10**9, 10**9, 10**9, 10]
    assert increases.highest_sum([AN_HOUR, later]) == 10**9 + 5


def test_no_limit_stays_none_however_much_is_added() -> None:
    assert increases.limit_at(None, [AN_HOUR], at=NOON) is None


def terms(*added: Added) -> contexts.Terms:
    account = PathAccount(uuid.uuid4(), "key", "a key")
    return contexts.Terms(
        account, "b", max_budget=Decimal(10), soft_budget=Decimal(8), duration="1d", increases=added
    )


@pytest.mark.parametrize(
    ("at", "units", "valid_from", "valid_until"),
    [
        (NOON - HOUR, 10, NOON.replace(hour=0), NOON),
        (NOON, 15, NOON, NOON + HOUR),
        (NOON + HOUR, 10, NOON + HOUR, NOON.replace(hour=0) + DAY),
    ],
    ids=["before", "within", "after"],
)
def test_a_context_holds_only_until_the_next_start_or_end_and_the_soft_limit_is_not_raised(
    at: datetime, units: int, valid_from: datetime, valid_until: datetime
) -> None:
    limits = contexts.limits_at(terms=[terms(AN_HOUR)], currency="USD", at=at)
    valid = contexts.validity_ms(
        limits, expires_at=None, changes=increases.changes([AN_HOUR]), at=at
    )

    assert {each.kind: each.limit for each in limits} == {
        LimitKind.MONEY: units * 10**9, LimitKind.SOFT: 8 * 10**9,
    }  # fmt: skip
    assert valid == tuple(map(periods.milliseconds, (valid_from, valid_until)))


# --- Asking ---------------------------------------------------------------------------
def test_what_is_asked_for_counts_when_it_is_approved_and_not_before(scene: Scene) -> None:
    asked = scene.asked()
    before = limit_of(scene.account)

    approved = approve(asked, scene.admin)

    assert (before, limit_of(scene.account)) == (10, 15)
    assert (approved.state, approved.decided_by) == (IncreaseState.APPROVED, scene.admin.name)


def test_without_an_end_it_ends_with_the_period_of_its_budget(scene: Scene) -> None:
    asked = scene.asked(ends_at=None)

    assert asked.ends_at == asked.budget.period_at(now()).end


def test_a_budget_for_the_whole_life_needs_an_end(cast: Cast) -> None:
    issued = issue_key(
        owner=Owner(cast.organization), values={}, terms=Terms(max_budget=Decimal(1)), now=now()
    )

    with pytest.raises(InvalidInput, match="has no period") as refused:
        ask(issued.key.account, MASTER, ends_at=None)

    assert refused.value.field == "ends_at"


REFUSED: dict[str, tuple[Callable[[], Wanted], str]] = {
    "nothing": (lambda: wanted("0"), "amount"),
    "less than nothing": (lambda: wanted("-1"), "amount"),
    "no number": (lambda: wanted("NaN"), "amount"),
    "ten decimals": (lambda: wanted("0.0000000001"), "amount"),
    "beyond any limit": (lambda: wanted("999999991"), "amount"),
    "an end in the past": (lambda: wanted(ends_at=in_a_while(seconds=-1)), "ends_at"),
    "an end before the start": (
        lambda: wanted(starts_at=in_a_while(hours=3), ends_at=in_a_while(hours=2)), "ends_at",
    ),
    "a start in the past": (lambda: wanted(starts_at=in_a_while(hours=-1)), "starts_at"),
    "a start far away": (
        lambda: wanted(starts_at=in_a_while(days=400), ends_at=in_a_while(days=401)), "starts_at",
    ),
    "more than a year": (lambda: wanted(ends_at=in_a_while(days=367)), "ends_at"),
    "no reason": (lambda: Wanted(Decimal(5), why=" ", ends_at=in_a_while(hours=1)), "why"),
    "a long reason": (
        lambda: Wanted(Decimal(5), why="x" * 1_001, ends_at=in_a_while(hours=1)), "why",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_kept(what: str, scene: Scene) -> None:
    make, field = REFUSED[what]

    with pytest.raises(InvalidInput) as refused:
        services.ask(account=scene.account, budget=None, wanted=make(), by=scene.asker, now=now())

    assert refused.value.field == field
    assert not Increase.objects.filter(account=scene.account).exists()


def test_a_budget_without_a_limit_cannot_be_increased(scene: Scene) -> None:
    keys.update_key(key=scene.issued.key, values={}, terms=Terms(rpm_limit=3), now=now())

    with pytest.raises(InvalidInput, match="no budget whose limit could be increased"):
        scene.asked()


def test_of_several_budgets_one_must_be_named_and_only_that_is_raised(scene: Scene) -> None:
    window = Terms(max_budget=Decimal(2), duration="1d", enforcement="strict")
    set_limits(account=scene.account, limits=Limits(windows=[window]), now=now())
    day = Budget.objects.get(window_of=scene.account)

    with pytest.raises(InvalidInput) as refused:
        scene.asked()
    asked = services.ask(
        account=scene.account, budget=day, wanted=wanted(), by=scene.asker, now=now()
    )
    approve(asked)

    found = figures_of([scene.account.pk], at=now())[scene.account.pk].budgets
    assert refused.value.field == "budget_id"
    assert {each.limit for each in found} == {Decimal(10), Decimal(7)}


def test_another_accounts_budget_is_refused(scene: Scene) -> None:
    other = scene.cast.key("3").key.account

    with pytest.raises(InvalidInput, match="not in force on this account"):
        services.ask(
            account=scene.account, budget=Budget.objects.get(private_to=other),
            wanted=wanted(), by=scene.asker, now=now(),
        )  # fmt: skip


def test_a_shared_budget_is_raised_on_one_of_its_accounts_only(cast: Cast) -> None:
    shared = create_budget(organization=cast.organization, terms=TEN)
    one, other = (cast.key().key.account for _ in range(2))
    for each in (one, other):
        set_limits(account=each, limits=Limits(budgets=[shared]), now=now())

    approve(ask(one, colleague(cast.organization)))

    assert (limit_of(one), limit_of(other)) == (15, 10)


def test_an_outsider_may_not_ask_and_administrators_may_everywhere(scene: Scene) -> None:
    outsider = colleague(scene.cast.outsider)

    with pytest.raises(NotAllowed):
        ask(scene.account, outsider)

    assert ask(scene.account, person(role=UserRole.PROXY_ADMIN)).state == IncreaseState.PENDING


def test_only_administrators_may_ask_for_what_is_the_platforms(cast: Cast) -> None:
    account = accounts.platform_account(kind=AccountKind.MODEL, text=f"m-{uuid.uuid4().hex}")
    set_limits(account=account, limits=Limits(terms=TEN), now=now())

    with pytest.raises(NotAllowed):
        ask(account, colleague(cast.organization))

    approve(ask(account, person(is_superuser=True)))
    assert limit_of(account) == 15


def test_so_many_may_wait_and_no_more(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "PENDING_MAX", 2)
    scene.asked()
    scene.asked()

    with pytest.raises(InvalidInput, match="wait to be decided"):
        scene.asked()


# --- Deciding -------------------------------------------------------------------------
def test_whoever_asked_never_decides_not_even_a_superuser_or_the_master_key(scene: Scene) -> None:
    for who in (scene.admin, MASTER):
        asked = ask(scene.account, who)

        with pytest.raises(NotAllowed, match="somebody else must decide"):
            approve(asked, who)
        with pytest.raises(NotAllowed, match="somebody else must decide"):
            services.deny(increase_id=asked.pk, by=who, note="no", now=now())

    assert limit_of(scene.account) == 10


def admin_of(team: Any, cast: Cast) -> Person:
    made = colleague(cast.organization)
    assert made.user is not None
    tenancy.add_member(team=team, user=made.user, role=TeamRole.ADMIN, terms=Terms(), now=now())
    return made


def test_a_teams_admin_decides_for_its_keys_and_members_and_what_they_spend_on_models(
    scene: Scene,
) -> None:
    admin = admin_of(scene.cast.team, scene.cast)
    set_limits(account=scene.account, limits=Limits(models={"gpt": TEN}), now=now())
    member = scene.cast.team.memberships.get(user=scene.cast.user).account
    set_limits(account=member, limits=Limits(terms=TEN), now=now())
    of_model = Account.objects.get(holder=scene.account, model="gpt")

    for account in (scene.account, member, of_model):
        assert approve(ask(account, scene.asker), admin).state == IncreaseState.APPROVED


@pytest.mark.parametrize("who", ["another team's admin", "member", "outsider", "viewer", "left"])
def test_who_may_not_decide_is_refused_and_nothing_changes(who: str, scene: Scene) -> None:
    cast = scene.cast
    other = tenancy.create_team(
        organization=cast.organization, values={"name": "Other"}, terms=Terms(), now=now()
    )
    made = {
        "another team's admin": lambda: admin_of(other, cast),
        "member": lambda: Person(cast.user),
        "outsider": lambda: colleague(cast.outsider),
        "viewer": lambda: person(role=UserRole.PROXY_ADMIN_VIEWER),
        "left": lambda: person(is_superuser=True, is_active=False),
    }[who]()
    asked = scene.asked()

    with pytest.raises(NotAllowed):
        approve(asked, made)
    with pytest.raises(NotAllowed):
        services.deny(increase_id=asked.pk, by=made, note="no", now=now())
    with pytest.raises(NotAllowed):
        services.cancel(increase_id=asked.pk, by=made, now=now())

    asked.refresh_from_db()
    assert (asked.state, limit_of(scene.account)) == (IncreaseState.PENDING, 10)


def test_a_teams_admin_does_not_raise_the_teams_own_limit(scene: Scene) -> None:
    team = scene.cast.team
    set_limits(account=team.account, limits=Limits(terms=TEN), now=now())

    with pytest.raises(NotAllowed):
        approve(ask(team.account, scene.asker), admin_of(team, scene.cast))


def test_the_approver_may_change_amount_start_and_end(scene: Scene) -> None:
    end = in_a_while(minutes=5)

    approved = approve(scene.asked("500"), scene.admin, amount=Decimal(2), ends_at=end)

    assert (approved.amount, approved.ends_at, limit_of(scene.account)) == (Decimal(2), end, 12)


def test_deciding_again_is_a_conflict_that_names_who_decided_and_when(scene: Scene) -> None:
    asked = scene.asked()
    approved = approve(asked, scene.admin)
    assert approved.decided_at is not None

    for decide in (
        lambda: approve(asked),
        lambda: services.deny(increase_id=asked.pk, by=MASTER, note="no", now=now()),
    ):
        with pytest.raises(AlreadyDecided) as refused:
            decide()
        assert refused.value.problem == (
            f"was approved by {scene.admin.name} at {approved.decided_at.isoformat()}"
        )

    assert limit_of(scene.account) == 15


def test_what_is_denied_never_counts_and_says_why(scene: Scene) -> None:
    asked = scene.asked()

    denied = services.deny(increase_id=asked.pk, by=scene.admin, note="next month", now=now())
    with pytest.raises(AlreadyDecided, match="was denied by"):
        approve(asked)

    assert (denied.note, limit_of(scene.account)) == ("next month", 10)


def test_denying_needs_a_note(scene: Scene) -> None:
    with pytest.raises(InvalidInput) as refused:
        services.deny(increase_id=scene.asked().pk, by=scene.admin, note="", now=now())

    assert refused.value.field == "note"


def test_what_ended_while_it_waited_is_approved_with_a_later_end_only(scene: Scene) -> None:
    asked = scene.asked()
    Increase.objects.filter(pk=asked.pk).update(
        starts_at=in_a_while(hours=-2), ends_at=in_a_while(hours=-1)
    )

    with pytest.raises(InvalidInput) as refused:
        approve(asked)
    approve(asked, ends_at=in_a_while(hours=1))

    assert (refused.value.field, limit_of(scene.account)) == ("ends_at", 15)


def test_an_increase_that_nobody_has_heard_of_is_not_found() -> None:
    with pytest.raises(NotFound):
        services.approve(increase_id=uuid.uuid4(), by=MASTER, now=now())


# --- Two approvers --------------------------------------------------------------------
@pytest.fixture
def careful(scene: Scene) -> Scene:
    """Above 20 it takes two."""
    tenancy.update_organization(
        organization=scene.cast.organization,
        values={"second_approver_above": Decimal(20)},
    )
    return scene


def test_above_the_organizations_amount_a_second_other_approver_is_needed(careful: Scene) -> None:
    asked = careful.asked("21")

    approve(asked, careful.admin)
    first = limit_of(careful.account)
    with pytest.raises(AlreadyDecided, match="another must second it"):
        approve(asked, careful.admin)
    seconded = approve(asked)

    assert (first, limit_of(careful.account)) == (10, 31)
    assert (seconded.decided_by, seconded.seconded_by) == (careful.admin.name, "master key")


def test_at_the_organizations_amount_one_is_enough(careful: Scene) -> None:
    assert approve(careful.asked("20")).state == IncreaseState.APPROVED


def test_parts_that_count_at_the_same_time_add_up_to_what_takes_two(careful: Scene) -> None:
    approve(careful.asked("15"))

    assert approve(careful.asked("15")).state == IncreaseState.PENDING
    assert limit_of(careful.account) == 25


def test_the_second_approves_what_the_first_did_or_denies_it(careful: Scene) -> None:
    asked = careful.asked("21")
    approve(asked, careful.admin, amount=Decimal(30))

    with pytest.raises(InvalidInput, match="must be as it was approved by") as refused:
        approve(asked, amount=Decimal(31))
    assert refused.value.field == "amount"

    denied = services.deny(increase_id=asked.pk, by=MASTER, note="no", now=now())
    assert denied.state == IncreaseState.DENIED


def test_a_grant_above_that_amount_is_refused(careful: Scene) -> None:
    with pytest.raises(InvalidInput, match="above what one person may approve"):
        services.grant(
            account=careful.account, budget=None, wanted=wanted("21"), by=MASTER, now=now()
        )

    assert not Increase.objects.filter(account=careful.account).exists()


# --- At once --------------------------------------------------------------------------
def at_once(jobs: list[Callable[[], Any]]) -> list[str]:
    """Do all at the same time; return what became of each, in order."""
    barrier, done = threading.Barrier(len(jobs)), [""] * len(jobs)

    def run(number: int) -> None:
        barrier.wait()
        try:
            jobs[number]()
            done[number] = "done"
        except AlreadyDecided:
            done[number] = "conflict"
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(jobs))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return done


def test_of_two_who_approve_at_once_one_does_and_the_other_is_told(scene: Scene) -> None:
    asked = scene.asked()

    done = at_once([lambda: approve(asked, scene.admin), lambda: approve(asked)])

    assert (sorted(done), limit_of(scene.account)) == (["conflict", "done"], 15)


def test_two_parts_approved_at_once_do_not_pass_as_one_that_takes_two(careful: Scene) -> None:
    parts = [careful.asked("15"), careful.asked("15")]

    at_once([lambda: approve(parts[0]), lambda: approve(parts[1])])

    states = sorted(
        Increase.objects.filter(account=careful.account).values_list("state", flat=True)
    )
    assert (states, limit_of(careful.account)) == (["approved", "pending"], 25)


def test_approving_and_denying_at_once_ends_in_one_of_them(scene: Scene) -> None:
    asked = scene.asked()

    done = at_once([
        lambda: approve(asked, scene.admin),
        lambda: services.deny(increase_id=asked.pk, by=MASTER, note="no", now=now()),
    ])  # fmt: skip

    asked.refresh_from_db()
    assert sorted(done) == ["conflict", "done"]
    assert (asked.state == IncreaseState.APPROVED) == (limit_of(scene.account) == 15)


# --- Ending earlier -------------------------------------------------------------------
@pytest.mark.parametrize("who", ["asker", "admin"])
def test_cancelling_ends_what_was_approved_and_keeps_who_approved_it(
    who: str, scene: Scene
) -> None:
    asked = scene.asked()
    approve(asked, scene.admin)

    ended = services.cancel(increase_id=asked.pk, by=getattr(scene, who), now=now())
    with pytest.raises(AlreadyDecided, match="was cancelled by"):
        services.cancel(increase_id=asked.pk, by=MASTER, now=now())

    assert limit_of(scene.account) == 10
    assert (ended.decided_by, ended.cancelled_by) == (scene.admin.name, getattr(scene, who).name)


def test_whoever_seconded_may_cancel_too(careful: Scene) -> None:
    asked = careful.asked("21")
    approve(asked, careful.admin)
    approve(asked)

    services.cancel(increase_id=asked.pk, by=MASTER, now=now())

    assert limit_of(careful.account) == 10


def test_shortening_moves_the_end_to_an_earlier_time_to_come(scene: Scene) -> None:
    asked, end = scene.asked(), in_a_while(minutes=1)
    approve(asked)

    shortened = services.shorten(increase_id=asked.pk, by=scene.asker, ends_at=end, now=now())
    for other in (asked.ends_at, in_a_while(seconds=-1)):
        with pytest.raises(InvalidInput) as refused:
            services.shorten(increase_id=asked.pk, by=scene.asker, ends_at=other, now=now())
        assert refused.value.field == "ends_at"

    assert shortened.ends_at == end


def test_what_is_pending_or_has_ended_cannot_be_shortened(scene: Scene) -> None:
    pending, ended = scene.asked(), scene.asked()
    approve(ended)
    Increase.objects.filter(pk=ended.pk).update(
        starts_at=in_a_while(hours=-2), ends_at=in_a_while(hours=-1)
    )

    for asked, error in ((pending, InvalidInput), (ended, AlreadyDecided)):
        with pytest.raises(error):
            services.shorten(
                increase_id=asked.pk, by=MASTER, ends_at=in_a_while(minutes=1), now=now()
            )
    with pytest.raises(AlreadyDecided, match="has ended at"):
        services.cancel(increase_id=ended.pk, by=MASTER, now=now())


# --- Grants ---------------------------------------------------------------------------
def grant(account: Account, amount: str, by: Person = MASTER) -> Increase:
    return services.grant(account=account, budget=None, wanted=wanted(amount), by=by, now=now())


def test_a_grant_counts_at_once_and_replaces_the_one_before_but_nothing_that_was_asked_for(
    scene: Scene,
) -> None:
    approve(scene.asked("5"))

    first = grant(scene.account, "7")
    grant(scene.account, "1")

    first.refresh_from_db()
    assert (limit_of(scene.account), first.state) == (16, IncreaseState.CANCELLED)


def test_only_administrators_grant(scene: Scene) -> None:
    with pytest.raises(NotAllowed):
        grant(scene.account, "1", scene.asker)

    assert limit_of(scene.account) == 10


# --- What is kept ---------------------------------------------------------------------
def test_every_change_raises_the_version_and_is_kept_with_actor_and_reason(scene: Scene) -> None:
    scope = scene.cast.organization.pk
    versions = [snapshots.version_of(scope)]

    with acting("admin:ana"):
        asked = scene.asked()
        versions.append(snapshots.version_of(scope))
        services.approve(increase_id=asked.pk, by=scene.admin, now=now(), note="go ahead")
        versions.append(snapshots.version_of(scope))
        services.shorten(
            increase_id=asked.pk, by=MASTER, ends_at=in_a_while(minutes=1), now=now(), note="enough"
        )
        versions.append(snapshots.version_of(scope))
        services.cancel(increase_id=asked.pk, by=MASTER, now=now(), note="stop")
        versions.append(snapshots.version_of(scope))

    kept = Change.objects.filter(table_name="budgets_increase", object_id=str(asked.pk))
    assert versions == sorted(set(versions))
    assert [(each.action, each.actor, each.reason) for each in kept.order_by("id")] == [
        ("insert", "admin:ana", "a launch"),
        ("update", "admin:ana", "go ahead"),
        ("update", "admin:ana", "enough"),
        ("update", "admin:ana", "stop"),
    ]


def test_an_increase_by_sql_raises_the_version_too_also_that_of_the_platform(scene: Scene) -> None:
    model = accounts.platform_account(kind=AccountKind.MODEL, text=f"m-{uuid.uuid4().hex}")
    set_limits(account=model, limits=Limits(terms=TEN), now=now())
    for account, scope in ((scene.account, scene.cast.organization.pk), (model, 0)):
        asked = ask(account, person(is_superuser=True))
        before = snapshots.version_of(scope)

        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM budgets_increase WHERE id = %s", [asked.pk])

        assert snapshots.version_of(scope) > before


@pytest.mark.parametrize(
    "change",
    [
        {"amount": Decimal(0)},
        {"why": ""},
        {"state": "maybe"},
        {"ends_at": datetime(2000, 1, 1, tzinfo=UTC)},
        {"state": "approved"},
        {"state": "approved", "decided_by": "the asker"},
        {"seconded_by": "ana", "decided_by": "ana"},
    ],
    ids=str,
)
def test_the_database_refuses_what_no_increase_can_be(change: dict[str, Any], scene: Scene) -> None:
    asked = scene.asked()
    if change.get("decided_by") == "the asker":
        change = change | {"decided_by": scene.asker.name}

    with pytest.raises(IntegrityError):
        Increase.objects.filter(pk=asked.pk).update(**change)


def test_a_key_is_read_with_its_increases_in_one_query_however_many_accounts(
    scene: Scene, django_assert_max_num_queries: Any
) -> None:
    cast, ids = scene.cast, {"digest": scene.issued.key.digest, "legacy_digest": "-"}
    for account in (cast.team.account, cast.organization.account, scene.account):
        set_limits(account=account, limits=Limits(terms=TEN), now=now())
    with django_assert_max_num_queries(100) as without:
        snapshots.read_key(**ids)
    for account in (cast.team.account, cast.organization.account, scene.account):
        approve(ask(account, scene.asker))
        approve(ask(account, scene.asker))

    with django_assert_max_num_queries(len(without.captured_queries)):
        found = snapshots.read_key(**ids)

    assert found is not None
    assert [len(each.increases) for each in found.terms] == [2, 2, 2]


def test_what_has_ended_or_is_not_approved_is_not_read(scene: Scene) -> None:
    ended = approve(scene.asked())
    Increase.objects.filter(pk=ended.pk).update(
        starts_at=in_a_while(hours=-2), ends_at=in_a_while(seconds=-1)
    )
    scene.asked()

    assert in_force.increases_on([scene.account.pk]) == {}


# --- Above ----------------------------------------------------------------------------
def test_what_stands_above_an_account_is_told_nearest_first(scene: Scene) -> None:
    cast = scene.cast
    set_limits(account=scene.account, limits=Limits(models={"gpt": TEN}), now=now())
    of_model = Account.objects.get(holder=scene.account)

    kinds = [each.kind for each in ancestors.ancestors_of(of_model)]

    assert kinds == ["key", "member", "user", "team", "organization"]
    assert ancestors.ancestors_of(cast.organization.account) == []
    assert [each.kind for each in ancestors.ancestors_of(cast.team.account)] == ["organization"]


@pytest.fixture(autouse=True)
def _nothing_left_on_the_platform() -> Iterator[None]:
    yield
    Increase.objects.filter(account__organization=None).delete()
