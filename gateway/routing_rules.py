"""Writes: routing rules."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.db.models import Q

from budgets.changes import change, unique
from budgets.errors import Conflict, InvalidInput
from budgets.fields import NAME_LENGTH_MAX
from budgets.models import Organization
from budgets.snapshots import GLOBAL_SCOPE
from gateway.models import FALLBACK_FIELDS, Deployment, RoutingRule
from gateway.routing.fallbacks import EVERY_MODEL, FALLBACKS_MAX, RETRIES_MAX
from gateway.routing.strategies import Strategy

FIELDS: Final = ("strategy", "retries", *FALLBACK_FIELDS.values())
"""What a rule says; null in one is: as the more general rule."""


def create_rule(*, values: Mapping[str, Any]) -> RoutingRule:
    """
    Route a model's requests by a rule, from the next request on.

    :raises Conflict: if the organization has one for this model
    :raises InvalidInput: naming the field that does not fit
    """
    rule = RoutingRule(**values)
    _check(rule)
    with change(scope=GLOBAL_SCOPE), unique("model_name"):
        rule.save()
    return rule


def update_rule(*, rule: RoutingRule, values: Mapping[str, Any]) -> RoutingRule:
    """
    Change a rule: what is not named stays.

    :raises Conflict: if the organization has another one for this model
    :raises InvalidInput: naming the field that does not fit
    """
    for name, value in values.items():
        setattr(rule, name, value)
    _check(rule)
    with change(scope=GLOBAL_SCOPE), unique("model_name"):
        rule.save()
    return rule


def delete_rule(*, rule: RoutingRule) -> None:
    """Take a rule away: its model is routed as the more general one says."""
    with change(scope=GLOBAL_SCOPE):
        rule.delete()


def set_rule(
    *, model_name: str, organization: Organization | None, values: Mapping[str, Any]
) -> RoutingRule | None:
    """
    Make or change the rule of an organization for a model: what is not named stays. One that says
    nothing any more is taken away, and None returned.

    :raises InvalidInput: naming the field that does not fit
    """
    try:
        return _set_once(model_name, organization, values)
    except Conflict:
        # Somebody has made the first rule meanwhile; now there is one to change.
        return _set_once(model_name, organization, values)


def _set_once(
    model_name: str, organization: Organization | None, values: Mapping[str, Any]
) -> RoutingRule | None:
    with change(scope=GLOBAL_SCOPE):
        rows = RoutingRule.objects.select_for_update()
        rule = rows.filter(model_name=model_name, organization=organization).first()
        if rule is None:
            rule = RoutingRule(model_name=model_name, organization=organization)
        return _set(rule, values)


def _set(rule: RoutingRule, values: Mapping[str, Any]) -> RoutingRule | None:
    for name, value in values.items():
        setattr(rule, name, value)
    if not rule.override().says_nothing:
        return update_rule(rule=rule, values={})
    if rule.pk is not None:
        delete_rule(rule=rule)
    return None


def _check(rule: RoutingRule) -> None:
    if rule.strategy is not None and rule.strategy not in list(Strategy):
        raise InvalidInput("strategy", f"must be one of {', '.join(Strategy)}")
    if rule.retries is not None and not 0 <= rule.retries <= RETRIES_MAX:
        raise InvalidInput("retries", f"must be from 0 to {RETRIES_MAX}")
    for field in FALLBACK_FIELDS.values():
        _check_list(field, getattr(rule, field), model_name=rule.model_name)
    if rule.override().says_nothing:
        raise InvalidInput("strategy", "is needed, or another field: the rule says nothing")
    _check_models(rule)


def _check_list(field: str, names: list[str] | None, *, model_name: str) -> None:
    if names is None:
        return
    if len(names) > FALLBACKS_MAX:
        raise InvalidInput(field, f"must not have more than {FALLBACKS_MAX} models")
    if len(set(names)) < len(names):
        raise InvalidInput(field, "must not have a model twice")
    if model_name in names:
        raise InvalidInput(field, f"must not have {model_name} itself")
    if not all(0 < len(name) <= NAME_LENGTH_MAX for name in names):
        raise InvalidInput(field, f"must have names of 1 to {NAME_LENGTH_MAX} characters")


def _check_models(rule: RoutingRule) -> None:
    """Refuse names that nothing serves: a slip would come to light when it is needed most."""
    lists = {field: getattr(rule, field) or [] for field in FALLBACK_FIELDS.values()}
    if rule.model_name != EVERY_MODEL:
        lists = {"model_name": [rule.model_name], **lists}
    served = _served((name for names in lists.values() for name in names), rule)
    for field, names in lists.items():
        for name in names:
            if name not in served:
                raise InvalidInput(field, f"names {name[:64]!r}, which no deployment serves")


def _served(names: Iterable[str], rule: RoutingRule) -> set[str]:
    usable = Q()
    if rule.organization_id is not None:
        usable = Q(organization=None) | Q(organization_id=rule.organization_id)
    found = Deployment.objects.filter(usable, model_name__in=set(names))
    return set(found.values_list("model_name", flat=True))
