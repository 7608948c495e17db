"""End users and tags: what callers name on requests, and what people say of it."""

from typing import Any, Final

from django.contrib import admin
from django.contrib.admin import display as column
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from budgets.admin import bars
from budgets.admin.base import chosen
from budgets.admin.forms import models_field
from budgets.admin.limits import LIMIT_FIELDS, TermsForm
from budgets.admin.lists import two_lines
from budgets.admin.tenancy import HolderAdmin
from budgets.admin.theme import TextArea, UncountedPaginator
from budgets.models import EndUser, Tag
from budgets.services import label_fields as services

END_USER_FIELDS: Final = ("alias", "blocked", "allowed_models")


class EndUserForm(TermsForm):
    allowed_models = models_field()

    class Meta:
        model = EndUser
        fields = END_USER_FIELDS
        help_texts = {"alias": "How it is called here; callers go on sending the id."}


class TagForm(TermsForm):
    class Meta:
        model = Tag
        fields = ("description",)
        widgets = {"description": TextArea}


class LabelAdmin(HolderAdmin):
    """Base of what comes to be by spending, and stays because the ledger names it."""

    list_select_related = ("organization", "account__organization")
    list_fullwidth = True
    paginator = UncountedPaginator
    show_full_result_count = False
    ordering = ("-id",)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

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
    actions = ("block", "admit")
    readonly_fields = ("external_id", "organization", "created_at", "account_link")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return (
            (None, {"fields": (("external_id", "organization"), "alias", "blocked")}),
            ("Limits", {"fields": (*LIMIT_FIELDS, "account_link")}),
            ("Access", {"fields": ("allowed_models",)}),
            ("For programs", {"fields": ("created_at",)}),
        )

    def update(self, request: HttpRequest, form: Any) -> None:
        services.update_end_user(
            end_user=form.instance,
            values=chosen(form, END_USER_FIELDS),
            terms=form.changed_terms(zone=form.instance.organization.time_zone),
            now=timezone.now(),
        )

    @admin.action(description="Block selected end users", permissions=("change",))
    def block(self, request: HttpRequest, queryset: QuerySet[EndUser]) -> None:
        self._set_blocked(request, queryset, blocked=True)

    @admin.action(description="Admit selected end users again", permissions=("change",))
    def admit(self, request: HttpRequest, queryset: QuerySet[EndUser]) -> None:
        self._set_blocked(request, queryset, blocked=False)

    def _set_blocked(
        self, request: HttpRequest, queryset: QuerySet[EndUser], *, blocked: bool
    ) -> None:
        for end_user in queryset:
            services.block_end_user(end_user=end_user, blocked=blocked)
        done = "are refused" if blocked else "are admitted"
        self.message_user(request, f"{len(queryset)} end users {done} from now on.")

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
        return (
            (None, {"fields": (("name", "organization"), "description")}),
            ("Limits", {"fields": (*LIMIT_FIELDS, "account_link")}),
            ("For programs", {"fields": ("created_at",)}),
        )

    def update(self, request: HttpRequest, form: Any) -> None:
        services.update_tag(
            tag=form.instance,
            values=chosen(form, ("description",)),
            terms=form.changed_terms(zone=form.instance.organization.time_zone),
            now=timezone.now(),
        )

    @column(description="Tag", ordering="name")
    def called(self, obj: Tag) -> str:
        return two_lines(obj.name, obj.description)
