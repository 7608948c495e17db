"""From the limits in a request to a budget's terms."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from budgets import queries
from budgets.api.endpoints import Asked
from budgets.errors import InvalidInput
from budgets.models import Budget, Enforcement, Organization
from budgets.services.accounts import Terms, terms_of

_TERMS: Final[Mapping[str, str]] = {
    "max_budget": "max_budget",
    "max_budget_in_team": "max_budget",
    "soft_budget": "soft_budget",
    "budget_duration": "duration",
    "budget_time_zone": "time_zone",
    "enforcement": "enforcement",
}
_CLEARED: Final[Mapping[str, Any]] = {"duration": "", "enforcement": Enforcement.STRICT.value}


@dataclass(frozen=True, slots=True)
class LimitChanges:
    """What becomes of an account's own limits and of its links; None: nothing."""

    terms: Terms | None
    budgets: list[Budget] | None


def wanted_terms(asked: Asked, *, organization: Organization, base: Terms | None = None) -> Terms:
    """
    Return ``base`` with what the request says: null takes a limit away.

    :raises InvalidInput: if it tells how a limit is to count, and there is none
    """
    if base is None:
        base = Terms(time_zone=organization.time_zone)
    cleared = {**_CLEARED, "time_zone": organization.time_zone}
    said: dict[str, Any] = {
        _TERMS[name]: cleared.get(_TERMS[name]) if value is None else value
        for name, value in asked.items()
        if name in _TERMS
    }
    terms = replace(base, **said)
    if terms.says_nothing and asked.get("budget_time_zone"):
        raise InvalidInput("budget_time_zone", "needs a max_budget or a budget_duration")
    return terms


def wanted_budgets(asked: Asked) -> list[Budget]:
    """
    Return the shared budget that is to be linked, if one is.

    :raises NotFound: if there is none of that id
    """
    public_id = asked.get("budget_id")
    return [queries.find_shared_budget(public_id)] if public_id else []


def wanted_changes(asked: Asked, *, account_id: UUID, organization: Organization) -> LimitChanges:
    """
    Return what an update does to an account's limits: those of its own win over a linked budget.

    :raises InvalidInput: if a budget is to be linked beside limits of its own
    :raises NotFound: if there is no such budget
    """
    own = queries.own_budget(account_id)
    base = terms_of(own) if own else None
    is_said = not _TERMS.keys().isdisjoint(asked)
    terms = wanted_terms(asked, organization=organization, base=base) if is_said else None
    budgets = wanted_budgets(asked) if "budget_id" in asked else None
    result = terms or base
    if result is not None and not result.says_nothing:
        if budgets:
            problem = "is beside limits of its own, which win; clear those with null to link it"
            raise InvalidInput("budget_id", problem)
        budgets = []
    return LimitChanges(terms, budgets)


def wanted_values(asked: Asked, fields: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Return the model's fields that the request names; null means what ``fields`` has for it."""
    return {
        name: cleared if asked[given] is None else asked[given]
        for given, (name, cleared) in fields.items()
        if given in asked
    }


def wanted_organization(asked: Asked, *, default: str) -> Organization:
    """
    Return the organization that the request names, or that of ``default``.

    :raises NotFound: if there is none of that id
    """
    return queries.find_organization(asked.get("organization_id") or default)


def check_same_organization(asked: Asked, organization: Organization) -> None:
    """
    Return if the request names no other organization.

    :raises InvalidInput: if it does: what was spent in one cannot be moved to another
    """
    if asked.get("organization_id") not in {None, organization.public_id}:
        raise InvalidInput("organization_id", f"is {organization.public_id} and cannot be changed")
