"""From the limits in a request to a budget's terms."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from budgets import queries
from budgets.api.endpoints import Asked
from budgets.errors import InvalidInput
from budgets.models import Account, Budget, BudgetTemplate, Organization
from budgets.services.accounts import Terms, terms_of
from budgets.services.limits import Limits
from budgets.services.templates import members_budget

_TERMS: Final[Mapping[str, str]] = {
    "max_budget": "max_budget",
    "max_budget_in_team": "max_budget",
    "soft_budget": "soft_budget",
    "budget_duration": "duration",
    "budget_time_zone": "time_zone",
    "budget_reset_at": "anchor",
    "budget_reset_time": "reset_time",
    "budget_week_start": "week_start",
    "budget_year_start": "year_start",
    "rollover_max": "rollover_max",
    "rpm_limit": "rpm_limit",
    "tpm_limit": "tpm_limit",
    "max_parallel_requests": "max_parallel_requests",
    "enforcement": "enforcement",
}
_MEMBER_TERMS: Final[Mapping[str, str]] = {
    "team_member_budget": "max_budget",
    "team_member_budget_duration": "duration",
    "team_member_rpm_limit": "rpm_limit",
    "team_member_tpm_limit": "tpm_limit",
}
TEMPLATES: Final[Mapping[str, str]] = {
    "key_budget_id": BudgetTemplate.AppliesTo.KEY,
    "member_budget_id": BudgetTemplate.AppliesTo.MEMBER,
    "end_user_budget_id": BudgetTemplate.AppliesTo.END_USER,
}
_CLEARED: Final[Mapping[str, Any]] = {
    name: getattr(Terms(), name)
    for name in ("duration", "enforcement", "reset_time", "week_start", "year_start")
}
_ABOUT_A_LIMIT: Final = (
    "budget_time_zone", "budget_reset_at", "budget_reset_time", "budget_week_start",
    "budget_year_start", "enforcement",
)  # fmt: skip
_BESIDE: Final = ("budget_limits", "model_max_budget", "model_rpm_limit", "model_tpm_limit")
_LAID_OUT_AS: Final = ("time_zone", "reset_time", "week_start", "year_start")
"""Further budgets lie in time as the main one does, an anchor apart."""
_MODEL_RATES: Final = ("rpm_limit", "tpm_limit")


def wanted_terms(asked: Asked, *, organization: Organization, base: Terms | None = None) -> Terms:
    """
    Return ``base`` with what the request says: null takes a limit away.

    :raises InvalidInput: if it tells how a limit is to count, and there is none
    """
    terms = _said(asked, _TERMS, organization, base)
    if terms.says_nothing and not any(asked.get(name) for name in _BESIDE):
        _check_nothing_to_say(asked)
    return terms


def _said(
    asked: Asked, names: Mapping[str, str], organization: Organization, base: Terms | None
) -> Terms:
    cleared = {**_CLEARED, "time_zone": organization.time_zone}
    said: dict[str, Any] = {
        names[name]: cleared.get(names[name]) if value is None else value
        for name, value in asked.items()
        if name in names
    }
    return replace(base or Terms(time_zone=organization.time_zone), **said)


def _check_nothing_to_say(asked: Asked) -> None:
    for name in _ABOUT_A_LIMIT:
        if asked.get(name) not in {None, _CLEARED.get(_TERMS[name])}:
            raise InvalidInput(name, "needs a limit that it is about")


def wanted_budgets(
    asked: Asked, *, organization: Organization, field: str = "budget_id"
) -> list[Budget]:
    """
    Return the shared budget that is to be linked, if one is.

    :raises InvalidInput: if it is another organization's
    :raises NotFound: if there is none of that id
    """
    public_id = asked.get(field)
    if not public_id:
        return []
    budget = queries.find_shared_budget(public_id, field=field)
    if budget.organization_id != organization.pk:
        raise InvalidInput(field, "belongs to another organization")
    return [budget]


def check_one_of(asked: Asked) -> None:
    """
    Return if the request states limits or links a budget, not both.

    :raises InvalidInput: if it does both
    """
    stated = [name for name in _TERMS if asked.get(name) is not None]
    if asked.get("budget_id") and stated:
        raise InvalidInput("budget_id", f"is beside {stated[0]}: only one of the two can be")


def new_limits(asked: Asked, *, organization: Organization) -> Limits:
    """
    Return the limits of what is to be made: those of its own win over a linked budget.

    :raises InvalidInput: naming the field that does not fit
    :raises NotFound: if there is no such budget
    """
    terms = wanted_terms(asked, organization=organization)
    linked = wanted_budgets(asked, organization=organization)
    return Limits(
        terms=terms,
        budgets=linked if terms.says_nothing else [],
        windows=_windows(asked, terms),
        models=_models(asked, terms, {}),
        templates=_templates(asked, organization),
        members=_members(asked, organization, None),
    )


def wanted_changes(asked: Asked, *, account: Account, organization: Organization) -> Limits:
    """
    Return what an update does to an account's limits: those of its own win over a linked budget.

    :raises InvalidInput: if a budget is to be linked beside limits of its own
    :raises NotFound: if there is no such budget
    """
    own = queries.own_budget(account.pk)
    base = terms_of(own) if own else None
    is_said = not _TERMS.keys().isdisjoint(asked)
    terms = wanted_terms(asked, organization=organization, base=base) if is_said else None
    result = terms or base or Terms(time_zone=organization.time_zone)
    return Limits(
        terms=terms,
        budgets=_links(asked, organization, beside=result),
        windows=_windows(asked, result),
        models=_models(asked, result, queries.model_budgets(account.pk)),
        templates=_templates(asked, organization),
        members=_members(asked, organization, account),
    )


def _templates(asked: Asked, organization: Organization) -> dict[str, list[Budget]]:
    """Return the shared budgets that whoever is under a team or organization gets."""
    return {
        applies_to: wanted_budgets(asked, organization=organization, field=field)
        for field, applies_to in TEMPLATES.items()
        if field in asked
    }


def _members(asked: Asked, organization: Organization, team: Account | None) -> Terms | None:
    """Return what a team states for its members; None: what it does."""
    is_said = not _MEMBER_TERMS.keys().isdisjoint(asked)
    if not is_said and not asked.get("member_budget_id"):
        return None
    stated = members_budget(team) if team else None
    terms = _said(asked, _MEMBER_TERMS, organization, terms_of(stated) if stated else None)
    if asked.get("member_budget_id") and not terms.says_nothing:
        problem = "is beside team_member_budget and its like, which win; clear those with null"
        raise InvalidInput("member_budget_id", problem)
    return terms if is_said else None


def _links(asked: Asked, organization: Organization, *, beside: Terms) -> list[Budget] | None:
    """Return the budgets to link; None: those that are."""
    linked = wanted_budgets(asked, organization=organization)
    if beside.says_nothing:
        return linked if "budget_id" in asked else None
    if linked:
        problem = "is beside limits of its own, which win; clear those with null to link it"
        raise InvalidInput("budget_id", problem)
    return []


def _windows(asked: Asked, base: Terms) -> list[Terms] | None:
    """Return the budgets beside the main one; where they say nothing of it, they lie as that."""
    if "budget_limits" not in asked:
        return None
    return [
        Terms(
            max_budget=each["max_budget"],
            duration=each["budget_duration"],
            anchor=each.get("reset_at"),
            enforcement=each.get("enforcement") or base.enforcement,
            **{name: getattr(base, name) for name in _LAID_OUT_AS},
        )
        for each in asked["budget_limits"] or []
    ]


def _models(asked: Asked, base: Terms, kept: Mapping[str, Budget]) -> dict[str, Terms] | None:
    """Return the budgets of single models; the fields for one rate change that rate of all."""
    if not any(name in asked for name in _BESIDE[1:]):
        return None
    laid_out = {name: getattr(base, name) for name in _LAID_OUT_AS}
    general = Terms(enforcement=base.enforcement, **laid_out)
    if "model_max_budget" in asked:
        given = asked["model_max_budget"] or {}
        terms = {model: terms_of_model(each, general=general) for model, each in given.items()}
    else:
        terms = {model: terms_of(budget) for model, budget in kept.items()}
    for rate in _MODEL_RATES:
        if f"model_{rate}" in asked:
            _set_rate(terms, rate, asked[f"model_{rate}"] or {}, general)
    return {model: each for model, each in terms.items() if not each.says_nothing}


def terms_of_model(given: Mapping[str, Any], *, general: Terms) -> Terms:
    """Return ``general`` with what an entry of a model or provider says."""
    said = {_TERMS[name]: value for name, value in given.items() if value is not None}
    return replace(general, **said)


def _set_rate(
    terms: dict[str, Terms], rate: str, wanted: Mapping[str, int], general: Terms
) -> None:
    for model in terms.keys() | wanted.keys():
        changed: dict[str, Any] = {rate: wanted.get(model)}
        terms[model] = replace(terms.get(model, general), **changed)


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
