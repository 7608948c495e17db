"""
What each endpoint answers. Names are LiteLLM's; docs/reference/api.md tells which are ours.

Serializers read small views, made of a row and its figures: writing an answer asks nobody.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from budgets import models, money, periods
from budgets.figures import Figures, InForce
from budgets.models import ApiKey, Membership, Organization, OrganizationMembership, Team, User
from budgets.queries import Page


@extend_schema_field(OpenApiTypes.NUMBER)
class Money(serializers.Field):
    """An exact decimal, written as a number with all its digits."""

    def to_representation(self, value: Decimal) -> Decimal:
        return value


@extend_schema_field(OpenApiTypes.OBJECT)
class Anything(serializers.Field):
    """An object as it was given to us."""

    def to_representation(self, value: Any) -> Any:
        return value


class Count(serializers.IntegerField):
    """A whole number, null where there is no such limit."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_null": True} | options)


class OrNull(serializers.CharField):
    """A text, null where there is none."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_null": True} | options)

    def to_representation(self, value: Any) -> str | None:  # type: ignore[override]  # null for ""
        return str(value) or None


@extend_schema_field({"type": "string", "enum": list(periods.WEEKDAYS)})
class WeekdayName(serializers.Field):
    def to_representation(self, value: int) -> str:
        return periods.WEEKDAYS[value]


class Budget(serializers.Serializer):
    """A budget's terms; ``budget_reset_at`` is when its running period ends."""

    budget_id = serializers.CharField(source="budget.public_id")
    max_budget = Money(source="budget.max_budget", allow_null=True)
    soft_budget = Money(source="budget.soft_budget", allow_null=True)
    budget_duration = OrNull(source="budget.duration")
    budget_time_zone = serializers.CharField(source="budget.time_zone")
    budget_anchor = serializers.DateTimeField(source="budget.anchor", allow_null=True)
    budget_reset_time = serializers.TimeField(source="budget.reset_time")
    budget_week_start = WeekdayName(source="budget.week_start")
    budget_year_start = serializers.IntegerField(source="budget.year_start")
    rollover_max = Money(source="budget.rollover_max", allow_null=True)
    rpm_limit = Count(source="budget.rpm_limit")
    tpm_limit = Count(source="budget.tpm_limit")
    max_parallel_requests = Count(source="budget.max_parallel_requests")
    enforcement = serializers.CharField(source="budget.enforcement")
    budget_reset_at = serializers.DateTimeField(source="resets_at", allow_null=True)
    created_at = serializers.DateTimeField(source="budget.created_at")
    updated_at = serializers.DateTimeField(source="budget.updated_at")


class PeriodBounds(serializers.Serializer):
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()


@extend_schema_field(OpenApiTypes.STR)
class MoneyText(serializers.Field):
    """An exact decimal as text."""

    def to_representation(self, value: Decimal) -> str:
        return money.plain(value)


class AccountPreview(serializers.Serializer):
    """What an account has spent in the period that runs, and in the one that would."""

    account_id = serializers.CharField(source="account.pk")
    account_kind = serializers.CharField(source="account.kind")
    account_label = serializers.CharField(source="account.label")
    currency = serializers.CharField(source="account.currency")
    spend = MoneyText()
    spend_then = MoneyText()


class PeriodPreview(serializers.Serializer):
    """The period that would run, the next ones, and what the budget's accounts would have in it."""

    budget_duration = OrNull(source="terms.duration")
    budget_time_zone = serializers.CharField(source="terms.time_zone")
    period = PeriodBounds()
    following = PeriodBounds(many=True)
    running = PeriodBounds(allow_null=True)
    accounts = AccountPreview(many=True)


class SharedBudget(Budget):
    organization_id = serializers.CharField(source="budget.organization.public_id")


class Window(serializers.Serializer):
    """A budget beside the main one, and what its running period holds."""

    budget_id = serializers.CharField(source="budget.public_id")
    budget_duration = serializers.CharField(source="budget.duration")
    max_budget = Money(source="budget.max_budget", allow_null=True)
    limit = Money(allow_null=True)
    enforcement = serializers.CharField(source="budget.enforcement")
    spend = Money()
    reset_at = serializers.DateTimeField(source="resets_at", allow_null=True)


@extend_schema_field(OpenApiTypes.OBJECT)
class ModelLimits(serializers.Field):
    """The budgets of single models, by the models' names, as they can be given."""

    def to_representation(self, value: Mapping[str, InForce]) -> dict[str, Any]:
        return {
            model: {
                "max_budget": each.budget.max_budget,
                "budget_duration": each.budget.duration or None,
                "rpm_limit": each.budget.rpm_limit,
                "tpm_limit": each.budget.tpm_limit,
                "max_parallel_requests": each.budget.max_parallel_requests,
                "enforcement": each.budget.enforcement,
            }
            for model, each in value.items()
        }


