"""A cap of $1.00 admits exactly 100 requests of $0.01, however many come at once, cold."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from budgets.models import Account, Membership, OrganizationMembership, TeamRole
from budgets.services import tenancy
from budgets.services.keys import Issued, Owner
from tests.faults import load, oracle
from tests.faults.conftest import Begin, Report
from tests.faults.load import Ask, Load, Plan
from tests.faults.scenario import Scenario, Sizes, terms

LIMIT = "1.00"
LIMIT_UNITS = 1_000_000_000
FIT = 100
COST_MODEL = "sandbox-request"
PROCESSES = 4


@dataclass(frozen=True)
class Capped:
    """A key whose requests count on the account that has the limit."""

    issued: Issued
    account: Account


def on_key(run: Scenario) -> Capped:
    issued = run.key(limit=LIMIT)
    return Capped(issued, issued.key.account)


def on_organization(run: Scenario) -> Capped:
    organization = run.organization(limit=LIMIT)
    return Capped(run.key(Owner(organization)), organization.account)


def on_team(run: Scenario) -> Capped:
    organization = run.organization()
    team = tenancy.create_team(
        organization=organization, values={"name": "Team"}, terms=terms(LIMIT), now=_now()
    )
    return Capped(run.key(Owner(organization, team=team)), team.account)


def on_user(run: Scenario) -> Capped:
    organization = run.organization()
    user = tenancy.create_user(
        values={"email": "user@example.com"}, organization=organization, terms=terms(LIMIT),
        now=_now(),
    )  # fmt: skip
    joined = OrganizationMembership.objects.get(organization=organization, user=user)
    return Capped(run.key(Owner(organization, user=user)), joined.account)


def on_member(run: Scenario) -> Capped:
    organization = run.organization()
    team = tenancy.create_team(
        organization=organization, values={"name": "Team"}, terms=terms(None), now=_now()
    )
    user = tenancy.create_user(
        values={"email": "member@example.com"}, organization=organization, terms=terms(None),
        now=_now(),
    )  # fmt: skip
    tenancy.add_member(team=team, user=user, role=TeamRole.USER, terms=terms(LIMIT), now=_now())
    member = Membership.objects.get(team=team, user=user)
    return Capped(run.key(Owner(organization, team=team, user=user)), member.account)


Put = Callable[[Scenario], Capped]
SCOPES: dict[str, Put] = {
    "key": on_key,
    "member": on_member,
    "user": on_user,
    "team": on_team,
    "organization": on_organization,
}
"""Where a limit can be: a new scope is one more line here."""


def test_a_cap_admits_exactly_what_fits_of_a_crowd_wherever_it_is(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=PROCESSES)
    crowd = sizes.pick(sample=200, full=1_000)
    admitted = {scope: _admitted(run, put(run), crowd, scope) for scope, put in SCOPES.items()}

    verdict = oracle.judge(run.fleet)

    report(**{"parallel": crowd, "admitted": _range(admitted), **verdict.figures()})
    assert admitted == dict.fromkeys(SCOPES, FIT)
    verdict.check()


def _admitted(run: Scenario, capped: Capped, crowd: int, scope: str) -> int:
    """Send the crowd at once, the first requests that this key ever makes; return who got in."""
    body = load.chat(COST_MODEL, marker=scope, delay_ms=50)
    plan = Plan(run.url, [Ask(capped.issued.secret, body)] * crowd, at_once=crowd, barrier=True)
    with Load(plan) as asking:
        answers = asking.answers()
    run.fleet.settle_down()

    admitted = sum(1 for line in run.fleet.served() if line["marker"] == scope)
    assert set(answers.statuses) <= {200, 429}, (scope, answers.statuses, answers.codes)
    assert answers.statuses[200] == admitted
    assert oracle.spent(capped.account) <= LIMIT_UNITS
    return admitted


def _range(admitted: dict[str, int]) -> str:
    low, high = min(admitted.values()), max(admitted.values())
    return f"{low} on each of {len(admitted)} scopes" if low == high else f"{low}–{high}"


def _now() -> datetime:
    return datetime.now(UTC)


def test_a_cap_holds_while_its_counter_must_be_loaded_through_a_slow_database(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=2)
    run.database.delay(to_server_ms=20, to_client_ms=20)
    capped = on_key(run)

    admitted = _admitted(run, capped, sizes.pick(sample=150, full=500), "slow")

    verdict = oracle.judge(run.fleet)
    report(admitted=admitted, **verdict.figures())
    assert admitted == FIT
    verdict.check()
