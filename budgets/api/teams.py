"""``/team/*``: teams and who is in them."""

from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from budgets import queries
from budgets.api import answers, inputs
from budgets.api.answers import (
    AddedMembersView,
    MemberView,
    TeamDetailView,
    TeamView,
    WarnedTeamView,
)
from budgets.api.budgets import headers_of
from budgets.api.endpoints import Answer, Asked, ManagementView, endpoint
from budgets.api.limits import (
    check_same_organization,
    new_limits,
    wanted_changes,
    wanted_organization,
    wanted_terms,
    wanted_values,
)
from budgets.api.told import (
    key_views,
    member_views,
    team_view,
    team_views,
    user_views,
    warned_team_view,
    warnings_of,
)
from budgets.models import Membership, Team, User
from budgets.queries import PAGE_SIZE_MAX
from budgets.services.accounts import Terms
from budgets.services.limits import set_limits
from budgets.services.onboarding import Invited, add_members, open_team
from budgets.services.tenancy import (
    DEFAULT_ORGANIZATION,
    delete_teams,
    remove_member,
    update_member,
    update_team,
)

FIELDS: Final[Mapping[str, tuple[str, Any]]] = {
    "team_alias": ("name", ""),
    "models": ("allowed_models", []),
    "metadata": ("metadata", {}),
    "blocked": ("blocked", False),
}


class TeamNew(ManagementView):
    @endpoint(takes=inputs.NewTeam, answers=answers.WarnedTeam)
    def post(self, asked: Asked) -> WarnedTeamView:
        """Make a team, and users of those members who are unknown."""
        now = timezone.now()
        organization = wanted_organization(asked, default=DEFAULT_ORGANIZATION)
        values = wanted_values(asked, FIELDS)
        if public_id := asked.get("team_id"):
            values["public_id"] = public_id
        limits = new_limits(asked, organization=organization)
        with transaction.atomic():
            team = open_team(
                organization=organization,
                values=values,
                terms=Terms(),
                budgets=(),
                invited=_invited(asked.get("members_with_roles") or []),
                now=now,
            )
            set_limits(account=team.account, limits=limits, now=now)
        return warned_team_view(team, at=now)


class TeamUpdate(ManagementView):
    @endpoint(takes=inputs.UpdateTeam, answers=answers.ChangedTeam)
    def post(self, asked: Asked) -> WarnedTeamView:
        """Change a team: what is left out stays, null takes away."""
        now = timezone.now()
        with transaction.atomic():
            team = queries.find_team(asked["team_id"], lock=True)
            check_same_organization(asked, team.organization)
            limits = wanted_changes(asked, account=team.account, organization=team.organization)
            update_team(team=team, values=wanted_values(asked, FIELDS), terms=None, now=now)
            set_limits(account=team.account, limits=limits, now=now)
        return warned_team_view(team, at=now)


class TeamInfo(ManagementView):
    @endpoint(takes=inputs.TeamQuery, answers=answers.TeamDetail)
    def get(self, asked: Asked) -> TeamDetailView:
        """Tell all about a team; of its keys and members the first hundred."""
        now = timezone.now()
        team = queries.find_team(asked["team_id"])
        keys = queries.all_keys().filter(team=team)
        members = team.memberships.select_related("user", "team").order_by("pk")
        view = team_view(team, at=now)
        return TeamDetailView(
            view=view,
            keys=key_views(keys[: asked["key_limit"]], at=now),
            key_count=keys.count(),
            members=member_views(members[:PAGE_SIZE_MAX], at=now),
            warnings=warnings_of(team.account, view.figures.currency),
        )


class TeamList(ManagementView):
    @endpoint(takes=inputs.ListTeams, answers=answers.TeamRow, many=True)
    def get(self, asked: Asked) -> Answer:
        """List teams; the headers tell how many pages there are."""
        teams = queries.all_teams()
        if user_id := asked.get("user_id"):
            teams = teams.filter(memberships__user__public_id=user_id)
        if organization_id := asked.get("organization_id"):
            teams = teams.filter(organization__public_id=organization_id)
        page = queries.page_of(teams, number=asked["page"], size=asked["size"])
        return Answer(team_views(page.rows, at=timezone.now()), headers_of(page))


class TeamDelete(ManagementView):
    @endpoint(takes=inputs.DeleteTeams, answers=answers.DeletedTeams)
    def post(self, asked: Asked) -> dict[str, list[str]]:
        """Delete teams with their keys, all or none; what they spent stays on their accounts."""
        teams = queries.find_teams(asked["team_ids"], field="team_ids")
        public_ids = [team.public_id for team in teams]
        delete_teams(teams=teams)
        return {"deleted_teams": public_ids}


class TeamMemberAdd(ManagementView):
    @endpoint(takes=inputs.AddMembers, answers=answers.AddedMembers)
    def post(self, asked: Asked) -> AddedMembersView:
        """Put one or several into a team, each with the limits given; make users of the unknown."""
        now = timezone.now()
        team = queries.find_team(asked["team_id"])
        added = add_members(
            team=team,
            invited=_invited(asked["member"]),
            terms=wanted_terms(asked, organization=team.organization),
            now=now,
        )
        shown = team_view(team, at=now)
        users = [member.user for member in added]
        return AddedMembersView(
            team=team,
            figures=shown.figures,
            templates=shown.templates,
            updated_users=user_views(users, organization=team.organization, at=now),
            updated_team_memberships=member_views(added, at=now),
        )


class TeamMemberUpdate(ManagementView):
    @endpoint(takes=inputs.UpdateMember, answers=answers.ChangedMember)
    def post(self, asked: Asked) -> MemberView:
        """Change a member's role or limits in the team: what is left out stays."""
        now = timezone.now()
        with transaction.atomic():
            member = _member(asked, lock=True)
            changes = wanted_changes(
                asked, account=member.account, organization=member.team.organization
            )
            update_member(member=member, role=asked.get("role"), terms=changes.terms, now=now)
        return member_views([member], at=now)[0]


class TeamMemberDelete(ManagementView):
    @endpoint(takes=inputs.OneMember, answers=answers.TeamRow)
    def post(self, asked: Asked) -> TeamView:
        """Take somebody out of a team, with the keys that they have for it."""
        member = _member(asked)
        remove_member(member=member)
        return team_view(queries.find_team(asked["team_id"]), at=timezone.now())


def _invited(members: list[dict[str, Any]]) -> list[Invited]:
    return [Invited(**member) for member in members]


def _member(asked: Asked, *, lock: bool = False) -> Membership:
    team: Team = queries.find_team(asked["team_id"])
    user: User = (
        queries.find_user(asked["user_id"])
        if asked.get("user_id")
        else queries.find_user_by_email(asked["user_email"])
    )
    return queries.find_member(team=team, user=user, lock=lock)
