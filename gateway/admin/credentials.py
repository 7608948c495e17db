"""Providers' keys: written here, never shown again."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import display as column
from django.db.models import Count
from django.http import HttpRequest

from budgets import changes, display
from budgets.admin.base import ServiceAdmin
from budgets.admin.lists import two_lines
from budgets.admin.theme import PasswordInput
from budgets.errors import InvalidInput
from gateway import services, vault
from gateway.models import Credential


def secret_field(*, label: str, required: bool = False, help_text: str = "") -> forms.CharField:
    """Return an input for a provider's key: never filled in, and not offered by the browser."""
    return forms.CharField(
        label=label,
        required=required,
        strip=True,
        max_length=services.SECRET_LENGTH_MAX,
        help_text=help_text,
        widget=PasswordInput({"autocomplete": "new-password", "spellcheck": "false"}),
    )


class CredentialForm(forms.ModelForm):
    new_secret = secret_field(
        label="New secret", help_text="Empty: it stays. It is encrypted, and never shown again."
    )

    class Meta:
        model = Credential
        fields = ("name",)


@admin.register(Credential)
class CredentialAdmin(ServiceAdmin):
    purpose = "A provider's key. It is saved with a deployment, and only sent to that one's host."
    form = CredentialForm
    list_display = ("called", "host", "organization", "used_by", "updated_at")
    list_filter = (("organization", admin.RelatedOnlyFieldListFilter),)
    list_select_related = ("organization",)
    ordering = ("name", "id")
    search_fields = ("name", "host")
    search_help_text = "Name or host"
    fields = ("name", "host", "organization", "new_secret", "created_at", "updated_at")
    readonly_fields = ("host", "organization", "created_at", "updated_at")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(number_of_uses=Count("deployments"))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a credential is bound to the host of the deployment that it is saved with."""
        return False

    def update(self, request: HttpRequest, form: Any) -> None:
        credential, secret = form.instance, form.cleaned_data["new_secret"]
        with changes.change(scope=services.GLOBAL_SCOPE):
            if secret:
                credential.secret = vault.seal(_printable(secret))
            credential.save()

    def delete_model(self, request: HttpRequest, obj: Credential) -> None:
        with changes.change(scope=services.GLOBAL_SCOPE):
            obj.delete()

    @column(description="Credential", ordering="name")
    def called(self, obj: Credential) -> str:
        return two_lines(obj.name, "")

    @column(description="Deployments")
    def used_by(self, obj: Any) -> str:
        return display.count(obj.number_of_uses)

    @column(description="Secret")
    def new_secret(self, obj: Credential) -> str:
        return "kept, encrypted"


def _printable(secret: str) -> str:
    if not secret.isprintable():
        raise InvalidInput("new_secret", "must be printable")
    return secret
