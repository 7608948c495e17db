"""The models that can be asked for, with deployments and prices; read once for many requests."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import Q, QuerySet

from budgets import snapshots
from budgets.contexts import PathAccount, Terms
from budgets.model_lists import WILDCARD
from budgets.models import AccountKind
from budgets.snapshots import GLOBAL_SCOPE, version_of
from gateway import providers
from gateway.database import Database
from gateway.errors import Unavailable
from gateway.models import Deployment, RoutingRule, WhenClientLeaves
from gateway.providers import Provider
from gateway.routing import fallbacks
from gateway.routing.fallbacks import EVERY_MODEL, Override, Rule
from gateway.routing.strategies import Strategy
from spend import pricebook
from spend.currencies import exchange, ratebook
from spend.currencies.exchange import RateTable
from spend.pricebook import Adjustments, Listed
from spend.rates import Price


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment as the pipeline needs it; its credential stays sealed until it is sent."""

    public_id: str
    organization_id: int | None
    model_name: str
    provider: str
    upstream_model: str
    api_base: str
    sealed_secret: bytes | None
    secret_host: str
    weight: int
    region: str
    override: Price | None
    listed: Listed | None
    input_tokens_max: int | None
    output_tokens_max: int | None
    created_at: datetime
    serving: Provider
    api_version: str = ""
    tags: tuple[str, ...] = ()
    cancels: bool = False
    """Whether an answer whose client has gone is cancelled at once, not drained."""
    pattern: str = ""
    """The wildcard by which it was found."""

    def price_at(self, at: datetime, *, organization_id: int) -> Price | None:
        """
        Return the deployment's own price, else the organization's, else everybody's, else None:
        it is unpriced.
        """
        if self.override is not None or self.listed is None:
            return self.override
        return self.listed.price_at(at, organization_id=organization_id)

    def priced_from(self, at: datetime, *, organization_id: int) -> datetime | None:
        """Return since when that price applies; None where it is the deployment's own, or none."""
        if self.override is not None or self.listed is None:
            return None
        version = self.listed.version_at(at, organization_id=organization_id)
        return None if version is None else version.start

    @property
    def context_window(self) -> int | None:
        return self.input_tokens_max or (self.listed.context_window if self.listed else None)

    @property
    def longest_output(self) -> int | None:
        listed = self.listed.output_tokens_max if self.listed else None
        return self.output_tokens_max or listed or self.context_window


