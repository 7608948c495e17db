"""
This gateway as ``costplatform up`` runs it: one web process, its lane, a recorder beside it.

Postgres syncs its commits and Valkey its file every second, metrics are counted, six accounts of
the path have a budget that holds, and the key has limits of requests, tokens and requests at once.
The books are checked after each run: as many rows as answers, every sum right to the last unit.
"""

import http.client
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from uuid import UUID

import django

from bench import machine
from bench.contestants import (
    MODEL,
    Contestant,
    Place,
    Unavailable,
    Wrong,
    ask,
    free_port,
    wait_until_answered,
)
from bench.load import target
from costplatform import ports, processes, programs, servers
from costplatform.programs import Programs, Site
from costplatform.servers import Addresses

if TYPE_CHECKING:
    from budgets.services.accounts import Terms
    from budgets.services.keys import Owner
    from spend.verification import Report

NAME: Final = "costplatform"
LIMIT: Final = Decimal(1_000_000)
QUIET_SECONDS_MAX: Final = 300.0
QUIET_POLL_SECONDS: Final = 0.1
WEB: Final = "web-1"
_ONE_WEB_PROCESS: Final = {
    "WEB_CONCURRENCY": "1",
    "COSTPLATFORM_SANDBOX": "off",
    "LOG_LEVEL": "WARNING",
}


@dataclass(frozen=True)
class Cast:
    """A key that may spend, one that may not, and the accounts that all have a budget."""

    secret: str
    spent_secret: str
    accounts: Sequence[UUID]


@contextmanager
def running(place: Place) -> Iterator[Contestant]:
    """
    Run everything on servers of its own, with data that is removed on the way out.

    :raises Unavailable: if something does not start
    :raises Wrong: if a key whose budget is spent is served
    """
    with ExitStack() as stack:
        folder = place.folder / NAME
        stack.enter_context(_environment(folder, place))
        addresses = stack.enter_context(servers.running())
        listener = stack.enter_context(ports.listening(host=ports.LOOPBACK, port=free_port()))
        site = Site(data=folder, addresses=addresses, web=listener)
        plan = programs.all_programs(site)
        _prepare(site, plan, place.folder)
        pid = _start(stack, plan, place, port=site.port)
        cast = _cast(place)
        _check_refused(site.port, cast)
        _wait_for_reloads()
        yield Contestant(
            name=NAME,
            title="costplatform, six budgets, recorded",
            version=version(NAME),
            target=target(port=site.port, secret=cast.secret, model=MODEL),
            pid=pid,
            check_books=Books(cast.accounts),
            store_pid=_store_pid(addresses),
            runs_on=_runs_on(),
        )


def _store_pid(addresses: Addresses) -> int:
    # Valkey gives itself a title: its program and where it listens.
    return machine.child_called(f"{ports.LOOPBACK}:{urlsplit(addresses.redis_url).port}")


def _runs_on() -> dict[str, str]:
    from django.db import connection

    from budgets import storekeeper

    packages = {name: version(name) for name in ("django", "uvicorn", "uvloop", "httptools")}
    store = storekeeper.store().info("server")
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        (postgres,) = cursor.fetchone()
    return packages | {
        "postgres": postgres,
        "valkey": str(store.get("valkey_version") or store["redis_version"]),
    }


@contextmanager
def _environment(folder: Path, place: Place) -> Iterator[None]:
    """Give this process and those that it starts no setting of the shell's, but ours."""
    before = dict(os.environ)
    ours = {
        "COSTPLATFORM_DATA_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "costplatform.settings",
        "GATEWAY_ALLOW_PRIVATE_UPSTREAMS": f"{ports.LOOPBACK}/32:{place.upstream_port}",
    }
    prefixes = ("GATEWAY_", "COSTPLATFORM_", "RECORDER_", "METRICS_", "DATABASE_", "REDIS_")
    for name in [name for name in os.environ if name.startswith(prefixes)]:
        del os.environ[name]
    os.environ |= _ONE_WEB_PROCESS | ours
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def _prepare(site: Site, plan: Programs, logs: Path) -> None:
    for process in plan.preparations:
        if processes.run(process, logs=logs):
            tail = processes.log_tail(process, logs=logs)
            raise Unavailable(f"{process.name} failed:{tail}")
    servers.announce(site.addresses)
    django.setup()


def _start(stack: ExitStack, plan: Programs, place: Place, *, port: int) -> int:
    """Start the recorder beside and the web process on its core; return the latter's id."""
    pids = {
        process.name: stack.enter_context(
            place.gateway(process) if process.name == WEB else place.beside(process)
        )
        for stage in plan.stages
        for process in stage
    }
    (web,) = (each for stage in plan.stages for each in stage if each.name == WEB)
    wait_until_answered(port, "/healthz/ready", place=place, process=web, pid=pids[WEB])
    return pids[WEB]


def _cast(place: Place) -> Cast:
    """Make the deployment that leads to the upstream, the accounts and their budgets, and keys."""
    from budgets.services import keys

    now = datetime.now(UTC)
    _deploy(place)
    owner, accounts = _limited_owner(now)
    key = keys.issue_key(owner=owner, values={"name": "bench"}, terms=_key_terms(), now=now)
    spent = keys.issue_key(
        owner=owner, values={"name": "spent"}, terms=_terms(limit=Decimal(0)), now=now
    )
    return Cast(
        secret=key.secret,
        spent_secret=spent.secret,
        accounts=[*accounts, key.key.account.id],
    )


