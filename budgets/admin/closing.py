"""Reopening an account that was closed because nobody could say what was spent on it."""

from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_POST

from budgets.admin.base import acting_for
from budgets.errors import InvalidInput
from budgets.models import Account
from budgets.services import closing


@require_POST
def reopen_view(request: HttpRequest, account_id: UUID) -> HttpResponse:
    """Reopen the account and go back to its page."""
    if not request.user.has_perm("budgets.change_account"):
        raise PermissionDenied
    account = get_object_or_404(Account, pk=account_id)
    try:
        with acting_for(request):
            closing.reopen_account(account=account, reason=request.POST.get("reason", ""))
    except InvalidInput as error:
        messages.error(request, f"{error.field.capitalize()} {error.problem}.")
    else:
        messages.success(request, f"{account} is open again.")
    return HttpResponseRedirect(reverse("admin:budgets_account_change", args=[account.pk]))
