"""What each endpoint may be sent. Names are LiteLLM's; docs/reference/api.md lists ours."""

from collections.abc import Mapping
from typing import Any, Final

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from budgets.api import unsupported
from budgets.api.endpoints import Strict, StrictQuery
from budgets.api.fields import (
    OPTIONAL,
    Amount,
    BudgetDuration,
    ByName,
    Currency,
    Email,
    EnforcementMode,
    Flag,
    Lifetime,
    LocalTime,
    Metadata,
    ModelNames,
    Moment,
    OneOf,
    PublicId,
    QueryFlag,
    QueryList,
    QueryWhole,
    Rate,
    Text,
    TextList,
    TimeZone,
    Weekday,
    Whole,
)
from budgets.durations import MONTHS_A_YEAR
from budgets.keys import LENGTH_MAX as SECRET_LENGTH_MAX
from budgets.models import TeamRole, UserRole
from budgets.queries import PAGE_SIZE_MAX

PAGES_MAX: Final = 1_000_000
DESCRIPTION_LENGTH_MAX: Final = 1_000
FEW: Final[Mapping[str, Any]] = {"max_length": 16}
SOME: Final[Mapping[str, Any]] = {"max_length": PAGE_SIZE_MAX}


class Limits(Strict):
    """A budget's terms, as they stand among the fields of what they limit."""

    max_budget = Amount(**OPTIONAL)
    soft_budget = Amount(**OPTIONAL)
    budget_duration = BudgetDuration(**OPTIONAL)
    budget_time_zone = TimeZone(**OPTIONAL)
    budget_reset_at = Moment(**OPTIONAL)
    budget_reset_time = LocalTime(**OPTIONAL)
    budget_week_start = Weekday(**OPTIONAL)
    budget_year_start = Whole(min_value=1, max_value=MONTHS_A_YEAR, **OPTIONAL)
    rollover_max = Amount(**OPTIONAL)
    rpm_limit = Rate(**OPTIONAL)
    tpm_limit = Rate(**OPTIONAL)
    max_parallel_requests = Rate(**OPTIONAL)
    enforcement = EnforcementMode(**OPTIONAL)


class PreviewPeriod(Strict):
    """Where periods would lie, of a new budget or of one that there is."""

    budget_id = PublicId(**OPTIONAL)
    budget_duration = BudgetDuration(**OPTIONAL)
    budget_time_zone = TimeZone(**OPTIONAL)
    budget_reset_at = Moment(**OPTIONAL)
    budget_reset_time = LocalTime(**OPTIONAL)
    budget_week_start = Weekday(**OPTIONAL)
    budget_year_start = Whole(min_value=1, max_value=MONTHS_A_YEAR, **OPTIONAL)


class BudgetWindow(Strict):
    """A budget beside others, such as a day's beside a month's."""

    budget_duration = BudgetDuration()
    reset_at = Moment(**OPTIONAL)
    max_budget = Amount()
    enforcement = EnforcementMode(**OPTIONAL)


class ModelLimit(Strict):
    """What may be spent on one model; of two names for the same, either will do."""

    unsupported = unsupported.MODEL_LIMIT

    max_budget = Amount(**OPTIONAL)
    budget_limit = Amount(**OPTIONAL)
    budget_duration = BudgetDuration(**OPTIONAL)
    time_period = BudgetDuration(**OPTIONAL)
    budget_reset_at = Moment(**OPTIONAL)
    rpm_limit = Rate(**OPTIONAL)
    tpm_limit = Rate(**OPTIONAL)
    max_parallel_requests = Rate(**OPTIONAL)
    enforcement = EnforcementMode(**OPTIONAL)

    LIMITS: Final = ("max_budget", "rpm_limit", "tpm_limit", "max_parallel_requests")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        for name, other in (("max_budget", "budget_limit"), ("budget_duration", "time_period")):
            given = {attrs.get(name), attrs.get(other)} - {None}
            if len(given) > 1:
                raise serializers.ValidationError({other: [f"is another than {name}"]})
            attrs[name] = next(iter(given), None)
            attrs.pop(other, None)
        if all(attrs.get(name) is None for name in self.LIMITS):
            raise serializers.ValidationError({"max_budget": ["is needed, or another limit"]})
        return attrs


