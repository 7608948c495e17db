"""``/organization/*``: tenants."""

from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from budgets import queries
from budgets.api import answers, inputs
from budgets.api.answers import (
    OrganizationDetailView,
    OrganizationView,
    UserView,
    WarnedOrganizationView,
)
from budgets.api.endpoints import Asked, ManagementView, endpoint
from budgets.api.limits import new_limits, wanted_changes, wanted_values
from budgets.api.told import organization_views, team_views, warned_organization_view
from budgets.figures import figures_of
from budgets.models import Organization
from budgets.queries import PAGE_SIZE_MAX
from budgets.services.accounts import Terms
from budgets.services.limits import set_limits
from budgets.services.tenancy import create_organization, update_organization

FIELDS: Final[Mapping[str, tuple[str, Any]]] = {
    "organization_alias": ("name", ""),
    "currency": ("currency", "USD"),
    "time_zone": ("time_zone", "UTC"),
    "models": ("allowed_models", []),
    "metadata": ("metadata", {}),
    "blocked": ("blocked", False),
    "second_approver_above": ("second_approver_above", None),
}


class OrganizationNew(ManagementView):
    @endpoint(takes=inputs.NewOrganization, answers=answers.WarnedOrganization)
    def post(self, asked: Asked) -> WarnedOrganizationView:
        """Make a tenant; what belongs to it is invisible to others, and counts in its currency."""
        now = timezone.now()
        values = wanted_values(asked, FIELDS)
        if public_id := asked.get("organization_id"):
            values["public_id"] = public_id
        zone = Organization(time_zone=values.get("time_zone", "UTC"))
        limits = new_limits(asked, organization=zone)
        with transaction.atomic():
            organization = create_organization(values=values, terms=Terms(), now=now)
            set_limits(account=organization.account, limits=limits, now=now)
        return warned_organization_view(organization, at=now)


class OrganizationUpdate(ManagementView):
    @endpoint(takes=inputs.UpdateOrganization, answers=answers.WarnedOrganization)
    def post(self, asked: Asked) -> WarnedOrganizationView:
        """Change an organization: what is left out stays, null takes away."""
        return _updated(asked)

    @endpoint(
        takes=inputs.UpdateOrganization,
        answers=answers.WarnedOrganization,
        operation_id="organization_update_patch",
    )
    def patch(self, asked: Asked) -> WarnedOrganizationView:
        """Do the same; this is LiteLLM's method."""
        return _updated(asked)


class OrganizationInfo(ManagementView):
    @endpoint(takes=inputs.OrganizationQuery, answers=answers.OrganizationDetail)
    def get(self, asked: Asked) -> OrganizationDetailView:
        """Tell all about an organization; of its members and teams the first hundred."""
        return _detail(queries.find_organization(asked["organization_id"]))

    @endpoint(
        takes=inputs.SeveralOrganizations,
        answers=answers.OrganizationRow,
        many=True,
        operation_id="organization_info_several",
    )
    def post(self, asked: Asked) -> list[OrganizationView]:
        """Tell about several organizations, without their members and teams."""
        found = queries.find_organizations(asked["organizations"], field="organizations")
        return organization_views(found, at=timezone.now())


def _updated(asked: Asked) -> WarnedOrganizationView:
    now = timezone.now()
    with transaction.atomic():
        organization = queries.find_organization(asked["organization_id"], lock=True)
        update_organization(organization=organization, values=wanted_values(asked, FIELDS))
        limits = wanted_changes(asked, account=organization.account, organization=organization)
        set_limits(account=organization.account, limits=limits, now=now)
    return warned_organization_view(organization, at=now)


def _detail(organization: Organization) -> OrganizationDetailView:
    now = timezone.now()
    teams = queries.all_teams().filter(organization=organization)
    shown = warned_organization_view(organization, at=now)
    return OrganizationDetailView(
        organization=organization,
        figures=shown.figures,
        templates=shown.templates,
        warnings=shown.warnings,
        members=_members(organization),
        teams=team_views(teams[:PAGE_SIZE_MAX], at=now),
        member_count=organization.memberships.count(),
        team_count=teams.count(),
    )


def _members(organization: Organization) -> list[UserView]:
    joined = organization.memberships.select_related("user", "organization").order_by("pk")
    members = list(joined[:PAGE_SIZE_MAX])
    figures = figures_of([member.account_id for member in members], at=timezone.now())
    return [UserView(member.user, member, figures[member.account_id]) for member in members]
