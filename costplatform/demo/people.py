"""Who spends: three organizations with their teams, users and keys, and the limits they get."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from budgets import periods, snapshots
from budgets.models import Account, ApiKey, Budget, Organization, Team, TeamRole, User
from budgets.services.accounts import Terms
from budgets.services.budgets import create_budget
from budgets.services.keys import Owner, block_key, issue_key
from budgets.services.tenancy import add_member, create_organization, create_team, create_user
from budgets.snapshots import KeySnapshot
from costplatform.demo.limits import Wanted
from costplatform.demo.rhythm import Traffic
from costplatform.demo.workloads import ASSISTANT, BATCH, CODING, SEARCH, TRYING, Workload

EXPIRED_DAYS_AGO: Final = 12
BLOCKED_DAYS_AGO: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlan:
    """A key: what it is used for, and to how many per cent its limit is spent (None: no limit)."""

    name: str
    workload: Workload
    traffic: Traffic
    user: str = ""
    percent: int | None = None
    duration: str = "1mo"
    shares_budget: bool = False
    blocked: bool = False
    expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamPlan:
    name: str
    percent: int | None
    keys: tuple[KeyPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationPlan:
    slug: str
    name: str
    zone: str
    percent: int | None
    shared_percent: int | None = None
    teams: tuple[TeamPlan, ...]


PLANS: Final = (
    OrganizationPlan(
        slug="northwind", name="Northwind Travel", zone="Europe/Madrid", percent=74,
        shared_percent=88,
        teams=(
            TeamPlan(name="Customer care", percent=92, keys=(
                KeyPlan(name="care-chat", workload=ASSISTANT, percent=97,
                        traffic=Traffic(share=60, by_night_too=True)),
                KeyPlan(name="care-drafts", workload=ASSISTANT, user="Ines Duarte", percent=41,
                        duration="1w", traffic=Traffic(share=14)),
            )),
            TeamPlan(name="Search", percent=108, keys=(
                KeyPlan(name="search-answers", workload=SEARCH, percent=110,
                        traffic=Traffic(share=70, by_night_too=True)),
                KeyPlan(name="nightly-reindex", workload=BATCH, percent=63,
                        traffic=Traffic(share=12, by_night_too=True, has_the_spike=True)),
            )),
            TeamPlan(name="Engineering", percent=56, keys=(
                KeyPlan(name="mateo-coding", workload=CODING, user="Mateo Rivas",
                        shares_budget=True, traffic=Traffic(share=12)),
                KeyPlan(name="aiko-coding", workload=CODING, user="Aiko Mori",
                        shares_budget=True, traffic=Traffic(share=9)),
                KeyPlan(name="intern-experiments", workload=TRYING, user="Ben Okafor",
                        percent=22, traffic=Traffic(share=5)),
                KeyPlan(name="old-prototype", workload=TRYING, blocked=True,
                        traffic=Traffic(share=6, ended_days_ago=BLOCKED_DAYS_AGO)),
            )),
        ),
    ),
    OrganizationPlan(
        slug="kestrel", name="Kestrel Robotics", zone="America/New_York", percent=61,
        teams=(
            TeamPlan(name="Developer tools", percent=83, keys=(
                KeyPlan(name="code-review-bot", workload=CODING, percent=79,
                        traffic=Traffic(share=16, by_night_too=True)),
                KeyPlan(name="grace-coding", workload=CODING, user="Grace Lindqvist", percent=35,
                        traffic=Traffic(share=8)),
            )),
            TeamPlan(name="Field support", percent=47, keys=(
                KeyPlan(name="manual-search", workload=SEARCH, percent=66, duration="1d",
                        traffic=Traffic(share=30)),
                KeyPlan(name="ticket-summaries", workload=BATCH, traffic=Traffic(share=10)),
            )),
            TeamPlan(name="Research", percent=None, keys=(
                KeyPlan(name="paper-digests", workload=BATCH, user="Omar Haddad", expired=True,
                        traffic=Traffic(share=7, ended_days_ago=EXPIRED_DAYS_AGO)),
            )),
        ),
    ),
    OrganizationPlan(
        slug="lotus", name="Lotus Clinics", zone="Asia/Kolkata", percent=None,
        teams=(
            TeamPlan(name="Appointments", percent=71, keys=(
                KeyPlan(name="booking-assistant", workload=ASSISTANT, percent=58,
                        traffic=Traffic(share=34)),
            )),
            TeamPlan(name="Reports", percent=29, keys=(
                KeyPlan(name="report-drafts", workload=BATCH, traffic=Traffic(share=9)),
                KeyPlan(name="priya-trials", workload=TRYING, user="Priya Raman",
                        traffic=Traffic(share=3)),
            )),
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Caller:
    """A key that has spent, as the gateway would see it."""

    key: KeyPlan
    snapshot: KeySnapshot
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody who was made, and whose limits are still to be set."""

    organizations: tuple[Organization, ...]
    callers: tuple[Caller, ...]
    limits: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class _Run:
    number: int
    now: datetime

    @property
    def suffix(self) -> str:
        return "" if self.number == 1 else f"-{self.number}"