class AccountLimits(Limits):
    """Terms, and beside them further budgets: by other durations, and by model."""

    budget_limits = BudgetWindow(many=True, **FEW, **OPTIONAL)
    model_max_budget = ByName(child=ModelLimit(), **OPTIONAL)
    model_rpm_limit = ByName(child=Rate(), **OPTIONAL)
    model_tpm_limit = ByName(child=Rate(), **OPTIONAL)


class LinkedLimits(AccountLimits):
    budget_id = PublicId(**OPTIONAL)


class MemberLimits(Strict):
    max_budget_in_team = Amount(**OPTIONAL)
    budget_duration = BudgetDuration(**OPTIONAL)
    budget_time_zone = TimeZone(**OPTIONAL)
    budget_reset_at = Moment(**OPTIONAL)
    budget_reset_time = LocalTime(**OPTIONAL)
    budget_week_start = Weekday(**OPTIONAL)
    budget_year_start = Whole(min_value=1, max_value=MONTHS_A_YEAR, **OPTIONAL)
    rollover_max = Amount(**OPTIONAL)
    rpm_limit = Rate(**OPTIONAL)
    tpm_limit = Rate(**OPTIONAL)
    max_parallel_requests = Rate(**OPTIONAL)
    enforcement = EnforcementMode(**OPTIONAL)


class Paged(StrictQuery):
    page = QueryWhole(min_value=1, max_value=PAGES_MAX, default=1)
    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=10)


# --- Keys ------------------------------------------------------------------------------
class GenerateKey(LinkedLimits):
    """``temp_budget_increase`` raises the limit until ``temp_budget_expiry``."""

    unsupported = unsupported.GENERATE_KEY

    temp_budget_increase = Amount(**OPTIONAL)
    temp_budget_expiry = Moment(in_utc=True, **OPTIONAL)
    key = Text(max_length=SECRET_LENGTH_MAX, **OPTIONAL)
    key_alias = Text(allow_blank=True, **OPTIONAL)
    duration = Lifetime(**OPTIONAL)
    models = ModelNames(**OPTIONAL)
    metadata = Metadata(**OPTIONAL)
    blocked = Flag(**OPTIONAL)
    user_id = PublicId(**OPTIONAL)
    team_id = PublicId(**OPTIONAL)
    organization_id = PublicId(**OPTIONAL)


class UpdateKey(GenerateKey):
    """As LiteLLM has it; null for both of the pair ends the increase."""

    unsupported = unsupported.UPDATE_KEY

    key = Text(max_length=SECRET_LENGTH_MAX)
    duration = Lifetime(endless=True, **OPTIONAL)


class RegenerateKeyNamed(UpdateKey):
    """For ``/key/{key}/regenerate``, where the path names the key."""

    unsupported = unsupported.REGENERATE_KEY

    key = Text(max_length=SECRET_LENGTH_MAX, **OPTIONAL)
    new_key = Text(max_length=SECRET_LENGTH_MAX, **OPTIONAL)


class RegenerateKey(RegenerateKeyNamed):
    key = Text(max_length=SECRET_LENGTH_MAX)


class OneKey(Strict):
    key = Text(max_length=SECRET_LENGTH_MAX)


class KeyQuery(StrictQuery):
    key = Text(max_length=SECRET_LENGTH_MAX)


class DeleteKeys(Strict):
    keys = TextList(child=Text(max_length=SECRET_LENGTH_MAX), **OPTIONAL)
    key_aliases = TextList(**OPTIONAL)


class ListKeys(Paged):
    unsupported = unsupported.LIST_KEYS

    user_id = PublicId(**OPTIONAL)
    team_id = PublicId(**OPTIONAL)
    organization_id = PublicId(**OPTIONAL)
    key_hash = Text(**OPTIONAL)
    key_alias = Text(**OPTIONAL)
    return_full_object = QueryFlag(default=False)


