"""
Keys: made and rotated here, their secret shown in the answer to that one request and nowhere else.

The secret is in no session, message, history or log; who asks for the page again is told so.
"""

import base64
import json
import shlex
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import display as column
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from budgets import keys
from budgets.admin import bars
from budgets.admin.base import acting_for, chosen
from budgets.admin.forms import models_field, only_organization
from budgets.admin.limits import LIMIT_FIELDS, TermsForm
from budgets.admin.lists import (
    EXPIRES_SOON,
    KeyStateFilter,
    models_column,
    page_of,
    state,
    two_lines,
)
from budgets.admin.tenancy import HolderAdmin
from budgets.admin.theme import action
from budgets.models import ApiKey
from budgets.services import keys as services
from budgets.services.keys import Issued, Owner

FIELDS: Final = ("name", "allowed_models", "expires_at", "metadata")
NONCES_KEPT: Final = 20
_NONCES: Final = "keys_issued"
MODEL_PLACEHOLDER: Final = "MODEL"


class KeyForm(TermsForm):
    allowed_models = models_field()
    once = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)

    class Meta:
        model = ApiKey
        fields = ("organization", "team", "user", *FIELDS, "blocked")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance.pk:
            self.initial["once"] = get_random_string(22)


class RotateForm(forms.Form):
    """Asks for the one thing that matters: that whoever rotates knows what ends."""

    sure = forms.BooleanField(
        error_messages={"required": "Tick the box: the present secret ends at once."}
    )