@extend_schema_field(OpenApiTypes.OBJECT)
class ModelUsage(serializers.Field):
    """What the running periods of those budgets hold."""

    def to_representation(self, value: Mapping[str, InForce]) -> dict[str, Any]:
        return {
            model: {
                "current_spend": each.spend,
                "budget_limit": each.limit,
                "time_period": each.budget.duration or None,
                "budget_reset_at": each.resets_at,
            }
            for model, each in value.items()
        }


class Spending(serializers.Serializer):
    """
    What an account has spent.

    ``spend`` is that of the running period, at ``spend_as_of``; ``total_spend`` of its whole life.
    """

    account_id = serializers.CharField(source="figures.account_id", allow_null=True, default=None)
    spend = Money(source="figures.spend", default=Decimal(0))
    total_spend = Money(source="figures.total_spend", default=Decimal(0))
    spend_as_of = serializers.DateTimeField(source="figures.spend_as_of", allow_null=True)
    currency = serializers.CharField(source="figures.currency", allow_null=True)


class Limited(Spending):
    """
    An account's own limits beside the budget that it is linked to.

    ``limit`` is what may be spent now: the maximum of the budget that governs, with the increases
    that count until ``limit_increased_until`` at least.
    """

    limit = Money(source="figures.standing.limit", allow_null=True, default=None)
    limit_increased_until = serializers.DateTimeField(
        source="figures.standing.increased_until", allow_null=True, default=None
    )
    max_budget = Money(source="figures.own.budget.max_budget", allow_null=True)
    soft_budget = Money(source="figures.own.budget.soft_budget", allow_null=True)
    budget_duration = OrNull(source="figures.own.budget.duration")
    budget_time_zone = OrNull(source="figures.own.budget.time_zone")
    budget_anchor = serializers.DateTimeField(source="figures.own.budget.anchor", allow_null=True)
    budget_reset_time = OrNull(source="figures.own.budget.reset_time")
    budget_week_start = WeekdayName(source="figures.own.budget.week_start", allow_null=True)
    budget_year_start = Count(source="figures.own.budget.year_start")
    rollover_max = Money(source="figures.own.budget.rollover_max", allow_null=True)
    rpm_limit = Count(source="figures.own.budget.rpm_limit")
    tpm_limit = Count(source="figures.own.budget.tpm_limit")
    max_parallel_requests = Count(source="figures.own.budget.max_parallel_requests")
    enforcement = OrNull(source="figures.own.budget.enforcement")
    budget_reset_at = serializers.DateTimeField(source="figures.resets_at", allow_null=True)
    budget_id = OrNull(source="figures.linked.budget.public_id")
    litellm_budget_table = Budget(source="figures.linked", allow_null=True)
    budget_limits = Window(many=True, source="figures.windows", default=())
    model_max_budget = ModelLimits(source="figures.models", default={})
    model_max_budget_usage = ModelUsage(source="figures.models", default={})


# --- Keys ------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class KeyView:
    """A key and its figures; ``secret`` only where it was made just now."""

    key: ApiKey
    figures: Figures
    secret: str = ""

    @property
    def shown(self) -> str:
        return f"{self.key.prefix}..."


class Key(Limited):
    token = serializers.CharField(source="key.digest")
    token_id = serializers.CharField(source="key.digest")
    key_name = serializers.CharField(source="shown")
    key_alias = OrNull(source="key.name")
    expires = serializers.DateTimeField(source="key.expires_at", allow_null=True)
    user_id = OrNull(source="key.user.public_id")
    team_id = OrNull(source="key.team.public_id")
    organization_id = serializers.CharField(source="key.organization.public_id")
    org_id = serializers.CharField(source="key.organization.public_id")
    models = serializers.ListField(source="key.allowed_models", child=serializers.CharField())
    metadata = Anything(source="key.metadata")
    blocked = serializers.BooleanField(source="key.blocked")
    created_at = serializers.DateTimeField(source="key.created_at")
    updated_at = serializers.DateTimeField(source="key.updated_at")


class IssuedKey(Key):
    """``key`` is the secret: it is shown now and never again."""

    key = serializers.CharField(source="secret")


class ChangedKey(Key):
    """``key`` is the token: a secret is shown only once."""

    key = serializers.CharField(source="key.digest")


class KeyDetail(serializers.Serializer):
    key = serializers.CharField(source="key.digest")
    info = Key(source="*")


