"""Organizations, teams and their members."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import display as column
from django.db.models import Count, Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from budgets import changes, display
from budgets.admin import bars, figures, history, overcommitted
from budgets.admin.accounts import write_limits
from budgets.admin.base import ServiceAdmin, chosen
from budgets.admin.forms import (
    amount_field,
    is_autocomplete,
    models_field,
    only_organization,
    organization_from,
    zone_field,
)
from budgets.admin.limits import (
    DURATIONS_SHORT,
    LIMIT_FIELDS,
    LimitsForm,
    OwnLimitColumns,
    PeriodTeller,
    TermsForm,
    duration_field,
    mode_field,
    rate_field,
)
from budgets.admin.lists import (
    FiguresAdmin,
    blocked_state,
    link,
    models_column,
    two_lines,
)
from budgets.admin.templates import EXPLAINED, TEMPLATE_FIELDS, TemplateColumns, TemplatesForm
from budgets.admin.theme import TabularInline, TextInput
from budgets.fields import PUBLIC_ID_LENGTH_MAX
from budgets.models import Membership, Organization, PeriodTotal, Team
from budgets.services import tenancy
from budgets.services.accounts import Terms

ORGANIZATION_FIELDS = (
    "name", "public_id", "currency", "time_zone", "allowed_models", "blocked", "metadata",
    "second_approver_above",
)  # fmt: skip
TEAM_FIELDS = ("name", "public_id", "allowed_models", "blocked", "metadata")


def public_id_field() -> forms.CharField:
    return forms.CharField(
        label="Id",
        max_length=PUBLIC_ID_LENGTH_MAX,
        required=False,
        help_text="Under which programs know it. Empty: a random one.",
        widget=TextInput,
    )


class HolderForm(TermsForm):
    """A form of something that has an id for programs, an access list and an account."""

    public_id = public_id_field()
    allowed_models = models_field()

    def values(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return the fields to write; an empty id is left to chance."""
        values = chosen(self, names)
        return {name: value for name, value in values.items() if name != "public_id" or value}


class HolderAdmin(PeriodTeller, OwnLimitColumns, FiguresAdmin, ServiceAdmin):
    """Base of what holds an account: a link to it, and its budgets' changes in the history."""

    error_fields = {"organization_id": "public_id", "team_id": "public_id"}

    def history_of(self, obj: Any) -> Q:
        return history.rows_of(obj) | history.rows_of_budgets(obj.account)

    @column(description="Account")
    def account_link(self, obj: Any) -> str:
        found = figures.of_account(obj.account, now=timezone.now())
        page = link(obj.account, "Spending, shared and further budgets, single models, refusals")
        return format_html("{}<br>{}", bars.bars(found), page)

    @column(description="State", ordering="blocked")
    def state(self, obj: Any) -> str:
        return blocked_state(blocked=obj.blocked)


class GroupAdmin(TemplateColumns, HolderAdmin):
    """Base of what has others under it: what each of them has, and whether that adds up."""

    change_form_outer_before_template = "budgets/overcommitted.html"

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        return {"overcommitted": overcommitted.note(obj.account)} if obj else {}


class OrganizationForm(HolderForm, TemplatesForm):
    time_zone = zone_field()
    second_approver_above = amount_field(
        label="Two approvers above",
        help_text="Temporary increases above this amount need two. Empty: one is always enough.",
    )

    class Meta:
        model = Organization
        fields = ORGANIZATION_FIELDS