# --- Teams -----------------------------------------------------------------------------
class Member(Strict):
    """Somebody to be in a team, known by id, by e-mail address, or by both."""

    user_id = PublicId(**OPTIONAL)
    user_email = Email(**OPTIONAL)
    role = OneOf(tuple(TeamRole.values), default=TeamRole.USER.value)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.get("user_id") and not attrs.get("user_email"):
            problem = "is needed, or user_email"
            raise serializers.ValidationError({"user_id": [problem]}, "required")
        return attrs


@extend_schema_field(
    {
        "oneOf": [
            {"$ref": "#/components/schemas/Member"},
            {"type": "array", "items": {"$ref": "#/components/schemas/Member"}},
        ]
    }
)
class MemberOrMembers(serializers.Field):
    """One member or a list of them; always a list inside."""

    def to_internal_value(self, data: Any) -> list[dict[str, Any]]:
        many = isinstance(data, list)
        if many and not 0 < len(data) <= PAGE_SIZE_MAX:
            raise serializers.ValidationError(f"must be 1 to {PAGE_SIZE_MAX} members", "invalid")
        wanted = Member(data=data, many=many)
        wanted.is_valid(raise_exception=True)
        return list(wanted.validated_data) if many else [dict(wanted.validated_data)]


class Templates(Strict):
    """Ids of shared budgets for whoever is under a team or organization and has none of its own."""

    key_budget_id = PublicId(**OPTIONAL)
    member_budget_id = PublicId(**OPTIONAL)
    end_user_budget_id = PublicId(**OPTIONAL)


class TeamTemplates(Templates):
    team_member_budget = Amount(**OPTIONAL)
    team_member_budget_duration = BudgetDuration(**OPTIONAL)
    team_member_rpm_limit = Rate(**OPTIONAL)
    team_member_tpm_limit = Rate(**OPTIONAL)


class NewTeam(LinkedLimits, TeamTemplates):
    unsupported = unsupported.NEW_TEAM

    team_id = PublicId(**OPTIONAL)
    team_alias = Text(allow_blank=True, **OPTIONAL)
    organization_id = PublicId(**OPTIONAL)
    models = ModelNames(**OPTIONAL)
    metadata = Metadata(**OPTIONAL)
    blocked = Flag(**OPTIONAL)
    members_with_roles = Member(many=True, **SOME, **OPTIONAL)


class UpdateTeam(LinkedLimits, TeamTemplates):
    unsupported = unsupported.UPDATE_TEAM

    team_id = PublicId()
    team_alias = Text(allow_blank=True, **OPTIONAL)
    organization_id = PublicId(**OPTIONAL)
    models = ModelNames(**OPTIONAL)
    metadata = Metadata(**OPTIONAL)
    blocked = Flag(**OPTIONAL)


class TeamQuery(StrictQuery):
    team_id = PublicId()
    key_limit = QueryWhole(max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)


class ListTeams(Paged):
    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)
    user_id = PublicId(**OPTIONAL)
    organization_id = PublicId(**OPTIONAL)


class DeleteTeams(Strict):
    team_ids = TextList(allow_empty=False)


class AddMembers(MemberLimits):
    unsupported = unsupported.ADD_MEMBER

    team_id = PublicId()
    member = MemberOrMembers()


class OneMember(Strict):
    """A member of a team, by id or by e-mail address."""

    team_id = PublicId()
    user_id = PublicId(**OPTIONAL)
    user_email = Email(**OPTIONAL)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.get("user_id") and not attrs.get("user_email"):
            problem = "is needed, or user_email"
            raise serializers.ValidationError({"user_id": [problem]}, "required")
        return attrs


class UpdateMember(OneMember, MemberLimits):
    unsupported = unsupported.UPDATE_MEMBER

    role = OneOf(tuple(TeamRole.values), **OPTIONAL)