PlatformAccounts = tuple[tuple[PathAccount, tuple[Terms, ...]], ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    version: int
    groups: Mapping[str, tuple[Target, ...]]
    terms: Mapping[UUID, tuple[Terms, ...]] = field(default_factory=dict)
    """Of the accounts of models, providers and deployments that have budgets."""
    closed: frozenset[UUID] = frozenset()
    """Those of them on which nobody may spend."""
    adjustments: Adjustments = field(default_factory=Adjustments)
    rates: RateTable = exchange.NO_RATES
    """What currencies are worth now; older rates stay in Postgres."""
    patterns: tuple[tuple[Target, ...], ...] = ()
    """The deployments of each name that ends with a wildcard, the longest name first."""
    known_accounts: dict[tuple[str, str], PlatformAccounts] = field(default_factory=dict)
    """What :meth:`accounts_of` has made."""
    found: dict[str, tuple[Target, ...]] = field(default_factory=dict)
    """What was asked for by such a name, as it was looked up."""
    rules: Mapping[tuple[int | None, str], Override] = field(default_factory=dict)
    """How models are routed, by organization (None: everybody's) and model name."""

    def pattern_for(self, name: str) -> tuple[Target, ...]:
        """Return the deployments of the longest wildcard that a name without its own fits."""
        if name in self.groups:
            return ()
        fitting = (group for group in self.patterns if name.startswith(group[0].model_name[:-1]))
        return next(fitting, ())

    def group(self, name: str, *, organization_id: int) -> list[Target]:
        """Return the deployments of that name which this organization may use."""
        return [
            target
            for target in self.groups.get(name) or self.found.get(name, ())
            if target.organization_id in {None, organization_id}
        ]

    def names(self, *, organization_id: int) -> Iterator[tuple[str, Target]]:
        """Yield each model name that this organization may use, with its first deployment."""
        for name in sorted(self.groups):
            if group := self.group(name, organization_id=organization_id):
                yield name, group[0]

    def rule_for(self, model: str, organization_id: int) -> Rule:
        """
        Return how an organization's requests for a model are routed: by its own rule for it, where
        that says nothing by everybody's, by the rules for every model, by the settings.
        """
        default = Rule(Strategy(settings.GATEWAY_ROUTING_STRATEGY), settings.GATEWAY_RETRIES)
        if not self.rules:
            return default
        keys = (
            (None, EVERY_MODEL), (organization_id, EVERY_MODEL),
            (None, model), (organization_id, model),
        )  # fmt: skip
        return fallbacks.combined(default, map(self.rules.get, keys))

    def accounts_of(self, target: Target, *, asked: str) -> PlatformAccounts:
        """Return the accounts of the model that was asked for, its provider and deployment."""
        known = self.known_accounts.get((target.public_id, asked))
        if known is None:
            if len(self.known_accounts) >= FOUND_MAX:
                self.known_accounts.clear()
            known = self._make_accounts(target, asked)
            self.known_accounts[target.public_id, asked] = known
        return known

    def _make_accounts(self, target: Target, asked: str) -> PlatformAccounts:
        name = f"{target.model_name} → {target.provider}/{target.upstream_model}"
        accounts = (
            snapshots.platform_account(kind=AccountKind.MODEL, text=asked),
            snapshots.platform_account(kind=AccountKind.PROVIDER, text=target.provider),
            snapshots.platform_account(
                kind=AccountKind.DEPLOYMENT, text=target.public_id, label=name
            ),
        )
        return tuple((account, self.terms.get(account.id, ())) for account in accounts)


FOUND_MAX: Final = 10_000
EMPTY = Catalogue(version=-1, groups={})


def read_catalogue(*, today: date) -> Catalogue:
    """Read every deployment that is not blocked, with its prices, and the rates from now on."""
    version = version_of(GLOBAL_SCOPE)  # before what it labels
    groups: dict[str, list[Target]] = {}
    found = Deployment.objects.filter(blocked=False).select_related("credential")
    deployments = list(found.order_by("id"))
    listed = pricebook.listed_all((each.provider, each.upstream_model) for each in deployments)
    for each in deployments:
        target = _target(each, listed.get((each.provider, each.upstream_model)))
        groups.setdefault(each.model_name, []).append(target)
    return Catalogue(
        version,
        {name: tuple(group) for name, group in groups.items()},
        snapshots.platform_terms(),
        snapshots.closed_platform_accounts(),
        pricebook.adjustments(),
        ratebook.read_table(on=today),
        patterns=tuple(
            tuple(groups[name])
            for name in sorted(groups, key=len, reverse=True)
            if name.endswith(WILDCARD)
        ),
        rules={(each.organization_id, each.model_name): each.override() for each in _rules()},
    )


def concrete(target: Target, *, name: str) -> Target:
    """Return a deployment of a wildcard for one of the names that fit it; reads its price."""
    rest = name.removeprefix(target.model_name.removesuffix(WILDCARD))
    upstream_model = target.upstream_model.replace(WILDCARD, rest)
    listed = pricebook.listed(provider=target.provider, name=upstream_model)
    return replace(target, upstream_model=upstream_model, listed=listed, pattern=target.model_name)


def _rules() -> QuerySet[RoutingRule]:
    return RoutingRule.objects.order_by("id")


def find_target(*, name: str, organization_id: int) -> Target | None:
    """Return the deployment of that name that is drawn most often, else one of that upstream."""
    visible = deployments_of(organization_id=organization_id).select_related("credential")
    for wanted in ({"model_name": name}, {"upstream_model": name}):
        found = visible.filter(**wanted).order_by("-weight", "id").first()
        if found is not None:
            listed = pricebook.listed(provider=found.provider, name=found.upstream_model)
            return _target(found, listed)
    return None


def deployments_of(*, organization_id: int) -> QuerySet[Deployment]:
    """Return the deployments that an organization may use."""
    own = Q(organization=None) | Q(organization_id=organization_id)
    return Deployment.objects.filter(own, blocked=False)


class Catalogues:
    """
    The catalogue of this process: checked by version after ``fresh_seconds``, and served on for
    ``stale_seconds_max`` while Postgres is away.
    """

    def __init__(
        self, *, database: Database, fresh_seconds: float, stale_seconds_max: float
    ) -> None:
        self._database = database
        self._fresh_seconds = fresh_seconds
        self._stale_seconds_max = stale_seconds_max
        self._kept = EMPTY
        self._checked_at = float("-inf")
        self._reading = asyncio.Lock()

    async def get(self) -> Catalogue:
        """
        :raises Unavailable: if Postgres has been away for too long
        """
        if time.monotonic() - self._checked_at <= self._fresh_seconds:
            return self._kept
        try:
            return await self.read_again()
        except Unavailable:
            if time.monotonic() - self._checked_at > self._stale_seconds_max:
                raise
            return self._kept

    async def resolve(self, models: Catalogue, name: str) -> None:
        """
        Look up a name that only a wildcard fits; what was found stays with the catalogue.

        :raises Unavailable: if Postgres is away
        """
        if name in models.groups or name in models.found:
            return
        group = models.pattern_for(name)
        if not group:
            return
        try:
            found = await self._database.run(_concrete, group, name)
        except DatabaseError as error:
            raise Unavailable(
                "Models cannot be looked up right now.", code="ledger_unavailable"
            ) from error
        if len(models.found) >= FOUND_MAX:
            models.found.clear()
        models.found[name] = found

    def deployed(self) -> Mapping[str, tuple[Target, ...]]:
        """Return the models that this process knows, the oldest first; asks nobody."""
        return self._kept.groups

    async def read_again(self) -> Catalogue:
        """
        Return the catalogue of the newest version, read anew if this process has an older one.

        :raises Unavailable: if Postgres is away
        """
        asked_at = time.monotonic()
        async with self._reading:
            if self._checked_at >= asked_at:
                return self._kept  # somebody has read it while we waited
            return await self._read()

    async def _read(self) -> Catalogue:
        began = time.monotonic()
        try:
            if await self._database.run(version_of, GLOBAL_SCOPE) != self._kept.version:
                today = datetime.now(UTC).date()
                self._kept = await self._database.run(read_catalogue, today=today)
        except DatabaseError as error:
            raise Unavailable(
                "Models cannot be looked up right now.", code="ledger_unavailable"
            ) from error
        self._checked_at = began
        return self._kept


def _concrete(group: Iterable[Target], name: str) -> tuple[Target, ...]:
    return tuple(concrete(target, name=name) for target in group)


def _target(deployment: Deployment, listed: Listed | None) -> Target:
    credential = deployment.credential
    return Target(
        public_id=deployment.public_id,
        organization_id=deployment.organization_id,
        model_name=deployment.model_name,
        provider=deployment.provider,
        upstream_model=deployment.upstream_model,
        api_base=deployment.api_base.rstrip("/"),
        sealed_secret=bytes(credential.secret) if credential else None,
        secret_host=credential.host if credential else "",
        weight=deployment.weight,
        region=deployment.region,
        override=pricebook.overriding(
            deployment.price_override, reference=f"deployment:{deployment.public_id}"[:128]
        ),
        listed=listed,
        input_tokens_max=deployment.input_tokens_max,
        output_tokens_max=deployment.output_tokens_max,
        created_at=deployment.created_at,
        serving=providers.of(deployment.provider, deployment.api_base),
        api_version=deployment.api_version,
        tags=tuple(deployment.tags),
        cancels=deployment.when_client_leaves == WhenClientLeaves.CANCEL,
    )