@admin.register(Organization)
class OrganizationAdmin(GroupAdmin):
    purpose = "An organization is a tenant: what belongs to one is invisible to another."
    form = OrganizationForm
    list_display = ("called", "used", "currency", "time_zone", "teams_count", "state")
    list_filter = ("blocked", "currency")
    list_select_related = ("account__organization",)
    ordering = ("name", "id")
    search_fields = ("name", "public_id")
    search_help_text = "Name or id"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(number_of_teams=Count("teams"))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        account = ("account_link",) if obj else ()
        return (
            (None, {"fields": ("name", ("currency", "time_zone"), "blocked")}),
            ("Limits", {"fields": (*LIMIT_FIELDS, "second_approver_above", *account)}),
            *_templates(obj),
            ("Access", {"fields": ("allowed_models",)}),
            ("For programs", {"fields": ("public_id", "metadata")}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ()
        has_spent = PeriodTotal.objects.filter(account=obj.account_id, events__gt=0).exists()
        return ("public_id", "account_link", *(["currency"] if has_spent else []))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: the ledger names it for ever. An organization can be blocked."""
        return False

    def create(self, request: HttpRequest, form: Any) -> Organization:
        values = form.values(ORGANIZATION_FIELDS)
        terms = form.terms(zone=values["time_zone"])
        return tenancy.create_organization(values=values, terms=terms, now=timezone.now())

    def update(self, request: HttpRequest, form: Any) -> None:
        organization = form.instance
        with changes.change(scope=organization.pk):
            tenancy.update_organization(
                organization=organization, values=form.values(ORGANIZATION_FIELDS)
            )
            write_limits(account=organization.account, form=form)
            form.write_templates(holder=organization.account)

    @column(description="Organization", ordering="name")
    def called(self, obj: Organization) -> str:
        return two_lines(obj.name, obj.public_id)

    @column(description="Teams")
    def teams_count(self, obj: Any) -> str:
        return display.count(obj.number_of_teams)


class MemberForm(LimitsForm):
    max_budget = amount_field(label="Limit", help_text="")
    budget_duration = duration_field(choices=DURATIONS_SHORT)
    rpm_limit = rate_field(label="Requests/min")
    tpm_limit = rate_field(label="Tokens/min")
    max_parallel_requests = rate_field(label="At once")
    enforcement = mode_field()

    class Meta:
        model = Membership
        fields = ("user", "role")


class MemberInline(OwnLimitColumns, TabularInline):
    model = Membership
    form = MemberForm
    fields = (
        "user", "role", "max_budget", "budget_duration", "rpm_limit", "tpm_limit",
        "max_parallel_requests", "enforcement", "account_link",
    )  # fmt: skip
    readonly_fields = ("account_link",)
    autocomplete_fields = ("user",)
    verbose_name = "member"
    verbose_name_plural = "Members"
    hide_title = True
    extra = 0
    per_page = 50

    def get_queryset(self, request: HttpRequest) -> Any:
        related = ("user", "team", "account__private_budget")
        return super().get_queryset(request).select_related(*related).order_by("id")

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """Leave out the buttons beside the user: there is no room for them."""
        formset = super().get_formset(request, obj, **kwargs)
        if (user := formset.form.base_fields.get("user")) is not None:
            for name in ("can_add_related", "can_change_related", "can_view_related"):
                setattr(user.widget, name, False)
        return formset

    @column(description="Account")
    def account_link(self, obj: Membership) -> str:
        return link(obj.account, "Spending") if obj.pk else ""


class TeamForm(HolderForm, TemplatesForm):
    class Meta:
        model = Team
        fields = ("organization", *TEAM_FIELDS)


@admin.register(Team)
class TeamAdmin(GroupAdmin):
    purpose = "A team is a group of people and keys with one account above theirs."
    form = TeamForm
    list_display = ("called", "organization", "used", "access", "members_count", "state")
    list_filter = ("blocked", ("organization", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("organization", "account__organization")
    ordering = ("name", "id")
    search_fields = ("name", "public_id")
    search_help_text = "Name or id"
    autocomplete_fields = ("organization",)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(number_of_members=Count("memberships"))

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        found, has_duplicates = super().get_search_results(request, queryset, search_term)
        organization = organization_from(request) if is_autocomplete(request) else None
        if organization is not None:
            found = found.filter(organization=organization)
        return found, has_duplicates

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        account = ("account_link",) if obj else ()
        return (
            (None, {"fields": ("organization", "name", "blocked")}),
            ("Limits", {"fields": (*LIMIT_FIELDS, *account)}),
            *_templates(obj),
            ("Access", {"fields": ("allowed_models",)}),
            ("For programs", {"fields": ("public_id", "metadata")}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("organization", "public_id", "account_link") if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return (MemberInline,) if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"organization": only_organization()} | (
            super().get_changeform_initial_data(request)
        )

    def create(self, request: HttpRequest, form: Any) -> Team:
        organization = form.cleaned_data["organization"]
        return tenancy.create_team(
            organization=organization,
            values=form.values(TEAM_FIELDS),
            terms=form.terms(zone=organization.time_zone),
            now=timezone.now(),
        )

    def update(self, request: HttpRequest, form: Any) -> None:
        team = form.instance
        terms = form.changed_terms(zone=team.organization.time_zone)
        with changes.change(scope=team.organization_id):
            tenancy.update_team(
                team=team, values=form.values(TEAM_FIELDS), terms=terms, now=timezone.now()
            )
            form.write_templates(holder=team.account)

    def delete_model(self, request: HttpRequest, obj: Team) -> None:
        tenancy.delete_teams(teams=[obj])

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        for gone in formset.deleted_forms:
            tenancy.remove_member(member=gone.instance)
        for row in formset.forms:
            if row.has_changed() and row not in formset.deleted_forms:
                _write_member(form.instance, row)

    @column(description="Team", ordering="name")
    def called(self, obj: Team) -> str:
        return two_lines(obj.name or obj.public_id, obj.public_id if obj.name else "")

    @column(description="Models")
    def access(self, obj: Team) -> str:
        return models_column(obj.allowed_models)

    @column(description="Members")
    def members_count(self, obj: Any) -> str:
        return display.count(obj.number_of_members)


def _templates(obj: Any) -> tuple[Any, ...]:
    if obj is None:
        return ()
    return (("For each", {"fields": TEMPLATE_FIELDS, "description": EXPLAINED}),)


def _write_member(team: Team, row: Any) -> None:
    now, zone = timezone.now(), team.organization.time_zone
    terms, role = row.changed_terms(zone=zone), row.cleaned_data["role"]
    if row.instance.pk:
        tenancy.update_member(member=row.instance, role=role, terms=terms, now=now)
    else:
        tenancy.add_member(
            team=team, user=row.cleaned_data["user"], role=role, terms=terms or Terms(), now=now
        )
