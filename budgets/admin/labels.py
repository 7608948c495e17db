"""End users and tags: what callers name on requests, and what people say of it."""

from typing import Any, Final

from django import forms
from django.contrib import admin
from django.contrib.admin import display as column
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from budgets.admin import bars
from budgets.admin.base import chosen
from budgets.admin.forms import models_field, only_organization
from budgets.admin.limits import LIMIT_FIELDS, TermsForm
from budgets.admin.lists import two_lines
from budgets.admin.tenancy import HolderAdmin
from budgets.admin.theme import TextArea, UncountedPaginator
from budgets.models import END_USER_BYTES_MAX, TAG_BYTES_MAX, EndUser, Organization, Tag
from budgets.services import labels as services
from budgets.services.limits import Limits

END_USER_FIELDS: Final = ("alias", "blocked", "allowed_models")


class EndUserForm(TermsForm):
    allowed_models = models_field()

    class Meta:
        model = EndUser
        fields = ("organization", "external_id", *END_USER_FIELDS)
        labels = {"external_id": "Id"}
        help_texts = {"alias": "How it is called here; callers go on sending the id."}

    def clean_external_id(self) -> str:
        return _bounded(self.cleaned_data["external_id"], END_USER_BYTES_MAX)


class TagForm(TermsForm):
    class Meta:
        model = Tag
        fields = ("organization", "name", "description")
        widgets = {"description": TextArea}

    def clean_name(self) -> str:
        return _bounded(self.cleaned_data["name"], TAG_BYTES_MAX)


def _bounded(text: str, most: int) -> str:
    """Refuse what no request could name: it is bounded in bytes, not in characters."""
    if len(text.encode()) > most:
        raise forms.ValidationError(f"At most {most} bytes.")
    return text


class LabelAdmin(HolderAdmin):
    """Base of what comes to be by spending or by hand, and stays because the ledger names it."""

    list_select_related = ("organization", "account__organization")
    list_fullwidth = True
    paginator = UncountedPaginator
    show_full_result_count = False
    ordering = ("-id",)
    autocomplete_fields = ("organization",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"organization": only_organization()} | (
            super().get_changeform_initial_data(request)
        )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @column(description="Spent of limit")
    def used(self, obj: Any) -> str:
        return super().used(obj) if obj.figures.budgets else "no limit"

    @column(description="In its whole life")
    def lifetime(self, obj: Any) -> str:
        return bars.amount(obj.figures.lifetime, obj.figures.currency)


@admin.register(EndUser)
class EndUserAdmin(LabelAdmin):
    purpose = "An end user is a customer of a caller, known by the text that requests send."
    form = EndUserForm
    list_display = ("called", "organization", "used", "lifetime", "state")
    list_filter = ("blocked", ("organization", admin.RelatedOnlyFieldListFilter))
    search_fields = ("external_id", "alias")
    search_help_text = "Id or alias"
    error_fields = {"user_id": "external_id"}
    actions = ("block", "admit")
    readonly_fields = ("external_id", "organization", "created_at", "account_link")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        account, made = (("account_link",), ("created_at",)) if obj else ((), ())
        return (
            (None, {"fields": ("organization", "external_id", "alias", "blocked", *made)}),
            ("Limits", {"fields": (*LIMIT_FIELDS, *account)}),
            ("Access", {"fields": ("allowed_models",)}),
        )

    def create(self, request: HttpRequest, form: Any) -> EndUser:
        organization = form.cleaned_data["organization"]
        return services.create_end_user(
            organization=organization,
            external_id=form.cleaned_data["external_id"],
            values=chosen(form, END_USER_FIELDS),
            limits=Limits(terms=form.changed_terms(zone=organization.time_zone)),
            now=timezone.now(),
        )

    def update(self, request: HttpRequest, form: Any) -> None:
        services.update_end_user(
            end_user=form.instance,
            values=chosen(form, END_USER_FIELDS),
            limits=Limits(terms=form.changed_terms(zone=form.instance.organization.time_zone)),
            now=timezone.now(),
        )

    @admin.action(description="Block selected end users", permissions=("change",))
    def block(self, request: HttpRequest, queryset: QuerySet[EndUser]) -> None:
        for organization, ids in _by_organization(queryset):
            services.block_end_users(
                organization=organization, external_ids=ids, now=timezone.now()
            )
        self.message_user(request, f"{len(queryset)} end users are refused from now on.")

    @admin.action(description="Admit selected end users again", permissions=("change",))
    def admit(self, request: HttpRequest, queryset: QuerySet[EndUser]) -> None:
        for organization, ids in _by_organization(queryset):
            services.unblock_end_users(organization=organization, external_ids=ids)
        self.message_user(request, f"{len(queryset)} end users are admitted from now on.")

    @column(description="End user", ordering="external_id")
    def called(self, obj: EndUser) -> str:
        return two_lines(obj.alias or obj.external_id, obj.external_id if obj.alias else "")


@admin.register(Tag)
class TagAdmin(LabelAdmin):
    purpose = "A tag is a word that callers put on requests, such as the feature they are for."
    form = TagForm
    list_display = ("called", "organization", "used", "lifetime")
    list_filter = (("organization", admin.RelatedOnlyFieldListFilter),)
    search_fields = ("name", "description")
    search_help_text = "Name or description"
    readonly_fields = ("name", "organization", "created_at", "account_link")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        account, made = (("account_link",), ("created_at",)) if obj else ((), ())
        return (
            (None, {"fields": ("organization", "name", "description", *made)}),
            ("Limits", {"fields": (*LIMIT_FIELDS, *account)}),
        )

    def create(self, request: HttpRequest, form: Any) -> Tag:
        organization = form.cleaned_data["organization"]
        return services.create_tag(
            organization=organization,
            name=form.cleaned_data["name"],
            values=chosen(form, ("description",)),
            limits=Limits(terms=form.changed_terms(zone=organization.time_zone)),
            now=timezone.now(),
        )

    def update(self, request: HttpRequest, form: Any) -> None:
        services.update_tag(
            tag=form.instance,
            values=chosen(form, ("description",)),
            limits=Limits(terms=form.changed_terms(zone=form.instance.organization.time_zone)),
            now=timezone.now(),
        )

    @column(description="Tag", ordering="name")
    def called(self, obj: Tag) -> str:
        return two_lines(obj.name, obj.description)


def _by_organization(end_users: QuerySet[EndUser]) -> list[tuple[Organization, list[str]]]:
    chosen: dict[Organization, list[str]] = {}
    for each in end_users:
        chosen.setdefault(each.organization, []).append(each.external_id)
    return list(chosen.items())
