"""``GET /metrics``: what all processes of this host count, for Prometheus."""

import hmac
from datetime import UTC, datetime
from functools import partial
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from budgets.metrics import exposition
from costplatform.errors import Problem, respond
from costplatform.metrics_state import State

_state: Final = State(clock=partial(datetime.now, UTC))
_HERE: Final = frozenset({"127.0.0.1", "::1", "[::1]", "localhost"})
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_UNAUTHORIZED: Final = Problem(
    401,
    "unauthorized",
    "Send METRICS_TOKEN or the master key as 'Authorization: Bearer …'.",
    headers={"WWW-Authenticate": "Bearer"},
)


@require_safe
def scrape(request: HttpRequest) -> HttpResponse:
    """Answer with all metrics, to whom they are meant for."""
    if not _may_scrape(request):
        return respond(_UNAUTHORIZED)
    return HttpResponse(exposition(_state), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _may_scrape(request: HttpRequest) -> bool:
    authorization = request.headers.get("authorization", "")
    if not authorization:
        return not settings.METRICS_TOKEN and _is_from_here(request)
    scheme, _, secret = authorization.partition(" ")
    accepted = [each for each in (settings.METRICS_TOKEN, settings.MASTER_KEY) if each]
    sent = secret.strip().encode()
    return scheme.lower() == "bearer" and any(
        hmac.compare_digest(sent, each.encode()) for each in accepted
    )


def _is_from_here(request: HttpRequest) -> bool:
    """Return whether the client is on this machine itself, not behind a proxy that is."""
    if any(name in request.headers for name in _FORWARDED):
        return False
    host, _ = split_domain_port(request.get_host())
    return host in _HERE and request.META.get("REMOTE_ADDR") in _HERE
