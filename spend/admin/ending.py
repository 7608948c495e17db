"""The page that ends a price, a discount or a margin: now, or at a time that is chosen."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone

from budgets.admin.base import acting_for
from budgets.admin.lists import page_of
from budgets.admin.theme import TextInput
from budgets.errors import InvalidInput
from spend.admin.price_forms import sentence

End = Callable[[datetime, datetime], object]


class EndForm(forms.Form):
    effective_until = forms.DateTimeField(
        required=False,
        label="When",
        widget=TextInput({"placeholder": "2026-12-31 00:00"}),
        help_text="UTC. Empty: now.",
    )


def end_page(
    admin: Any, request: HttpRequest, object_id: str, *, end: Callable[[Any], End], words: str
) -> HttpResponse:
    """Ask when something ends, and end it then; what is refused stands at the field."""
    row = admin.get_object(request, object_id)
    if row is None:
        raise Http404
    if not admin.has_add_permission(request):
        raise PermissionDenied
    form = EndForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and _ended(request, form, end(row)):
        admin.message_user(request, f"{row}: ends.")
        return HttpResponseRedirect(page_of(row))
    context = {
        **admin.admin_site.each_context(request),
        "title": f"End: {row}",
        "opts": admin.opts,
        "page": page_of(row),
        "form": form,
        "words": words,
    }
    return TemplateResponse(request, "spend/end.html", context)


def _ended(request: HttpRequest, form: EndForm, end: End) -> bool:
    now = timezone.now()
    try:
        with acting_for(request):
            end(form.cleaned_data["effective_until"] or now, now)
    except InvalidInput as refused:
        form.add_error("effective_until", sentence(refused.problem))
        return False
    return True
