"""``/customer/*``, also as ``/end_user/*``: the customers of whoever calls, known by their text."""

from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from budgets import queries, totals
from budgets.api import label_answers, label_inputs
from budgets.api.budgets import headers_of
from budgets.api.endpoints import Answer, Asked, ManagementView, endpoint
from budgets.api.label_answers import CustomerView
from budgets.api.limits import (
    check_one_of,
    new_limits,
    wanted_changes,
    wanted_organization,
    wanted_values,
)
from budgets.api.told import customer_views
from budgets.models import EndUser, Organization
from budgets.services.labels import (
    block_end_users,
    create_end_user,
    delete_labels,
    unblock_end_users,
    update_end_user,
)
from budgets.services.tenancy import DEFAULT_ORGANIZATION

FIELDS: Final[Mapping[str, tuple[str, Any]]] = {
    "alias": ("alias", ""),
    "blocked": ("blocked", False),
    "models": ("allowed_models", []),
}


class CustomerNew(ManagementView):
    @endpoint(takes=label_inputs.NewCustomer, answers=label_answers.Customer)
    def post(self, asked: Asked) -> CustomerView:
        """Make an end user with limits of its own, before or after it first spends."""
        now = timezone.now()
        organization = _organization(asked)
        check_one_of(asked)
        end_user = create_end_user(
            organization=organization,
            external_id=asked["user_id"],
            values=wanted_values(asked, FIELDS),
            limits=new_limits(asked, organization=organization),
            now=now,
        )
        return customer_views([end_user], at=now)[0]


class CustomerUpdate(ManagementView):
    @endpoint(takes=label_inputs.UpdateCustomer, answers=label_answers.Customer)
    def post(self, asked: Asked) -> CustomerView:
        """Change an end user: what is left out stays, null takes away."""
        now = timezone.now()
        check_one_of(asked)
        with transaction.atomic():
            totals.lock_partition()  # two changes at once must not lose either
            end_user = _named(asked, "user_id")
            limits = wanted_changes(
                asked, account=end_user.account, organization=end_user.organization
            )
            values = wanted_values(asked, FIELDS)
            update_end_user(end_user=end_user, values=values, limits=limits, now=now)
        return customer_views([end_user], at=now)[0]


class CustomerDelete(ManagementView):
    @endpoint(takes=label_inputs.SeveralCustomers, answers=label_answers.DeletedCustomers)
    def post(self, asked: Asked) -> dict[str, Any]:
        """Delete end users with their limits, all or none; what they spent stays."""
        user_ids = asked["user_ids"]
        chosen = queries.find_end_users(
            user_ids, organization=_organization(asked), field="user_ids"
        )
        delete_labels(labels=chosen, now=timezone.now())
        message = f"Successfully deleted customers with ids: {user_ids}"
        return {"deleted_customers": len(chosen), "message": message}


class CustomerBlock(ManagementView):
    @endpoint(takes=label_inputs.SeveralCustomers, answers=label_answers.BlockedCustomers)
    def post(self, asked: Asked) -> dict[str, list[CustomerView]]:
        """Refuse every request of these end users from the next one on."""
        now = timezone.now()
        blocked = block_end_users(
            organization=_organization(asked), external_ids=asked["user_ids"], now=now
        )
        return {"blocked_users": customer_views(blocked, at=now)}


class CustomerUnblock(ManagementView):
    @endpoint(takes=label_inputs.SeveralCustomers, answers=label_answers.StillBlocked)
    def post(self, asked: Asked) -> dict[str, list[str]]:
        """Admit requests of these end users again; tell who is still blocked."""
        organization = _organization(asked)
        unblock_end_users(organization=organization, external_ids=asked["user_ids"])
        return {"blocked_users": queries.blocked_end_users(organization)}


class CustomerInfo(ManagementView):
    @endpoint(takes=label_inputs.CustomerQuery, answers=label_answers.Customer)
    def get(self, asked: Asked) -> CustomerView:
        """Tell all about an end user."""
        return customer_views([_named(asked, "end_user_id")], at=timezone.now())[0]


class CustomerList(ManagementView):
    @endpoint(takes=label_inputs.ListLabels, answers=label_answers.Customer, many=True)
    def get(self, asked: Asked) -> Answer:
        """List end users; the headers tell how many pages there are."""
        rows = queries.all_end_users()
        if public_id := asked.get("organization_id"):
            rows = rows.filter(organization__public_id=public_id)
        page = queries.page_of(rows, number=asked["page"], size=asked["size"])
        return Answer(customer_views(page.rows, at=timezone.now()), headers_of(page))


def _organization(asked: Asked) -> Organization:
    return wanted_organization(asked, default=DEFAULT_ORGANIZATION)


def _named(asked: Asked, field: str) -> EndUser:
    return queries.find_end_user(asked[field], organization=_organization(asked), field=field)
