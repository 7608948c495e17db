"""
LiteLLM's router settings: one object for all models, which becomes everybody's rules and the
budgets of providers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from budgets import display, queries
from budgets.changes import change
from budgets.errors import InvalidInput
from budgets.models import AccountKind, Budget
from budgets.services.accounts import Terms, terms_of
from budgets.services.platform import set_platform_budgets
from budgets.snapshots import GLOBAL_SCOPE
from gateway.models import FALLBACK_FIELDS, RoutingRule
from gateway.routing.causes import Cause
from gateway.routing.fallbacks import EVERY_MODEL, Override, Rule, combined
from gateway.routing.strategies import Strategy
from gateway.routing.words import name_of, what_happens
from gateway.routing_rules import set_rule

STRATEGIES: Final[Mapping[str, Strategy]] = {
    "simple-shuffle": Strategy.WEIGHTED,
    "least-busy": Strategy.LEAST_BUSY,
    "cost-based-routing": Strategy.LOWEST_COST,
    "latency-based-routing": Strategy.LATENCY,
    **{each.value: each for each in Strategy},
}
"""
LiteLLM's names, and our own for what it lacks. Its usage-based routing has no counterpart: limits
of requests and tokens are checked by reserve, whatever the order is.
"""
NO_LIMIT: Final = "no limit"


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What is to be: only what is named in ``said`` is changed, None and ``{}`` take away."""

    said: frozenset[str]
    strategy: Strategy | None = None
    retries: int | None = None
    fallbacks: Mapping[Cause, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """By cause, then by model; what stands here for a cause replaces all that there is of it."""
    default_fallbacks: Sequence[str] | None = None
    provider_budgets: Mapping[str, Terms] = field(default_factory=dict)
    """A provider that is not named keeps its own; terms that say nothing end them."""


def apply(*, wanted: RouterSettings, now: datetime, check_only: bool = False) -> list[str]:
    """
    Make everybody's rules and providers' budgets what the settings say, all or none; return in
    words what that changes. ``check_only`` changes nothing.

    :raises InvalidInput: naming the setting that does not fit
    """
    with change(scope=GLOBAL_SCOPE):
        before = _state()
        for model, values in _values_by_model(wanted).items():
            _set(model, values)
        if wanted.provider_budgets:
            _set_budgets(wanted.provider_budgets, now)
        after = _state()
        if check_only:
            transaction.set_rollback(True)
    return list(_differences(before, after))


def everybodys_rules() -> dict[str, Override]:
    """Return the rules for all organizations by their models, that for every model last."""
    rows = RoutingRule.objects.filter(organization=None)
    in_order = sorted(rows, key=lambda rule: (rule.model_name == EVERY_MODEL, rule.model_name))
    return {rule.model_name: rule.override() for rule in in_order}


def default_rule() -> Rule:
    """Return what applies to a model without a rule: everybody's for every model, or settings."""
    default = Rule(Strategy(settings.GATEWAY_ROUTING_STRATEGY), settings.GATEWAY_RETRIES)
    return combined(default, [everybodys_rules().get(EVERY_MODEL)])


def _values_by_model(wanted: RouterSettings) -> dict[str, dict[str, Any]]:
    """Return the fields to write of each model's rule; lists are replaced as a whole."""
    values: dict[str, dict[str, Any]] = {}
    known = everybodys_rules()
    for cause, lists in wanted.fallbacks.items():
        for model in dict.fromkeys([*known, *lists]):
            # The default's list has a setting of its own, which need not be said beside.
            if model != EVERY_MODEL or model in lists:
                named = lists.get(model)
                value = None if named is None else list(named)
                values.setdefault(model, {})[FALLBACK_FIELDS[cause]] = value
    for_all = values.setdefault(EVERY_MODEL, {})
    if "default_fallbacks" in wanted.said:
        default = wanted.default_fallbacks
        for_all["fallbacks"] = list(default) if default else None
    if "routing_strategy" in wanted.said:
        for_all["strategy"] = wanted.strategy
    if "num_retries" in wanted.said:
        for_all["retries"] = wanted.retries
    return {model: named for model, named in values.items() if named}


def _set(model: str, values: Mapping[str, Any]) -> None:
    try:
        set_rule(model_name=model, organization=None, values=values)
    except InvalidInput as error:
        name = error.field if error.field in values else next(iter(values))
        if model == EVERY_MODEL and name == FALLBACK_FIELDS[Cause.DEFAULT]:
            name = "default_fallbacks"
        problem = error.problem if model == EVERY_MODEL else f"of {model[:64]!r} {error.problem}"
        raise InvalidInput(name, problem) from error


def _set_budgets(terms: Mapping[str, Terms], now: datetime) -> None:
    try:
        set_platform_budgets(kind=AccountKind.PROVIDER, terms=terms, now=now)
    except InvalidInput as error:
        raise InvalidInput("provider_budget_config", f"{error.field} {error.problem}") from error


def _state() -> dict[str, str]:
    """Return in words what there is, by what it is about."""
    rules = {
        name_of(model): what_happens(override) for model, override in everybodys_rules().items()
    }
    return rules | {f"provider {name}": _limit(terms) for name, terms in provider_terms().items()}


def provider_terms() -> dict[str, Terms]:
    """Return the limits that providers have of their own, by the providers' names."""
    names = dict(queries.limited_accounts(AccountKind.PROVIDER).values_list("id", "label"))
    budgets = Budget.objects.filter(private_to__in=names).order_by("id")
    return {names[each.private_to_id]: terms_of(each) for each in budgets if each.private_to_id}


def _limit(terms: Terms) -> str:
    rates = display.rates(
        requests=terms.rpm_limit, tokens=terms.tpm_limit, at_once=terms.max_parallel_requests
    )
    money = terms.max_budget is not None and display.limit_terms(
        terms.max_budget, settings.PLATFORM_CURRENCY, terms.duration
    )
    return ", ".join(filter(None, [money or "", rates])) or NO_LIMIT


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if new is None:
            yield f"{name}: nothing of its own (was: {old})"
        else:
            yield f"{name}: {new}" if old is None else f"{name}: {new} (was: {old})"
