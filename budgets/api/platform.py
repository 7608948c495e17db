"""
Budgets of the platform's own accounts: of providers in LiteLLM's shape, of others in ours.

Below ``/api/v1`` money is a text; on LiteLLM's path it is a number.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from budgets import queries, totals
from budgets.api import platform_answers, platform_inputs
from budgets.api.budgets import headers_of
from budgets.api.endpoints import Answer, Asked, ManagementView, endpoint
from budgets.api.limits import terms_of_model, wanted_terms
from budgets.api.platform_answers import PlatformView
from budgets.errors import InvalidInput
from budgets.figures import figures_of
from budgets.models import Account, AccountKind, Organization
from budgets.services.accounts import Terms, terms_of
from budgets.services.platform import set_platform_budgets

# Where nobody says otherwise, the platform's days begin at midnight UTC.
NOBODY: Final = Organization(time_zone="UTC")


class ProviderBudgets(ManagementView):
    @endpoint(takes=platform_inputs.Nothing, answers=platform_answers.ProviderBudgets)
    def get(self, asked: Asked) -> dict[str, Any]:
        """Tell the budgets of providers: over all organizations, in the platform's currency."""
        return _providers(timezone.now())

    @endpoint(
        takes=platform_inputs.SetProviderBudgets,
        answers=platform_answers.ProviderBudgets,
        operation_id="provider_budgets_set",
    )
    def post(self, asked: Asked) -> dict[str, Any]:
        """Replace the budgets of the providers that are named; null takes one away."""
        now = timezone.now()
        terms = {
            name: Terms() if each is None else terms_of_model(each, general=Terms())
            for name, each in asked["providers"].items()
        }
        set_platform_budgets(kind=AccountKind.PROVIDER, terms=terms, now=now)
        return _providers(now)


class ModelBudgets(ManagementView):
    @endpoint(
        takes=platform_inputs.ListPlatformBudgets, answers=platform_answers.ModelBudget, many=True
    )
    def get(self, asked: Asked) -> Answer:
        """List the budgets of models, by the names that are asked for, over all organizations."""
        models = queries.limited_accounts(AccountKind.MODEL)
        return listed(models, asked, name_of=lambda each: each.label)

    @endpoint(
        takes=platform_inputs.SetModelBudget,
        answers=platform_answers.ModelBudget,
        operation_id="model_budget_set",
    )
    def post(self, asked: Asked) -> PlatformView:
        """Limit a model: what is left out stays, null takes away."""
        return limited(AccountKind.MODEL, asked["model"], asked)


class ModelBudgetDelete(ManagementView):
    @endpoint(takes=platform_inputs.OneModel, answers=platform_answers.ModelBudget)
    def post(self, asked: Asked) -> PlatformView:
        """Take a model's budget away; what was spent stays."""
        return unlimited(AccountKind.MODEL, asked["model"], field="model")


def listed(
    accounts: QuerySet[Account], asked: Asked, *, name_of: Callable[[Account], str]
) -> Answer:
    """Return a page of accounts that have budgets."""
    page = queries.page_of(accounts, number=asked["page"], size=asked["size"])
    figures = figures_of([each.pk for each in page.rows], at=timezone.now())
    views = [PlatformView(name_of(each), figures[each.pk]) for each in page.rows]
    return Answer(views, headers_of(page))


def limited(kind: AccountKind, text: str, asked: Asked, *, label: str = "") -> PlatformView:
    """
    Change the budget of a model or deployment.

    :raises InvalidInput: if nothing limits it then, or naming the field that does not fit
    """
    now = timezone.now()
    with transaction.atomic():
        totals.lock_partition()  # two changes of one budget at once must not lose either
        own = queries.own_budget(queries.platform_account_id(kind, text))
        terms = wanted_terms(asked, organization=NOBODY, base=terms_of(own) if own else None)
        if terms.says_nothing:
            raise InvalidInput("max_budget", "is needed, or another limit")
        set_platform_budgets(kind=kind, terms={text: terms}, labels={text: label}, now=now)
    return _view(kind, text)


def unlimited(kind: AccountKind, text: str, *, field: str) -> PlatformView:
    """
    Take a budget away; return it as it was.

    :raises NotFound: if there is none
    """
    queries.find_limited_account(kind, text, field=field)
    told = _view(kind, text)
    set_platform_budgets(kind=kind, terms={text: Terms()}, now=timezone.now())
    return told


def _view(kind: AccountKind, text: str) -> PlatformView:
    account = queries.platform_account_id(kind, text)
    return PlatformView(text, figures_of([account], at=timezone.now())[account])


def _providers(now: datetime) -> dict[str, Any]:
    accounts = list(queries.limited_accounts(AccountKind.PROVIDER)[: queries.PROVIDERS_MAX])
    figures = figures_of([each.pk for each in accounts], at=now)
    return {"providers": {each.label: figures[each.pk] for each in accounts}}
