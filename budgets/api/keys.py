"""``/key/*``: virtual keys."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from budgets import lifetimes, queries
from budgets.api import answers, inputs
from budgets.api.answers import KeyView
from budgets.api.endpoints import Asked, ManagementView, endpoint
from budgets.api.limits import (
    check_same_organization,
    new_limits,
    wanted_changes,
    wanted_organization,
    wanted_values,
)
from budgets.api.told import key_view, key_views
from budgets.errors import InvalidInput
from budgets.models import ApiKey, Team, User
from budgets.services.accounts import Terms
from budgets.services.increases import Person, Wanted, grant, withdraw_grants
from budgets.services.keys import (
    Issued,
    Owner,
    block_key,
    delete_keys,
    issue_key,
    rotate_key,
    update_key,
)
from budgets.services.limits import set_limits
from budgets.services.tenancy import DEFAULT_ORGANIZATION

FIELDS: Final[Mapping[str, tuple[str, Any]]] = {
    "key_alias": ("name", ""),
    "models": ("allowed_models", []),
    "metadata": ("metadata", {}),
    "blocked": ("blocked", False),
}


class KeyGenerate(ManagementView):
    @endpoint(takes=inputs.GenerateKey, answers=answers.IssuedKey)
    def post(self, asked: Asked) -> KeyView:
        """Make a virtual key; its secret is in this answer and nowhere else."""
        now = timezone.now()
        owner = _owner(asked)
        limits = new_limits(asked, organization=owner.organization)
        with transaction.atomic():
            issued = issue_key(
                owner=owner,
                values=_values(asked, now),
                terms=Terms(),
                secret=asked.get("key"),
                now=now,
            )
            set_limits(account=issued.key.account, limits=limits, now=now)
            _increase(issued.key, asked, now)
        return _told(issued, now)


class KeyUpdate(ManagementView):
    @endpoint(takes=inputs.UpdateKey, answers=answers.ChangedKey)
    def post(self, asked: Asked) -> KeyView:
        """Change a key: what is left out stays, null takes away."""
        now = timezone.now()
        with transaction.atomic():
            key = queries.find_key(asked["key"], lock=True)
            _update(key, asked, now)
        return key_view(key, at=now)


class KeyRegenerate(ManagementView):
    @endpoint(takes=inputs.RegenerateKey, answers=answers.IssuedKey)
    def post(self, asked: Asked) -> KeyView:
        """Give a key a new secret, and change it as ``/key/update`` would; its spend stays."""
        return _regenerate(asked["key"], asked)


class KeyRegenerateNamed(ManagementView):
    @endpoint(
        takes=inputs.RegenerateKeyNamed,
        answers=answers.IssuedKey,
        operation_id="key_regenerate_named",
    )
    def post(self, asked: Asked, key: str) -> KeyView:
        """Give the key of the path a new secret."""
        if asked.get("key") not in {None, key}:
            raise InvalidInput("key", "is another than that of the path")
        return _regenerate(key, asked)


class KeyBlock(ManagementView):
    @endpoint(takes=inputs.OneKey, answers=answers.Key)
    def post(self, asked: Asked) -> KeyView:
        """Refuse every request with this key from the next one on."""
        return _block(asked["key"], blocked=True)


class KeyUnblock(ManagementView):
    @endpoint(takes=inputs.OneKey, answers=answers.Key)
    def post(self, asked: Asked) -> KeyView:
        """Admit requests with this key again."""
        return _block(asked["key"], blocked=False)


class KeyDelete(ManagementView):
    @endpoint(takes=inputs.DeleteKeys, answers=answers.DeletedKeys)
    def post(self, asked: Asked) -> dict[str, list[str]]:
        """Delete keys, all or none; what they spent stays on their accounts."""
        if bool(asked.get("keys")) == bool(asked.get("key_aliases")):
            raise InvalidInput("keys", "is needed, or key_aliases, but not both")
        if references := asked.get("keys"):
            chosen = queries.find_keys(references, field="keys")
        else:
            chosen = queries.find_keys_by_alias(asked["key_aliases"], field="key_aliases")
        tokens = [key.digest for key in chosen]
        delete_keys(chosen=chosen)
        return {"deleted_keys": tokens}


class KeyInfo(ManagementView):
    @endpoint(takes=inputs.KeyQuery, answers=answers.KeyDetail)
    def get(self, asked: Asked) -> KeyView:
        """Tell all about a key, named by its secret or its token."""
        return key_view(queries.find_key(asked["key"]), at=timezone.now())


class KeyList(ManagementView):
    @endpoint(takes=inputs.ListKeys, answers=answers.KeyPage)
    def get(self, asked: Asked) -> dict[str, Any]:
        """List keys, the newest first: their tokens, or with ``return_full_object`` everything."""
        page = queries.page_of(_filtered(asked), number=asked["page"], size=asked["size"])
        is_full = asked["return_full_object"]
        return {
            "keys": key_views(page.rows, at=timezone.now())
            if is_full
            else [key.digest for key in page.rows],
            "total_count": page.total,
            "current_page": page.number,
            "total_pages": page.pages,
        }


def _owner(asked: Asked) -> Owner:
    team = queries.find_team(asked["team_id"]) if asked.get("team_id") else None
    if team is not None:
        check_same_organization(asked, team.organization)
    default = team.organization.public_id if team else DEFAULT_ORGANIZATION
    return Owner(
        organization=wanted_organization(asked, default=default),
        team=team,
        user=queries.find_user(asked["user_id"]) if asked.get("user_id") else None,
    )


def _values(asked: Asked, now: datetime) -> dict[str, Any]:
    values = wanted_values(asked, FIELDS)
    if "duration" in asked:
        lifetime = asked["duration"]
        values["expires_at"] = lifetimes.end_of(lifetime, start=now) if lifetime else None
    return values


def _update(key: ApiKey, asked: Asked, now: datetime) -> None:
    check_same_organization(asked, key.organization)
    limits = wanted_changes(asked, account=key.account, organization=key.organization)
    update_key(key=key, values={**_values(asked, now), **_new_owner(asked)}, now=now)
    set_limits(account=key.account, limits=limits, now=now)
    _increase(key, asked, now)


def _increase(key: ApiKey, asked: Asked, now: datetime) -> None:
    """
    Give the key an increase at once as LiteLLM's pair of fields says, or end the one it has.

    :raises InvalidInput: if only half of the pair is given, or it does not fit
    """
    if _INCREASE.keys().isdisjoint(asked):
        return
    amount, ends_at = (asked.get(name) for name in _INCREASE)
    first, second = _INCREASE
    for name, other in ((first, second), (second, first)):
        if asked.get(name) is None and asked.get(other) is not None:
            raise InvalidInput(name, f"is needed beside {other}")
    if amount is None:
        withdraw_grants(account=key.account, by=Person(), now=now)
        return
    wanted = Wanted(amount=amount, why="given with the key", ends_at=ends_at)
    named = {ours: theirs for theirs, ours in _INCREASE.items()}
    own = queries.own_budget(key.account_id)
    try:
        grant(account=key.account, budget=own, wanted=wanted, by=Person(), now=now)
    except InvalidInput as error:
        field = named.get(error.field, "temp_budget_increase")
        raise InvalidInput(field, error.problem) from error


_INCREASE: Final[Mapping[str, str]] = {
    "temp_budget_increase": "amount", "temp_budget_expiry": "ends_at",
}  # fmt: skip


def _new_owner(asked: Asked) -> dict[str, Team | User | None]:
    owner: dict[str, Team | User | None] = {}
    if "team_id" in asked:
        owner["team"] = queries.find_team(asked["team_id"]) if asked["team_id"] else None
    if "user_id" in asked:
        owner["user"] = queries.find_user(asked["user_id"]) if asked["user_id"] else None
    return owner


def _regenerate(reference: str, asked: Asked) -> KeyView:
    now = timezone.now()
    with transaction.atomic():
        key = queries.find_key(reference, lock=True)
        _update(key, asked, now)
        issued = rotate_key(key=key, secret=asked.get("new_key"))
    return _told(issued, now)


def _block(reference: str, *, blocked: bool) -> KeyView:
    key = block_key(key=queries.find_key(reference), blocked=blocked)
    return key_view(key, at=timezone.now())


def _told(issued: Issued, now: datetime) -> KeyView:
    return key_view(issued.key, at=now, secret=issued.secret)


def _filtered(asked: Asked) -> QuerySet[ApiKey]:
    keys = queries.all_keys()
    for name, path in _FILTERS.items():
        if value := asked.get(name):
            keys = keys.filter(**{path: value})
    return keys


_FILTERS: Final = {
    "user_id": "user__public_id",
    "team_id": "team__public_id",
    "organization_id": "organization__public_id",
    "key_hash": "digest",
    "key_alias": "name",
}
