"""After a mixed load every place that tells of spend tells the same number, to the last unit."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings

from budgets import money, storekeeper
from budgets.admin import figures
from budgets.models import Account, Organization, OrganizationMembership, PeriodTotal
from budgets.periods import Period, period_at, zone_of
from budgets.services import tenancy
from budgets.services.keys import Issued, Owner
from tests.faults import load, oracle
from tests.faults.conftest import Begin, Report
from tests.faults.load import Ask, Load, Plan
from tests.faults.scenario import Scenario, Sizes, shuffled, terms
from tests.gateway.support import get
from tests.metrics_text import scrape

PROCESSES = 3
ROOMY, TIGHT = "1000", "0.05"
STREAM: dict[str, object] = {"chunks": 5, "chunk_delay_ms": 5}


@dataclass(frozen=True)
class Holder:
    """An account, and where the management API tells what it has spent."""

    account: Account
    path: str
    row: str = ""
    secret: str = ""

    def told(self, url: str) -> Decimal:
        answer = get(url, settings.MASTER_KEY, self.path)
        told = json.loads(answer.body, parse_float=Decimal, parse_int=Decimal)
        return Decimal((told[self.row] if self.row else told)["spend"])


@dataclass(frozen=True)
class Cast:
    keys: list[Issued]
    holders: list[Holder]


def _cast(run: Scenario) -> Cast:
    organization = run.organization(limit=ROOMY)
    holders = [
        Holder(organization.account, f"/organization/info?organization_id={organization.public_id}")
    ]
    keys = [run.key(Owner(organization), limit=TIGHT)]
    for number in range(2):
        team = tenancy.create_team(
            organization=organization, values={"name": f"Team {number}"}, terms=terms(ROOMY),
            now=datetime.now(UTC),
        )  # fmt: skip
        holders.append(Holder(team.account, f"/team/info?team_id={team.public_id}", "team_info"))
        keys.append(run.key(Owner(organization, team=team), limit=ROOMY))
    keys.append(_users_key(run, organization, holders))
    holders += [
        Holder(each.key.account, f"/key/info?key={each.key.digest}", "info", each.secret)
        for each in keys
    ]
    return Cast(keys, holders)


def _users_key(run: Scenario, organization: Organization, holders: list[Holder]) -> Issued:
    user = tenancy.create_user(
        values={"email": "one@example.com"}, organization=organization, terms=terms(ROOMY),
        now=datetime.now(UTC),
    )  # fmt: skip
    joined = OrganizationMembership.objects.get(organization=organization, user=user)
    holders.append(Holder(joined.account, f"/user/info?user_id={user.public_id}", "user_info"))
    return run.key(Owner(organization, user=user), limit=ROOMY)


def _bodies() -> list[dict[str, Any]]:
    """The kinds of requests that are mixed: most are answered, some fail in one way or another."""

    def chat(**script: object) -> dict[str, Any]:
        return load.chat("sandbox-chat", marker="m", stream=False, **script)

    def stream(**script: object) -> dict[str, Any]:
        return load.chat("sandbox-chat", marker="m", stream=True, **{**STREAM, **script})

    return [
        chat(), chat(delay_ms=30), chat(reply="x" * 500), stream(), stream(first_delay_ms=20),
        load.chat("sandbox-request", marker="m"),
        load.chat("sandbox-request", marker="m", stream=True, **STREAM),
        chat(status=500), chat(status=429), chat(fault="reset_before_headers"),
        stream(fault="reset_mid_stream"), chat(fault="malformed_json"), stream(fault="truncate"),
        load.chat("no-such-model", marker="m"),
    ]  # fmt: skip


def _asks(cast: Cast, run: Scenario, count: int) -> list[Ask]:
    bodies, keys = _bodies(), [each.secret for each in cast.keys]
    asks = [Ask(keys[n % len(keys)], bodies[n % len(bodies)]) for n in range(count)]
    return shuffled(run.dice, [*asks, *(Ask("sk-unknown", bodies[0]) for _ in range(count // 50))])


def _this_month() -> Period:
    return period_at(duration="1mo", zone=zone_of("UTC"), at=datetime.now(UTC))


def _live(account: Account, period: Period) -> int | None:
    counters = storekeeper.counters_of([account.id])[account.id]
    return next((int(each.spent) for each in counters if each.period == period), None)


def _total(account: Account, period: Period) -> int:
    return PeriodTotal.objects.get(
        account=account, period_start=period.start, period_end=period.end
    ).amount_units


def _numbers(holder: Holder, url: str, period: Period) -> dict[str, object]:
    """Return what each place says, in units."""
    told = holder.told(url)
    return {
        "management API": money.to_units(told, currency="USD"),
        "admin": _in_admin(holder.account),
        **_on_metrics(holder.account, url),
        **_for_the_key(holder, url),
        "live counter": _live(holder.account, period),
        "period total": _total(holder.account, period),
        "ledger": oracle.spent(holder.account.id),
    }


def _in_admin(account: Account) -> int:
    """What the account's page in the admin shows."""
    (figure,) = figures.of_account(account, now=datetime.now(UTC)).budgets
    return money.to_units(figure.spent, currency="USD")


def _on_metrics(account: Account, url: str) -> dict[str, object]:
    """Only organizations and teams are among the metrics; floats hold these amounts exactly."""
    if account.kind not in {"organization", "team"}:
        return {}
    found = scrape(url, settings.MASTER_KEY)
    (spent,) = found.each("costplatform_budget_spent", account_id=str(account.id))
    return {"metrics": round(spent * 10**9)}


def _for_the_key(holder: Holder, url: str) -> dict[str, object]:
    """What ``GET /v1/key`` tells a key of itself: the counter that the gate decides by."""
    if not holder.secret:
        return {}
    told = get(url, holder.secret, "/v1/key").json
    (limit,) = [each for each in told["limits"] if each["level"] == "key"]
    return {"gate": money.to_units(Decimal(limit["spent"]), currency="USD")}


def test_gate_api_admin_metrics_and_ledger_are_one_number_after_a_mixed_load(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=PROCESSES)
    cast, period = _cast(run), _this_month()
    asks = _asks(cast, run, sizes.pick(sample=600, full=10_000))
    at_once = sizes.pick(sample=50, full=200)

    with Load(Plan(run.url, asks, at_once=at_once, seconds_max=600)) as asking:
        answers = asking.answers()
    verdict = oracle.judge(run.fleet)
    numbers = [_numbers(holder, run.url, period) for holder in cast.holders]

    apart = [each for each in numbers if len(set(each.values())) > 1]
    report(
        requests=len(asks),
        answers=_sorted(answers.statuses),
        accounts=len(numbers),
        **{"numbers apart": len(apart)},
        **verdict.figures(),
    )
    assert apart == []
    assert all(each["ledger"] for each in numbers)
    assert {200, 401, 404, 429, 500, 502} <= set(answers.statuses)
    verdict.check()


def _sorted(statuses: dict[int, int]) -> str:
    return " ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