class DeletedKeys(serializers.Serializer):
    """Tokens of the keys that are gone."""

    deleted_keys = serializers.ListField(child=serializers.CharField())


@extend_schema_field(
    {
        "type": "array",
        "items": {"oneOf": [{"type": "string"}, {"$ref": "#/components/schemas/Key"}]},
    }
)
class TokensOrKeys(serializers.Field):
    """Tokens, or with ``return_full_object`` keys."""

    def to_representation(self, value: list[str] | list[KeyView]) -> list[Any]:
        return [each if isinstance(each, str) else Key(each).data for each in value]


class KeyPage(serializers.Serializer):
    keys = TokensOrKeys()
    total_count = serializers.IntegerField()
    current_page = serializers.IntegerField()
    total_pages = serializers.IntegerField()


Templates = Mapping[str, models.Budget]
"""What keys, members and end users under an account get; ``stated``: by a team to its members."""


# --- Teams -----------------------------------------------------------------------------
class TeamMember(serializers.Serializer):
    user_id = serializers.CharField(source="user.public_id")
    user_email = OrNull(source="user.email")
    role = serializers.CharField()


@dataclass(frozen=True, slots=True)
class TeamView:
    team: Team
    figures: Figures
    templates: Templates

    @property
    def members(self) -> list[Membership]:
        return sorted(self.team.memberships.all(), key=lambda each: each.pk)


class Gives(Limited):
    """What whoever is under a team or organization has as long as it has none of its own."""

    key_budget_id = OrNull(source="templates.key.public_id")
    member_budget_id = OrNull(source="templates.member.public_id")
    end_user_budget_id = OrNull(source="templates.end_user.public_id")


class TeamRow(Gives):
    team_member_budget = Money(source="templates.stated.max_budget", allow_null=True)
    team_member_budget_duration = OrNull(source="templates.stated.duration")
    team_member_rpm_limit = Count(source="templates.stated.rpm_limit")
    team_member_tpm_limit = Count(source="templates.stated.tpm_limit")
    team_member_budget_id = OrNull(source="templates.stated.public_id")
    team_id = serializers.CharField(source="team.public_id")
    team_alias = OrNull(source="team.name")
    organization_id = serializers.CharField(source="team.organization.public_id")
    members_with_roles = TeamMember(source="members", many=True)
    models = serializers.ListField(source="team.allowed_models", child=serializers.CharField())
    metadata = Anything(source="team.metadata")
    blocked = serializers.BooleanField(source="team.blocked")
    created_at = serializers.DateTimeField(source="team.created_at")
    updated_at = serializers.DateTimeField(source="team.updated_at")


class Warned(serializers.Serializer):
    """``warnings`` says where those under it may spend more than it has itself."""

    warnings = serializers.ListField(child=serializers.CharField())


@dataclass(frozen=True, slots=True)
class WarnedTeamView(TeamView):
    warnings: list[str]


class WarnedTeam(TeamRow, Warned):
    pass


class ChangedTeam(Warned):
    team_id = serializers.CharField(source="team.public_id")
    data = TeamRow(source="*")  # type: ignore[assignment]  # a field, which DRF takes out


@dataclass(frozen=True, slots=True)
class MemberView:
    member: Membership
    figures: Figures


class TeamMembership(Spending):
    user_id = serializers.CharField(source="member.user.public_id")
    user_email = OrNull(source="member.user.email")
    team_id = serializers.CharField(source="member.team.public_id")
    role = serializers.CharField(source="member.role")
    budget_id = OrNull(source="figures.own.budget.public_id")
    litellm_budget_table = Budget(source="figures.own", allow_null=True)


class ChangedMember(TeamMembership):
    max_budget_in_team = Money(source="figures.own.budget.max_budget", allow_null=True)
    budget_duration = OrNull(source="figures.own.budget.duration")
    rpm_limit = Count(source="figures.own.budget.rpm_limit")
    tpm_limit = Count(source="figures.own.budget.tpm_limit")
    max_parallel_requests = Count(source="figures.own.budget.max_parallel_requests")
    enforcement = OrNull(source="figures.own.budget.enforcement")


@dataclass(frozen=True, slots=True)
class TeamDetailView:
    view: TeamView
    keys: list[KeyView]
    key_count: int
    members: list[MemberView]
    warnings: list[str]


class TeamDetail(Warned):
    team_id = serializers.CharField(source="view.team.public_id")
    team_info = TeamRow(source="view")
    keys = Key(many=True)
    key_count = serializers.IntegerField()
    team_memberships = TeamMembership(source="members", many=True)


class DeletedTeams(serializers.Serializer):
    deleted_teams = serializers.ListField(child=serializers.CharField())