@admin.register(ApiKey)
class ApiKeyAdmin(HolderAdmin):
    purpose = "A key is what a program calls the gateway with; its requests count on its path."
    form = KeyForm
    list_display = ("called", "owner", "used", "access", "expires", "state")
    list_filter = (
        KeyStateFilter,
        ("organization", admin.RelatedOnlyFieldListFilter),
        ("team", admin.EmptyFieldListFilter),
    )
    list_select_related = ("organization", "team", "user", "account__organization")
    list_fullwidth = True
    search_fields = ("name", "prefix", "team__name", "user__email", "user__alias")
    search_help_text = "Name, first characters, team or user; or the whole secret"
    autocomplete_fields = ("organization", "team", "user")
    actions = ("block", "admit")
    actions_detail = ("rotate",)
    actions_row = ("rotate",)
    error_fields = {"key_alias": "name", "team_id": "team", "key": "name"}

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        shown = ("prefix", "blocked") if obj else ("once",)
        account = ("account_link",) if obj else ()
        return (
            (None, {"fields": ("organization", "team", "user", "name", *shown)}),
            ("Limits", {"fields": (*LIMIT_FIELDS, *account)}),
            ("Access", {"fields": ("allowed_models", "expires_at")}),
            ("For programs", {"fields": ("metadata",)}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("organization", "prefix", "account_link") if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"organization": only_organization()} | (
            super().get_changeform_initial_data(request)
        )

    def get_urls(self) -> Any:
        wrap = self.admin_site.admin_view
        return [
            path("find/", wrap(self.find_view), name="budgets_apikey_find"),
            path("<int:key_id>/secret/", wrap(self.secret_view), name="budgets_apikey_secret"),
            *super().get_urls(),
        ]

    # --- Making -----------------------------------------------------------------------------

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show or save the form of a new key; the same form sent twice makes one key."""
        made = request.session.get(_NONCES, {}).get(request.POST.get("once", ""))
        if made is not None and self.has_add_permission(request):
            return HttpResponseRedirect(reverse("admin:budgets_apikey_secret", args=[made]))
        return super().add_view(request, form_url, extra_context)

    def create(self, request: HttpRequest, form: Any) -> ApiKey:
        given = form.cleaned_data
        issued = services.issue_key(
            owner=Owner(given["organization"], given["team"], given["user"]),
            values=chosen(form, FIELDS),
            terms=form.terms(zone=given["organization"].time_zone),
            now=timezone.now(),
        )
        request.issued = issued  # type: ignore[attr-defined]  # lives as long as the request
        _remember(request, given["once"], issued.key)
        return issued.key

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> Any:
        return self._answer(request, request.issued)  # type: ignore[attr-defined]  # set by create

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Leave one way to save a new key: the page with its secret comes next in any case."""
        others = ("show_save_and_add_another", "show_save_and_continue")
        return {} if obj else dict.fromkeys(others, False)

    def update(self, request: HttpRequest, form: Any) -> None:
        key = form.instance
        services.update_key(
            key=key,
            values=chosen(form, ("team", "user", *FIELDS, "blocked")),
            terms=form.changed_terms(zone=key.organization.time_zone),
            now=timezone.now(),
        )

    def delete_model(self, request: HttpRequest, obj: ApiKey) -> None:
        services.delete_keys(chosen=[obj])

    # --- The secret -------------------------------------------------------------------------

    @action(description="Rotate secret", icon="autorenew", permissions=("change",))
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask, and then give the key a new secret and show it once."""
        key = self._found(request, object_id)
        form = RotateForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            return self._page(request, key, "budgets/key_rotate.html", form=form)
        with acting_for(request):
            return self._answer(request, services.rotate_key(key=key))

    def secret_view(self, request: HttpRequest, key_id: int) -> HttpResponse:
        """Say that the secret was shown already: it cannot be had again."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self._page(request, self._found(request, str(key_id)), "budgets/key_shown.html")

    def _found(self, request: HttpRequest, object_id: str) -> Any:
        key = self.get_object(request, object_id)
        if key is None:
            raise Http404
        return key

    def _answer(self, request: HttpRequest, issued: Issued) -> HttpResponse:
        base_url = request.build_absolute_uri("/v1")
        env_file = f"OPENAI_BASE_URL={base_url}\nOPENAI_API_KEY={issued.secret}\n"
        answer = self._page(
            request, issued.key, "budgets/key_secret.html",
            secret=issued.secret,
            base_url=base_url,
            **_first_request(next(iter(issued.key.allowed_models), MODEL_PLACEHOLDER)),
            env_file=base64.b64encode(env_file.encode()).decode(),
        )  # fmt: skip
        answer.headers["Cache-Control"] = "no-store"
        answer.headers["Referrer-Policy"] = "no-referrer"
        return answer

    def _page(
        self, request: HttpRequest, key: ApiKey, template: str, **context: Any
    ) -> TemplateResponse:
        shared = self.admin_site.each_context(request)
        about = {"title": str(key), "opts": self.opts, "key": key, "page": page_of(key)}
        return TemplateResponse(request, template, shared | about | context)

    # --- Finding ----------------------------------------------------------------------------

    @method_decorator(sensitive_post_parameters("q"))
    def find_view(self, request: HttpRequest) -> HttpResponse:
        """
        Take what somebody typed or pasted into the search box, by POST: a secret in an address
        would stay in histories and logs.
        """
        text = request.POST.get("q", "").strip()
        overview = reverse("admin:budgets_apikey_changelist")
        if not self.has_view_permission(request):
            raise PermissionDenied
        if not keys.is_well_formed(text):
            return HttpResponseRedirect(_filtered(overview, request, text))
        found = self.get_queryset(request).filter(_is_of(text)).first()
        if found is not None:
            return HttpResponseRedirect(page_of(found))
        self.message_user(request, "No key has this secret.", messages.WARNING)
        return HttpResponseRedirect(overview)

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        if keys.is_well_formed(search_term):
            return queryset.filter(_is_of(search_term)), False
        return super().get_search_results(request, queryset, search_term)

    # --- Blocking ---------------------------------------------------------------------------

    @admin.action(description="Block selected keys", permissions=("change",))
    def block(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        self._set_blocked(request, queryset, blocked=True)

    @admin.action(description="Admit selected keys again", permissions=("change",))
    def admit(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        self._set_blocked(request, queryset, blocked=False)

    def _set_blocked(
        self, request: HttpRequest, queryset: QuerySet[ApiKey], *, blocked: bool
    ) -> None:
        for key in queryset:
            services.block_key(key=key, blocked=blocked)
        done = "are refused" if blocked else "are admitted"
        self.message_user(request, f"{len(queryset)} keys {done} from their next request on.")

    # --- Columns ----------------------------------------------------------------------------

    @column(description="Key", ordering="name")
    def called(self, obj: ApiKey) -> str:
        return two_lines(obj.name or "(no name)", f"{obj.prefix}…")

    @column(description="Of")
    def owner(self, obj: ApiKey) -> str:
        inside = " · ".join(str(each) for each in (obj.team, obj.user) if each)
        return two_lines(str(obj.organization), inside)

    @column(description="Models")
    def access(self, obj: ApiKey) -> str:
        return models_column(obj.allowed_models)

    @column(description="Expires", ordering="expires_at")
    def expires(self, obj: ApiKey) -> str:
        return bars.when(obj.expires_at, now=timezone.now()) if obj.expires_at else "never"

    @column(description="State")
    def state(self, obj: ApiKey) -> str:
        now = timezone.now()
        if obj.blocked:
            return state("full", "block", "Blocked")
        if obj.expires_at and obj.expires_at <= now:
            return state("full", "event_busy", "Expired")
        if obj.expires_at and obj.expires_at <= now + EXPIRES_SOON:
            return state("warning", "schedule", "Expires soon")
        return state("fine", "check_circle", "Active")


def _first_request(model: str) -> dict[str, str]:
    """Return what the snippets say, quoted for a shell and for Python."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    return {
        "model": model,
        "body_quoted": shlex.quote(json.dumps(body, ensure_ascii=False)),
        "model_quoted": json.dumps(model, ensure_ascii=False),
    }


def _is_of(secret: str) -> Q:
    return Q(digest=keys.digest(secret)) | Q(legacy_digest=keys.legacy_digest(secret))


def _filtered(overview: str, request: HttpRequest, text: str) -> str:
    """Return the list's address with the search and the filters that were set."""
    query = request.POST.copy()
    query.pop("csrfmiddlewaretoken", None)
    # Whatever is longer than what is shown of a secret may be most of one.
    query["q"] = text[: keys.SHOWN_CHARACTERS] if text.startswith("sk-") else text
    return f"{overview}?{query.urlencode()}"


def _remember(request: HttpRequest, once: str, key: ApiKey) -> None:
    """Keep which form made which key (not its secret), so that sending it again makes none."""
    issued = dict(request.session.get(_NONCES, {}))
    issued[once] = key.pk
    request.session[_NONCES] = dict(list(issued.items())[-NONCES_KEPT:])