def make(*, number: int, mark: str, now: datetime) -> Cast:
    """
    Make all organizations with what belongs to them; their metadata says ``mark``: ``number``.

    Budgets count from here on; what they allow is set when it is known what was spent.
    """
    made = [_Maker(plan, _Run(number, now), mark) for plan in PLANS]
    return Cast(
        organizations=tuple(each.organization for each in made),
        callers=tuple(caller for each in made for caller in each.callers),
        limits=tuple(limit for each in made for limit in each.limits),
    )


class _Maker:
    """Makes one organization; remembers who spends and who gets a limit."""

    def __init__(self, plan: OrganizationPlan, run: _Run, mark: str) -> None:
        self._plan = plan
        self._run = run
        self._users: dict[str, User] = {}
        self.callers: list[Caller] = []
        self.limits: list[Wanted] = []
        self.organization = create_organization(
            values={
                "public_id": f"demo-{plan.slug}{run.suffix}",
                "name": f"{plan.name}{run.suffix.replace('-', ' ')}",
                "time_zone": plan.zone,
                "metadata": {mark: run.number},
            },
            terms=self._terms(plan.percent),
            now=run.now,
        )
        self._want(self.organization.account, plan.percent)
        self._shared = self._shared_budget(plan.shared_percent)
        for team in plan.teams:
            self._make_team(team)

    def _terms(self, percent: int | None, duration: str = "1mo") -> Terms:
        """Return terms that count in periods and allow everything, or that say nothing."""
        if percent is None:
            return Terms()
        return Terms(duration=duration, time_zone=self._plan.zone)

    def _want(self, account: Account, percent: int | None) -> None:
        if percent is not None:
            self.limits.append(Wanted(Budget.objects.get(private_to=account), percent))

    def _shared_budget(self, percent: int | None) -> Budget | None:
        if percent is None:
            return None
        budget = create_budget(
            organization=self.organization,
            terms=self._terms(percent),
            public_id=f"demo-{self._plan.slug}-developers{self._run.suffix}",
            name="A developer's month",
        )
        self.limits.append(Wanted(budget, percent))
        return budget

    def _make_team(self, plan: TeamPlan) -> None:
        slug = plan.name.lower().replace(" ", "-")
        team = create_team(
            organization=self.organization,
            values={
                "public_id": f"demo-{self._plan.slug}-{slug}{self._run.suffix}",
                "name": plan.name,
            },
            terms=self._terms(plan.percent),
            now=self._run.now,
        )
        self._want(team.account, plan.percent)
        for key in plan.keys:
            self._make_key(key, team)

    def _make_key(self, plan: KeyPlan, team: Team) -> None:
        values: dict[str, object] = {"name": plan.name}
        if plan.expired:
            values["expires_at"] = self._run.now - timedelta(days=EXPIRED_DAYS_AGO)
        issued = issue_key(
            owner=Owner(self.organization, team, self._user(plan.user, team)),
            values=values,
            terms=self._terms(plan.percent, plan.duration),
            budgets=[self._shared] if plan.shares_budget and self._shared else [],
            now=self._run.now,
        )
        if plan.blocked:
            block_key(key=issued.key, blocked=True)
        self._want(issued.key.account, plan.percent)
        self.callers.append(Caller(plan, _seen_by_gateway(issued.key), self._zone))

    def _user(self, name: str, team: Team) -> User | None:
        if not name:
            return None
        if name not in self._users:
            login = name.lower().replace(" ", ".")
            user = create_user(
                organization=self.organization,
                values={
                    "public_id": f"demo-{login}{self._run.suffix}",
                    "email": f"{login}{self._run.suffix}@{self._plan.slug}.example",
                    "alias": name,
                },
                terms=Terms(),
                now=self._run.now,
            )
            add_member(team=team, user=user, role=TeamRole.USER, terms=Terms(), now=self._run.now)
            self._users[name] = user
        return self._users[name]

    @property
    def _zone(self) -> ZoneInfo:
        return periods.zone_of(self._plan.zone)


def _seen_by_gateway(key: ApiKey) -> KeySnapshot:
    snapshot = snapshots.read_key(digest=key.digest, legacy_digest=key.digest)
    assert snapshot is not None, "the key was made just now"
    return snapshot