# --- Users -----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class UserView:
    """A user as a member of one organization, which is where limits and spend are."""

    user: User
    membership: OrganizationMembership | None
    figures: Figures | None

    @property
    def teams(self) -> list[str]:
        return sorted(each.team.public_id for each in self.user.teams.all())


class UserRow(Limited):
    user_id = serializers.CharField(source="user.public_id")
    user_email = OrNull(source="user.email")
    user_alias = OrNull(source="user.alias")
    user_role = serializers.CharField(source="user.role")
    organization_id = OrNull(source="membership.organization.public_id")
    teams = serializers.ListField(child=serializers.CharField())
    models = serializers.ListField(source="user.allowed_models", child=serializers.CharField())
    metadata = Anything(source="user.metadata")
    blocked = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField(source="user.date_joined")

    def get_blocked(self, view: UserView) -> bool:
        return not view.user.is_active


class ListedUser(UserRow):
    key_count = serializers.IntegerField(source="user.key_count")


class ChangedUser(serializers.Serializer):
    user_id = serializers.CharField(source="user.public_id")
    data = UserRow(source="*")  # type: ignore[assignment]  # a field, which DRF takes out


@dataclass(frozen=True, slots=True)
class UserWithKeyView(UserView):
    issued: KeyView | None = None


class UserWithKey(UserRow):
    """``key`` is the secret of the user's first key, empty where none was wanted."""

    key = serializers.CharField(source="issued.secret", default="")
    token = OrNull(source="issued.key.digest")
    key_name = OrNull(source="issued.shown")
    key_alias = OrNull(source="issued.key.name")
    expires = serializers.DateTimeField(source="issued.key.expires_at", allow_null=True)


class AddedMembers(TeamRow):
    updated_users = UserRow(many=True)
    updated_team_memberships = TeamMembership(many=True)


@dataclass(frozen=True, slots=True)
class AddedMembersView(TeamView):
    updated_users: list[UserView]
    updated_team_memberships: list[MemberView]


@dataclass(frozen=True, slots=True)
class UserDetailView:
    view: UserView
    keys: list[KeyView]
    teams: list[TeamView]


class UserDetail(serializers.Serializer):
    user_id = serializers.CharField(source="view.user.public_id")
    user_info = UserRow(source="view")
    keys = Key(many=True)
    teams = TeamRow(many=True)


@dataclass(frozen=True, slots=True)
class UserPageView:
    page: Page[User]
    users: list[UserView]


class UserPage(serializers.Serializer):
    users = ListedUser(many=True)
    total = serializers.IntegerField(source="page.total")
    page = serializers.IntegerField(source="page.number")
    page_size = serializers.IntegerField(source="page.size")
    total_pages = serializers.IntegerField(source="page.pages")


# --- Organizations and budgets ---------------------------------------------------------
@dataclass(frozen=True, slots=True)
class OrganizationView:
    organization: Organization
    figures: Figures
    templates: Templates


class OrganizationRow(Gives):
    organization_id = serializers.CharField(source="organization.public_id")
    organization_alias = serializers.CharField(source="organization.name")
    currency = serializers.CharField(source="organization.currency")
    time_zone = serializers.CharField(source="organization.time_zone")
    budget_id = OrNull(source="figures.governing.budget.public_id")
    litellm_budget_table = Budget(source="figures.governing", allow_null=True)
    models = serializers.ListField(
        source="organization.allowed_models", child=serializers.CharField()
    )
    metadata = Anything(source="organization.metadata")
    blocked = serializers.BooleanField(source="organization.blocked")
    second_approver_above = Money(source="organization.second_approver_above", allow_null=True)
    created_at = serializers.DateTimeField(source="organization.created_at")
    updated_at = serializers.DateTimeField(source="organization.updated_at")


@dataclass(frozen=True, slots=True)
class WarnedOrganizationView(OrganizationView):
    warnings: list[str]


class WarnedOrganization(OrganizationRow, Warned):
    pass


class OrganizationMember(Spending):
    user_id = serializers.CharField(source="user.public_id")
    user_email = OrNull(source="user.email")
    organization_id = serializers.CharField(source="membership.organization.public_id")
    created_at = serializers.DateTimeField(source="membership.created_at")


@dataclass(frozen=True, slots=True)
class OrganizationDetailView(WarnedOrganizationView):
    members: list[UserView]
    teams: list[TeamView]
    member_count: int
    team_count: int


class OrganizationDetail(WarnedOrganization):
    """The first hundred members and teams, and how many there are."""

    members = OrganizationMember(many=True)
    teams = TeamRow(many=True)
    member_count = serializers.IntegerField()
    team_count = serializers.IntegerField()