# --- Users -----------------------------------------------------------------------------
class NewUser(LinkedLimits):
    unsupported = unsupported.NEW_USER

    user_id = PublicId(**OPTIONAL)
    user_email = Email(**OPTIONAL)
    user_alias = Text(allow_blank=True, **OPTIONAL)
    user_role = OneOf(tuple(UserRole.values), **OPTIONAL)
    models = ModelNames(**OPTIONAL)
    metadata = Metadata(**OPTIONAL)
    blocked = Flag(**OPTIONAL)
    organizations = TextList(max_length=1, **OPTIONAL)
    organization_id = PublicId(**OPTIONAL)
    teams = TextList(**OPTIONAL)
    team_id = PublicId(**OPTIONAL)
    auto_create_key = Flag(default=True)
    key_alias = Text(allow_blank=True, **OPTIONAL)
    duration = Lifetime(**OPTIONAL)


class UpdateUser(LinkedLimits):
    unsupported = unsupported.UPDATE_USER

    user_id = PublicId(**OPTIONAL)
    user_email = Email(**OPTIONAL)
    user_alias = Text(allow_blank=True, **OPTIONAL)
    user_role = OneOf(tuple(UserRole.values), **OPTIONAL)
    models = ModelNames(**OPTIONAL)
    metadata = Metadata(**OPTIONAL)
    blocked = Flag(**OPTIONAL)
    organization_id = PublicId(**OPTIONAL)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.get("user_id") and not attrs.get("user_email"):
            problem = "is needed, or user_email"
            raise serializers.ValidationError({"user_id": [problem]}, "required")
        return attrs


class UserQuery(StrictQuery):
    user_id = PublicId()
    organization_id = PublicId(**OPTIONAL)


class ListUsers(StrictQuery):
    unsupported = unsupported.LIST_USERS

    page = QueryWhole(min_value=1, max_value=PAGES_MAX, default=1)
    page_size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=25)
    role = OneOf(tuple(UserRole.values), **OPTIONAL)
    user_ids = QueryList(**OPTIONAL)
    user_email = Text(**OPTIONAL)
    team = PublicId(**OPTIONAL)
    organization_ids = QueryList(max_length=1, **OPTIONAL)


# --- Organizations ---------------------------------------------------------------------
class NewOrganization(AccountLimits):
    unsupported = unsupported.NEW_ORGANIZATION

    organization_alias = Text()
    organization_id = PublicId(**OPTIONAL)
    currency = Currency(**OPTIONAL)
    time_zone = TimeZone(**OPTIONAL)
    models = ModelNames(**OPTIONAL)
    metadata = Metadata(**OPTIONAL)
    second_approver_above = Amount(**OPTIONAL)


class UpdateOrganization(LinkedLimits, Templates):
    unsupported = unsupported.UPDATE_ORGANIZATION

    organization_id = PublicId()
    organization_alias = Text(required=False)
    currency = Currency(**OPTIONAL)
    time_zone = TimeZone(**OPTIONAL)
    models = ModelNames(**OPTIONAL)
    metadata = Metadata(**OPTIONAL)
    blocked = Flag(**OPTIONAL)
    second_approver_above = Amount(**OPTIONAL)


class OrganizationQuery(StrictQuery):
    organization_id = PublicId()


class SeveralOrganizations(Strict):
    organizations = TextList(allow_empty=False, max_length=PAGE_SIZE_MAX)


# --- Budgets ---------------------------------------------------------------------------
class NewBudget(Limits):
    unsupported = unsupported.NEW_BUDGET

    budget_id = PublicId(**OPTIONAL)
    organization_id = PublicId(**OPTIONAL)


class UpdateBudget(Limits):
    unsupported = unsupported.NEW_BUDGET

    budget_id = PublicId()
    organization_id = PublicId(**OPTIONAL)


class SeveralBudgets(Strict):
    budgets = TextList(allow_empty=False, max_length=PAGE_SIZE_MAX)


class ListBudgets(Paged):
    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)
    organization_id = PublicId(**OPTIONAL)


class DeleteBudget(Strict):
    id = PublicId()
