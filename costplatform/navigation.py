"""What the admin's frame shows: the sidebar, the stylesheet and the first page."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import QuerySet, Value
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

from budgets import display
from budgets.admin import increases
from budgets.models import ApiKey
from gateway.models import Deployment
from spend.admin import dashboard as figures
from spend.admin import exchange_rates, proposals
from spend.services import unpriced

# Title, icon, app and model of each page, and its name where it is not the list; who may not
# view the model does not see the link.
_GROUPS: Final = (
    ("Budgets", (
        ("Budgets", "savings", "budgets", "budget"),
        ("Accounts", "account_balance", "budgets", "account"),
        ("End users", "support_agent", "budgets", "enduser"),
        ("Tags", "label", "budgets", "tag"),
        ("Closed periods", "event_available", "budgets", "closing"),
        ("Increases", "trending_up", "budgets", "increase"),
        ("Refusals", "do_not_disturb_on", "budgets", "refusalcount"),
    )),
    ("Access", (
        ("Organizations", "domain", "budgets", "organization"),
        ("Teams", "groups", "budgets", "team"),
        ("Users", "person", "budgets", "user"),
        ("API keys", "key", "budgets", "apikey"),
        ("Groups", "admin_panel_settings", "auth", "group"),
    )),
    ("Spend", (
        ("Spend report", "query_stats", "spend", "spendevent", "spend_report"),
        ("Ledger", "receipt_long", "spend", "spendevent"),
        ("Batches", "stacks", "gateway", "gatewaybatch"),
        ("Files of batches", "draft", "gateway", "gatewayfile"),
        ("Re-ratings", "published_with_changes", "spend", "rerating"),
        ("Set aside", "report", "spend", "setaside"),
        ("Invoices", "request_quote", "spend", "invoiceimport"),
        ("Provider keys", "vpn_key", "spend", "providerkey"),
    )),
    ("Providers", (
        ("Deployments", "dns", "gateway", "deployment"),
        ("Routing", "alt_route", "gateway", "routingrule"),
        ("Credentials", "lock", "gateway", "credential"),
        ("Providers", "hub", "spend", "provider"),
        ("Models", "smart_toy", "spend", "model"),
        ("Prices", "sell", "spend", "priceversion"),
        ("Unpriced models", "money_off", "spend", "unpricedmodel"),
        ("Discounts and margins", "percent", "spend", "priceadjustment"),
        ("Price proposals", "rule", "spend", "priceproposal"),
        ("Exchange rates", "currency_exchange", "spend", "exchangerate"),
        ("Platform budgets", "account_tree", "budgets", "account", "platform_budgets"),
    )),
    ("System", (
        ("History", "history", "budgets", "change"),
        ("Schedule", "schedule", "django_celery_beat", "periodictask"),
    )),
)  # fmt: skip

_WAITING: Final[dict[str, Callable[[], QuerySet[Any]]]] = {
    "increase": increases.waiting,
    "unpricedmodel": lambda: unpriced.waiting().order_by(),
    "priceproposal": proposals.waiting,
    "exchangerate": exchange_rates.waiting,
}


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do before the first request can be answered."""

    words: str
    link: str
    is_done: bool


def stylesheet(request: HttpRequest) -> str:
    return static("budgets/admin.css")


def icon(request: HttpRequest) -> str:
    return static("budgets/icon.svg")


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the groups of links that this user may follow."""
    first = {"title": "Dashboard", "icon": "dashboard", "link": reverse("admin:index")}
    return [{"title": "Overview", "items": [first]}, *_permitted(request)]


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the first page shows, as far as the user may see it."""
    return context | {
        "title": "Dashboard",
        "spending": figures.spending() if _may(request, "spend.view_spendevent") else None,
        "refused": figures.refused() if _may(request, "budgets.view_refusalcount") else None,
        "watched": figures.watched() if _may(request, "budgets.view_account") else None,
        "stream": figures.stream(),
        "steps": _steps_left(),
    }


def _permitted(request: HttpRequest) -> Iterator[dict[str, Any]]:
    waiting = _waiting()
    for title, pages in _GROUPS:
        items = [
            {
                "title": name,
                "icon": icon,
                "link": reverse(_page(app, model, *page)),
                **_badge(waiting[model]),
            }
            for name, icon, app, model, *page in pages
            if _may(request, f"{app}.view_{model}")
        ]
        if items:
            yield {"title": title, "separator": True, "items": items}


def _waiting() -> Counter[str]:
    """Return how many things wait for a person, by model: every page shows it, so in one query."""
    first, *others = (
        of_model().annotate(model_name=Value(name)).values_list("model_name", flat=True)
        for name, of_model in _WAITING.items()
    )
    return Counter(first.union(*others, all=True))


def _badge(waiting: int) -> dict[str, Any]:
    return {"badge": display.count(waiting), "badge_variant": "warning"} if waiting else {}


def _page(app: str, model: str, page: str = "") -> str:
    return page or f"admin:{app}_{model}_changelist"


def _may(request: HttpRequest, permission: str) -> bool:
    return request.user.has_perm(permission)


def _steps_left() -> list[Step]:
    """Return the first steps until all are taken, and then none."""
    steps = [
        Step(
            "Add a deployment: where requests for a model go",
            reverse("admin:gateway_deployment_add"),
            Deployment.objects.exists(),
        ),
        Step(
            "Create a key, with a limit: its secret is shown once",
            reverse("admin:budgets_apikey_add"),
            ApiKey.objects.exists(),
        ),
    ]
    return [] if all(step.is_done for step in steps) else steps
