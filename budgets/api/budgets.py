"""``/budget/*``: terms that many accounts share."""

from django.db import transaction
from django.utils import timezone

from budgets import queries, totals
from budgets.api import answers, inputs
from budgets.api.endpoints import Answer, Asked, ManagementView, endpoint
from budgets.api.limits import check_same_organization, wanted_organization, wanted_terms
from budgets.figures import BudgetView, view_of
from budgets.models import Organization
from budgets.previews import Preview, preview
from budgets.services.accounts import terms_of
from budgets.services.budgets import create_budget, delete_budget, update_budget
from budgets.services.tenancy import DEFAULT_ORGANIZATION


class BudgetNew(ManagementView):
    @endpoint(takes=inputs.NewBudget, answers=answers.SharedBudget)
    def post(self, asked: Asked) -> BudgetView:
        """Make a budget that keys, teams and users can be linked to by its id."""
        organization = wanted_organization(asked, default=DEFAULT_ORGANIZATION)
        budget = create_budget(
            organization=organization,
            terms=wanted_terms(asked, organization=organization),
            public_id=asked.get("budget_id"),
        )
        return view_of(budget, at=timezone.now())


class BudgetUpdate(ManagementView):
    @endpoint(takes=inputs.UpdateBudget, answers=answers.SharedBudget)
    def post(self, asked: Asked) -> BudgetView:
        """Change a budget for everything that is linked to it, from the next request on."""
        now = timezone.now()
        with transaction.atomic():
            totals.lock_partition()  # before the row: in the order in which all take them
            budget = queries.find_budget(asked["budget_id"], lock=True)
            assert budget.organization is not None, "those of the platform are not found here"
            check_same_organization(asked, budget.organization)
            terms = wanted_terms(asked, organization=budget.organization, base=terms_of(budget))
            update_budget(budget=budget, terms=terms, now=now)
        return view_of(budget, at=now)


class BudgetInfo(ManagementView):
    @endpoint(takes=inputs.SeveralBudgets, answers=answers.SharedBudget, many=True)
    def post(self, asked: Asked) -> list[BudgetView]:
        """Tell all about these budgets."""
        now = timezone.now()
        budgets = queries.find_budgets(asked["budgets"], field="budgets")
        return [view_of(budget, at=now) for budget in budgets]


class BudgetList(ManagementView):
    @endpoint(takes=inputs.ListBudgets, answers=answers.SharedBudget, many=True)
    def get(self, asked: Asked) -> Answer:
        """List budgets that can be linked; the headers tell how many pages there are."""
        now = timezone.now()
        budgets = queries.shared_budgets()
        if public_id := asked.get("organization_id"):
            budgets = budgets.filter(organization__public_id=public_id)
        page = queries.page_of(budgets, number=asked["page"], size=asked["size"])
        return Answer([view_of(budget, at=now) for budget in page.rows], headers_of(page))


class PeriodPreview(ManagementView):
    @endpoint(takes=inputs.PreviewPeriod, answers=answers.PeriodPreview)
    def post(self, asked: Asked) -> Preview:
        """Tell which period would run by these terms, and what would count in it."""
        budget = queries.find_budget(asked["budget_id"]) if asked.get("budget_id") else None
        base = terms_of(budget) if budget else None
        organization = (budget and budget.organization) or Organization(time_zone="UTC")
        terms = wanted_terms(asked, organization=organization, base=base)
        return preview(terms, at=timezone.now(), budget=budget)


class BudgetDelete(ManagementView):
    @endpoint(takes=inputs.DeleteBudget, answers=answers.SharedBudget)
    def post(self, asked: Asked) -> BudgetView:
        """Delete a budget that nothing is linked to any more."""
        budget = queries.find_budget(asked["id"], field="id")
        told = view_of(budget, at=timezone.now())
        delete_budget(budget=budget)
        return told


def headers_of(page: queries.Page) -> dict[str, str]:
    """Return what a plain list cannot say: how much there is."""
    return {"x-total-count": str(page.total), "x-total-pages": str(page.pages)}
