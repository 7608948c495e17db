"""The ten scopes: how to limit each, and how a request is made to pass through it."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from budgets.changes import change
from budgets.models import (
    PLATFORM,
    Account,
    AccountKind,
    BudgetTemplate,
    EndUser,
    Organization,
    Tag,
    derived_account_id,
)
from budgets.services import accounts, tenancy
from budgets.services.accounts import Terms
from budgets.services.budgets import create_budget
from budgets.services.keys import Owner, issue_key
from gateway.models import Deployment
from gateway.services import create_deployment
from spend.models import Model
from tests.conftest import Cast

SCOPES = (
    "key", "member", "user", "team", "organization", "end_user", "unknown_end_user", "tag",
    "model", "holder_model", "provider", "deployment",
)  # fmt: skip
"""With holder × model, and an end user that nobody has ever seen beside one that has a row."""


@dataclass
class Passing:
    """A request that passes through a limited scope: with which key, and with which fields."""

    secret: str
    digest: str
    account: Account | None
    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    organization_id: int = PLATFORM

    @property
    def account_id(self) -> uuid.UUID:
        """The account's, also of an end user that nobody has seen."""
        if self.account is not None:
            return self.account.id
        return derived_account_id(
            organization_id=self.organization_id, kind=self.kind, text=self.fields["user"]
        )


def limited(scope: str, *, cast: Cast, terms: Terms, model: str = "sandbox-request") -> Passing:
    """Put terms on a scope of the cast, and on nothing else."""
    return _MAKERS[scope](cast, terms, model)


def _now() -> datetime:
    return datetime.now(UTC)


def _key(cast: Cast, *, terms: Terms | None = None, owned: bool = False) -> Any:
    owner = Owner(cast.organization, cast.team, cast.user) if owned else Owner(cast.organization)
    return issue_key(owner=owner, values={}, terms=terms or Terms(), now=_now())


def _put(account: Account, terms: Terms) -> None:
    with change(scope=account.organization_id or PLATFORM):
        accounts.set_private_budget(account=account, terms=terms, now=_now())


def _of_key(cast: Cast, terms: Terms, model: str) -> Passing:
    issued = _key(cast, terms=terms)
    return Passing(issued.secret, issued.key.digest, issued.key.account, "key", {"model": model})


def _of_holder(which: Callable[[Cast], Account], kind: str) -> Callable[..., Passing]:
    def make(cast: Cast, terms: Terms, model: str) -> Passing:
        issued = _key(cast, owned=True)
        account = which(cast)
        _put(account, terms)
        return Passing(issued.secret, issued.key.digest, account, kind, {"model": model})

    return make


def _member(cast: Cast) -> Account:
    return cast.team.memberships.get(user=cast.user).account


def _user(cast: Cast) -> Account:
    return tenancy.join_organization(organization=cast.organization, user=cast.user).account


def _label(kind: AccountKind, *, known: bool) -> Callable[..., Passing]:
    def make(cast: Cast, terms: Terms, model: str) -> Passing:
        issued, text = _key(cast), f"{kind}-{uuid.uuid4().hex[:8]}"
        account = _labelled(cast.organization, kind, text)
        _put(account, terms)
        fields = {"user": text} if kind == AccountKind.END_USER else {"metadata": {"tags": [text]}}
        return Passing(issued.secret, issued.key.digest, account, kind, {"model": model} | fields)

    return make


def _labelled(organization: Organization, kind: AccountKind, text: str) -> Account:
    id = derived_account_id(organization_id=organization.pk, kind=kind, text=text)
    account = Account.objects.create(id=id, organization=organization, kind=kind, label=text)
    if kind == AccountKind.END_USER:
        EndUser.objects.create(organization=organization, external_id=text, account=account)
    else:
        Tag.objects.create(organization=organization, name=text, account=account)
    return account


def _unknown_end_user(cast: Cast, terms: Terms, model: str) -> Passing:
    """Of whom nobody knows anything, but what a template gives to everybody."""
    issued = _key(cast)
    budget = create_budget(organization=cast.organization, terms=terms, name=uuid.uuid4().hex)
    with change(scope=cast.organization.pk):
        accounts.set_template(
            holder=cast.organization.account,
            applies_to=BudgetTemplate.AppliesTo.END_USER,
            budgets=[budget],
            now=_now(),
        )
    user = {"model": model, "user": f"stranger-{uuid.uuid4().hex[:8]}"}
    return Passing(issued.secret, issued.key.digest, None, "end_user", user, cast.organization.pk)


def _own_deployment(cast: Cast, model: str) -> Deployment:
    """A deployment of the organization's own, so that no other test spends through it."""
    like = Deployment.objects.filter(model_name=model).order_by("pk")[0]
    name = f"own-{uuid.uuid4().hex[:12]}"
    values = {
        "organization": cast.organization, "model_name": name, "provider": name,
        "upstream_model": like.upstream_model, "api_base": like.api_base,
        "price_override": _prices(like),
        "input_tokens_max": 1_000_000, "output_tokens_max": 4_096,
    }  # fmt: skip
    return create_deployment(values=values, api_key="sk-sandbox")


def _prices(like: Deployment) -> dict[str, Any]:
    listed = Model.objects.get(provider__slug=like.provider, name=like.upstream_model)
    rates = {
        rate.component: rate.rate for rate in listed.prices.latest("effective_from").rates.all()
    }
    names = {"input": "input_cost_per_token", "output": "output_cost_per_token",
             "request": "input_cost_per_request"}  # fmt: skip
    return {names[part]: str(rate) for part, rate in rates.items() if part in names}


def _platform(kind: AccountKind) -> Callable[..., Passing]:
    def make(cast: Cast, terms: Terms, model: str) -> Passing:
        issued, deployment = _key(cast), _own_deployment(cast, model)
        text = deployment.public_id if kind == AccountKind.DEPLOYMENT else deployment.model_name
        account = accounts.platform_account(kind=kind, text=text)
        _put(account, terms)
        fields = {"model": deployment.model_name}
        return Passing(issued.secret, issued.key.digest, account, kind, fields)

    return make


def _holder_model(cast: Cast, terms: Terms, model: str) -> Passing:
    issued = _key(cast)
    with change(scope=cast.organization.pk):
        accounts.set_model_budgets(
            holder=cast.organization.account, terms={model: terms}, now=_now()
        )
    account = Account.objects.get(holder=cast.organization.account, model=model)
    return Passing(issued.secret, issued.key.digest, account, "holder_model", {"model": model})


_MAKERS: Mapping[str, Callable[..., Passing]] = {
    "key": _of_key,
    "member": _of_holder(_member, "member"),
    "user": _of_holder(_user, "user"),
    "team": _of_holder(lambda cast: cast.team.account, "team"),
    "organization": _of_holder(lambda cast: cast.organization.account, "organization"),
    "end_user": _label(AccountKind.END_USER, known=True),
    "unknown_end_user": _unknown_end_user,
    "tag": _label(AccountKind.TAG, known=True),
    "model": _platform(AccountKind.MODEL),
    "holder_model": _holder_model,
    "provider": _platform(AccountKind.PROVIDER),
    "deployment": _platform(AccountKind.DEPLOYMENT),
}


def strict(limit: str, **more: Any) -> Terms:
    return Terms(max_budget=Decimal(limit), enforcement="strict", **more)