def _deploy(place: Place) -> None:
    from gateway.services import create_deployment

    create_deployment(
        values={
            "public_id": "bench", "model_name": MODEL, "provider": "openai",
            "upstream_model": MODEL, "api_base": f"{place.upstream}/v1",
        },
        api_key="sk-upstream",
    )  # fmt: skip


def _limited_owner(now: datetime) -> "tuple[Owner, list[UUID]]":
    """Make whom keys are for; return the accounts that a budget is in force on, the model's too."""
    from budgets.models import AccountKind, TeamRole
    from budgets.services import accounts, platform, tenancy
    from budgets.services.keys import Owner

    terms = _terms()
    organization = tenancy.create_organization(
        values={"public_id": "bench", "name": "Bench"}, terms=terms, now=now
    )
    team = tenancy.create_team(
        organization=organization, values={"public_id": "bench", "name": "Bench"}, terms=terms,
        now=now,
    )  # fmt: skip
    user = tenancy.create_user(
        organization=organization, values={"public_id": "bench"}, terms=terms, now=now
    )
    member = tenancy.add_member(team=team, user=user, role=TeamRole.USER, terms=terms, now=now)
    joined = tenancy.join_organization(organization=organization, user=user)
    platform.set_platform_budgets(kind=AccountKind.MODEL, terms={MODEL: terms}, now=now)
    model = accounts.platform_account(kind=AccountKind.MODEL, text=MODEL)
    holders = (organization.account, team.account, joined.account, member.account, model)
    return Owner(organization, team, user), [each.id for each in holders]


def _terms(*, limit: Decimal = LIMIT) -> "Terms":
    from budgets.services.accounts import Terms

    return Terms(max_budget=limit, duration="1mo", enforcement="strict")


def _key_terms() -> "Terms":
    return replace(
        _terms(), rpm_limit=10**9, tpm_limit=10**12, max_parallel_requests=10**6
    )  # fmt: skip


def _check_refused(port: int, cast: Cast) -> None:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]})
    headers = {
        "authorization": f"Bearer {cast.spent_secret}", "content-type": "application/json",
    }  # fmt: skip
    status, told = ask(
        "POST", port, "/v1/chat/completions", body=body.encode(), headers=headers
    )  # fmt: skip
    if status != http.client.TOO_MANY_REQUESTS:
        raise Wrong(f"a key whose budget is spent was answered {status}: {told[:300]!r}")


def _wait_for_reloads() -> None:
    """A new budget has the recorder drop its counters: what is not there cannot be compared."""
    from budgets.models import Reload

    until = time.monotonic() + QUIET_SECONDS_MAX
    while Reload.objects.exists():
        if time.monotonic() > until:
            raise Unavailable(
                f"the recorder has not taken up the budgets in {QUIET_SECONDS_MAX:g} s"
            )
        time.sleep(QUIET_POLL_SECONDS)


class Books:
    """The ledger, as it has to be after each run."""

    def __init__(self, accounts: Sequence[UUID]) -> None:
        self._accounts = accounts
        self._answers = 0

    def __call__(self, asked: int) -> None:
        """
        Wait until everything is recorded; then compare.

        :raises Wrong: if rows are missing or too many, or a sum differs
        """
        from django.db.models import Sum

        from budgets import storekeeper
        from spend import verification
        from spend.models import SpendEvent

        self._wait_until_recorded()
        self._answers += asked
        check_rows(verification.verify(), answers=self._answers)
        total = SpendEvent.objects.aggregate(total=Sum("amount_units"))["total"]
        counters = storekeeper.counters_of(self._accounts)
        check_spent(
            [[each.spent for each in counters[account]] for account in self._accounts], total=total
        )

    def _wait_until_recorded(self) -> None:
        from budgets import storekeeper
        from budgets.models import Partition

        until = time.monotonic() + QUIET_SECONDS_MAX
        while True:
            position = Partition.objects.values_list("position", flat=True).get(number=0)
            waiting = storekeeper.read_stream(after=position, count=1)
            if not waiting and not storekeeper.open_reservations():
                return
            if time.monotonic() > until:
                raise Wrong(f"not everything is recorded after {QUIET_SECONDS_MAX:g} s")
            time.sleep(QUIET_POLL_SECONDS)


def check_rows(report: "Report", *, answers: int) -> None:
    """
    Compare the ledger with what was answered.

    :raises Wrong: if there are more rows or fewer, or something differs from their sum
    """
    if report.differences:
        raise Wrong(f"drift: {report.differences[0]}; {len(report.differences)} in all")
    if report.ledger_rows != answers:
        raise Wrong(f"{report.ledger_rows} rows in the ledger for {answers} answers")


def check_spent(spent: Sequence[Sequence[int]], *, total: int) -> None:
    """
    Compare the live counters of limited accounts with the sum of the ledger.

    :raises Wrong: if one of them has none, or another sum: its budget was not asked each time
    """
    if any(list(each) != [total] for each in spent):
        raise Wrong(f"the accounts with budgets have spent {spent}, not {total} units each")
