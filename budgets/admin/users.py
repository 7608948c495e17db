"""Users, who of them may log in here, and what they may do."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import display as column
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from budgets import changes
from budgets.admin import bars, figures
from budgets.admin.base import ServiceAdmin, acting_for, chosen
from budgets.admin.forms import ServiceForm, models_field, only_organization
from budgets.admin.lists import link, state, two_lines
from budgets.admin.tenancy import public_id_field
from budgets.admin.theme import AdminPasswordChangeForm, ModelAdmin, TabularInline, UserChangeForm
from budgets.models import Organization, OrganizationMembership, User
from budgets.services import tenancy
from budgets.services.accounts import Terms

PERSON = ("alias", "email", "role", "allowed_models", "metadata")
RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")


class NewUserForm(ServiceForm):
    public_id = public_id_field()
    organization = forms.ModelChoiceField(
        Organization.objects.all(), help_text="Where the user belongs first; more can be added."
    )
    allowed_models = models_field()

    class Meta:
        model = User
        fields = ("public_id", *PERSON)


class ChangedUserForm(ServiceForm, UserChangeForm):
    allowed_models = models_field()

    class Meta:
        model = User
        fields = (*PERSON, "is_active", *RIGHTS)


class OrganizationInline(TabularInline):
    """The organizations of a user, and what the user has spent in each."""

    model = OrganizationMembership
    fields = ("organization", "spent")
    readonly_fields = ("spent",)
    autocomplete_fields = ("organization",)
    verbose_name = "organization"
    verbose_name_plural = "Organizations"
    hide_title = True
    extra = 0

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> Any:
        related = ("organization", "account__organization")
        return super().get_queryset(request).select_related(*related).order_by("id")

    @column(description="Spent of limit")
    def spent(self, obj: OrganizationMembership) -> str:
        if not obj.pk:
            return bars.NOTHING
        found = figures.of_account(obj.account, now=timezone.now())
        return format_html("{}<br>{}", bars.bars(found), link(obj.account, "Limits and spending"))


@admin.register(User)
class UserAdmin(ServiceAdmin, DjangoUserAdmin):
    purpose = "A user can own keys and, with a password and the staff flag, log in here."
    form = ChangedUserForm
    add_form = NewUserForm
    change_password_form = AdminPasswordChangeForm
    add_form_template = None
    list_display = ("called", "email", "role", "rights", "state", "last_login")
    list_filter = ("role", "is_active", "is_staff", "is_superuser")
    search_fields = ("username", "alias", "email", "public_id")
    search_help_text = "Name, e-mail address or id"
    ordering = ("username",)
    readonly_fields = ("public_id", "username", "last_login", "date_joined")
    filter_horizontal = ("user_permissions",)
    autocomplete_fields = ("groups",)
    error_fields = {"user_id": "public_id", "user_email": "email"}

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            names = ("public_id", "organization", "alias", "email", "role", "allowed_models")
            return ((None, {"fields": names}),)
        return (
            (None, {"fields": ("alias", "email", "role", "allowed_models")}),
            ("Logging in", {"fields": ("username", "password", "is_active", *RIGHTS)}),
            ("For programs", {"fields": ("public_id", "metadata", "last_login", "date_joined")}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Only a superuser hands out rights: else whoever may change users could take them all."""
        if obj is None:
            return ()
        return (
            self.readonly_fields if request.user.is_superuser else (*self.readonly_fields, *RIGHTS)
        )

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return (OrganizationInline,) if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        first = {"public_id": "", "organization": only_organization()}
        return first | super().get_changeform_initial_data(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_above = isinstance(obj, User) and obj.is_superuser and not request.user.is_superuser
        return not is_above and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: what a user has spent names it for ever. A user can be made inactive."""
        return False

    def create(self, request: HttpRequest, form: Any) -> User:
        values = chosen(form, ("public_id", *PERSON))
        return tenancy.create_user(
            values=values,
            organization=form.cleaned_data["organization"],
            terms=Terms(),
            now=timezone.now(),
        )

    def update(self, request: HttpRequest, form: Any) -> None:
        tenancy.update_user(
            user=form.instance,
            values=chosen(form, (*PERSON, "is_active", "is_staff", "is_superuser")),
            organization=_organization_of(form.instance),
            terms=None,
            now=timezone.now(),
        )

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        for row in formset.extra_forms:
            if row.has_changed():
                organization = row.cleaned_data["organization"]
                with changes.change(scope=organization.pk):
                    tenancy.join_organization(organization=organization, user=form.instance)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> Any:
        with acting_for(request):
            return super().user_change_password(request, id, form_url)

    @column(description="User", ordering="username")
    def called(self, obj: User) -> str:
        return two_lines(str(obj), obj.username if str(obj) != obj.username else "")

    @column(description="Admin")
    def rights(self, obj: User) -> str:
        if obj.is_superuser:
            return "everything"
        return "as permitted" if obj.is_staff else bars.NOTHING

    @column(description="State", ordering="is_active")
    def state(self, obj: User) -> str:
        if obj.is_active:
            return state("fine", "check_circle", "Active")
        return state("full", "block", "Inactive")


def _organization_of(user: User) -> Organization:
    """Return under which organization the change is made known; the recorder tells the others."""
    joined = user.organizations.select_related("organization").order_by("id").first()
    if joined is not None:
        return joined.organization
    return Organization.objects.get(public_id=tenancy.DEFAULT_ORGANIZATION)


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    """What the users of a group may do in the admin."""
