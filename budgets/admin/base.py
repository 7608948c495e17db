"""
What all admin classes share: writes go through services under the name of who is logged in, what
a service refuses stands at its field, and the history is the one that the database keeps.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Final, TypeVar

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import JSONField, Model, ProtectedError, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from budgets import changes
from budgets.admin import history
from budgets.admin.theme import ModelAdmin, TextArea
from budgets.changes import Origin, Source
from budgets.errors import InvalidInput

HISTORY_PER_PAGE: Final = 50
Answer = TypeVar("Answer", bound=HttpResponse)


def actor_of(request: HttpRequest) -> str:
    """Return the name under which the history keeps what this request changes."""
    return f"admin:{request.user.get_username()}"


def acting_for(request: HttpRequest) -> AbstractContextManager[None]:
    """Have the history keep what is changed within as done by who is logged in, from where."""
    origin = Origin(Source.ADMIN, request.META.get("REMOTE_ADDR") or "")
    return changes.acting(by=actor_of(request), origin=origin)


class HistoryMixin(ModelAdmin):
    """Shows the rows of the history trigger, so that changes by the API and by SQL are seen too."""

    history_template = "budgets/history.html"

    def history_of(self, obj: Any) -> Q:
        """Return which rows of the history belong to this object."""
        return history.rows_of(obj)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404
        if not self.has_view_or_change_permission(request, obj):
            raise PermissionDenied
        pages = Paginator(history.read(self.history_of(obj)), HISTORY_PER_PAGE)
        page = pages.get_page(request.GET.get("p"))
        context = {
            **self.admin_site.each_context(request),
            "title": f"History: {obj}",
            "object": obj,
            "opts": self.opts,
            "preserved_filters": self.get_preserved_filters(request),
            "page": page,
            "changes": [history.told(change) for change in page],
            **(extra_context or {}),
        }
        return TemplateResponse(request, self.history_template, context)


class ShowingMixin(ModelAdmin):
    """Gives the page of one object more to show than its form."""

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return what the page shows beside the form; ``obj`` is None where one is added."""
        return {}

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        context |= self.shown(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)


class ServiceAdmin(HistoryMixin, ShowingMixin, ModelAdmin):
    """
    Base of all admin classes of what the history trigger watches.

    A subclass writes by calling a service in :meth:`create` and :meth:`update`.
    """

    purpose: ClassVar[str] = ""
    """One line for the empty list: what these things are."""
    error_fields: ClassVar[Mapping[str, str]] = {}
    """Names of form fields where a service calls them something else."""
    list_per_page = 50
    formfield_overrides = {JSONField: {"widget": TextArea}}
    warn_unsaved_form = True
    change_form_show_cancel_button = True

    def create(self, request: HttpRequest, form: Any) -> Model:
        raise NotImplementedError

    def update(self, request: HttpRequest, form: Any) -> None:
        raise NotImplementedError

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            self.update(request, form)
        else:
            obj.pk = self.create(request, form).pk
            obj.refresh_from_db()

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Show or save the form; what a service refuses is shown in the form instead."""
        show = super().changeform_view
        with acting_for(request):
            try:
                return show(request, object_id, form_url, extra_context)
            except InvalidInput as refused:
                request.refused = refused  # type: ignore[attr-defined]  # lives as long as the request
                return show(request, object_id, form_url, extra_context)

    def get_form(
        self,
        request: HttpRequest,
        obj: Any = None,
        change: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return a form class that refuses, at its field, what a service has just refused."""
        form = super().get_form(request, obj, change=change, **kwargs)
        refused = getattr(request, "refused", None)
        return form if refused is None else _refusing(form, refused, self.error_fields)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> Any:
        show = super().delete_view
        return self._guarded(request, lambda: show(request, object_id, extra_context))

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        show = super().changelist_view
        if request.method != "POST":
            return show(request, extra_context)
        return self._guarded(request, lambda: show(request, extra_context))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for obj in queryset:
            self.delete_model(request, obj)

    def construct_change_message(
        self, request: Any, form: Any, formsets: Any, add: Any = False
    ) -> list[Any]:
        return []

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Do nothing: the history trigger keeps it."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Do nothing: the history trigger keeps it."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Do nothing: the history trigger keeps it."""

    def _guarded(self, request: HttpRequest, view: Callable[[], Any]) -> Any:
        """Run a view; what it may not do becomes a message on the page that it came from."""
        with acting_for(request):
            try:
                return view()
            except InvalidInput as refused:
                self.message_user(request, f"Not done: it {refused.problem}.", messages.ERROR)
            except ProtectedError as error:
                self.message_user(request, _protected_text(error), messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())


class ReadOnlyAdmin(ShowingMixin, ModelAdmin):
    """For what only the machinery writes."""

    purpose: ClassVar[str] = ""
    list_per_page = 50
    show_full_result_count = False
    actions = None

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Leave out the link to a history: what is never changed has none."""
        return {"show_history": False}

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def chosen(form: forms.BaseForm, names: Sequence[str]) -> dict[str, Any]:
    """Return what the form says about those of these fields that it shows."""
    return {name: form.cleaned_data[name] for name in names if name in form.cleaned_data}


def _refusing(form: Any, refused: InvalidInput, names: Mapping[str, str]) -> Any:
    field = names.get(refused.field, refused.field)

    class Refusing(form):  # type: ignore[misc]  # the base is made at run time
        def clean(self) -> Any:
            cleaned = super().clean()
            known = field in self.fields
            problem = refused.problem if known else f"{refused.field} {refused.problem}"
            self.add_error(field if known else None, _sentence(problem))
            return cleaned

    return Refusing


def _sentence(problem: str) -> str:
    return f"{problem[:1].upper()}{problem[1:]}."


def _protected_text(error: ProtectedError) -> str:
    held = sorted({str(obj._meta.verbose_name_plural) for obj in error.protected_objects})
    return f"Not deleted: {', '.join(held)} still use it."
