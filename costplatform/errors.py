"""
What a caller of the management API is told when something is wrong: one shape, OpenAI's.

Every error has a message for people, a type, the parameter that does not fit and a code for
programs; docs/reference/errors.md lists the codes.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, Final

from django.core.exceptions import (
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.views import defaults
from rest_framework.exceptions import (
    APIException,
    ErrorDetail,
    UnsupportedMediaType,
    ValidationError,
)
from rest_framework.response import Response

from budgets.errors import (
    AlreadyDecided,
    AlreadyMade,
    Conflict,
    InvalidInput,
    NotAllowed,
    NotFound,
    NotRecorded,
)
from costplatform import json
from gateway.errors import GatewayError
from spend.invoices.lines import BadInvoice
from spend.price_terms import NotConfirmed

log = logging.getLogger(__name__)

PARAM_CHARACTERS_MAX: Final = 255
_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    500: "internal_error",
    503: "service_unavailable",
}
_CODES: Final = {
    400: "invalid_json",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
}
_FIELD_CODES: Final = frozenset({"unknown_field", "unsupported_field"})
_CONFLICT_STATUS: Final = {"user_id": 409, "user_email": 409}
"""LiteLLM answers 409 where a user exists, and 400 where anything else does."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as its caller sees it."""

    status: int
    code: str
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        return {
            "error": {
                "message": _printable(self.message),
                "type": _TYPES.get(self.status, "invalid_request_error"),
                "param": self.param and _printable(self.param)[:PARAM_CHARACTERS_MAX],
                "code": self.code,
            }
        }


def answer(error: Exception, context: Mapping[str, Any]) -> Response:
    """Return the answer to a request that failed; what nobody foresaw is logged and a 500."""
    problem = problem_of(error)
    if problem.status >= 500:  # noqa: PLR2004  # the server's fault, by HTTP
        request = context["request"]
        log.error(
            "request_failed",
            exc_info=error,
            # The route, not the path: keys stand in paths.
            extra={
                "method": request.method,
                "route": request.resolver_match.route,
                "code": problem.code,
            },
        )
    response = Response(problem.body(), status=problem.status, headers=dict(problem.headers))
    # Or Django would log path and query, where keys may stand.
    response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001
    return response


@singledispatch
def problem_of(error: Exception) -> Problem:
    """Return what to tell the caller about an error."""
    return Problem(500, "internal_error", "Something went wrong here. It has been logged.")


@problem_of.register
def _(error: InvalidInput) -> Problem:
    return Problem(400, "invalid_value", f"{error.field}: {error.problem}", error.field)


@problem_of.register
def _(error: GatewayError) -> Problem:
    code = error.told()["code"]
    return Problem(error.http_status, code, error.message, error.param)


@problem_of.register
def _(error: Conflict) -> Problem:
    status = _CONFLICT_STATUS.get(error.field, 400)
    return Problem(status, "already_exists", f"{error.field}: {error.problem}", error.field)


@problem_of.register
def _(error: NotConfirmed) -> Problem:
    return Problem(400, "not_confirmed", f"{error.field}: {error.problem}", error.field)


@problem_of.register
def _(error: AlreadyMade) -> Problem:
    return Problem(400, "already_exists", f"{error.field}: {error.problem}", error.field)


@problem_of.register
def _(error: AlreadyDecided) -> Problem:
    return Problem(409, "already_decided", f"{error.field}: {error.problem}", error.field)


@problem_of.register
def _(error: NotAllowed) -> Problem:
    return Problem(403, "forbidden", f"{error.field}: {error.problem}", error.field)


@problem_of.register
def _(error: BadInvoice) -> Problem:
    return Problem(400, "invalid_invoice", f"{error.field}: {error.problem}", error.field)


@problem_of.register
def _(error: NotFound) -> Problem:
    return Problem(404, "not_found", f"There is {error}.", error.field)


@problem_of.register
def _(error: ValidationError) -> Problem:
    path, detail = _first(error.detail)
    code = detail.code if detail.code in _FIELD_CODES else "invalid_value"
    return Problem(400, code, f"{path}: {detail}" if path else str(detail), path or None)


@problem_of.register
def _(error: APIException) -> Problem:
    challenge = getattr(error, "auth_header", None)
    return Problem(
        error.status_code,
        _CODES.get(error.status_code, "invalid_request"),
        str(error.detail),
        headers={"WWW-Authenticate": challenge} if challenge else {},
    )


@problem_of.register
def _(error: UnsupportedMediaType) -> Problem:
    message = "Send the body as JSON, with 'Content-Type: application/json'."
    return Problem(415, "unsupported_media_type", message)


@problem_of.register
def _(error: Http404) -> Problem:
    return Problem(404, "not_found", "There is nothing at this address.")


@problem_of.register
def _(error: PermissionDenied) -> Problem:
    return Problem(403, "forbidden", "This is not allowed.")


@problem_of.register
def _(error: RequestDataTooBig) -> Problem:
    return Problem(413, "payload_too_large", str(error))


@problem_of.register
def _(error: IntegrityError) -> Problem:
    message = "Something that this needs was changed at the same time. Try again."
    return Problem(409, "conflict", message)


@problem_of.register
def _(error: DataError) -> Problem:
    return Problem(400, "invalid_value", "A value does not fit into its place.")


@problem_of.register(OperationalError)
@problem_of.register(InterfaceError)
def _(error: Exception) -> Problem:
    message = "The database cannot be asked right now. Try again."
    return Problem(503, "database_unavailable", message, headers={"Retry-After": "2"})


@problem_of.register
def _(error: NotRecorded) -> Problem:
    message = "What was charged last is not recorded yet. Try again in a moment."
    return Problem(503, "recorder_behind", message, headers={"Retry-After": "2"})


@problem_of.register
def _(error: SuspiciousOperation) -> Problem:
    return Problem(400, "invalid_request", "The request is not as it should be.")


@problem_of.register
def _(error: DisallowedHost) -> Problem:
    return Problem(400, "invalid_host", "This name of the server is not in ALLOWED_HOSTS.")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for a request that Django refused before any view saw it."""
    return respond(problem_of(exception))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for an address that there is not; people in the admin get a page."""
    if request.path.startswith("/admin/"):
        return defaults.page_not_found(request, exception)
    return respond(problem_of(Http404()))


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer for a failure outside of the API's views; Django has logged it."""
    return respond(problem_of(Exception()))


def respond(problem: Problem) -> HttpResponse:
    """Return the answer of a view that is not DRF's."""
    return HttpResponse(
        json.dumps(problem.body()),
        status=problem.status,
        content_type="application/json",
        headers=dict(problem.headers),
    )


def _first(detail: Any, path: str = "") -> tuple[str, ErrorDetail]:
    """Return the first error of a serializer, and where it is: ``models[3]``, ``member.role``."""
    if isinstance(detail, ErrorDetail):
        return path, detail
    if isinstance(detail, Mapping):
        name, inner = next(iter(detail.items()))
        return _first(inner, _joined(path, name))
    if isinstance(detail[0], ErrorDetail):
        return path, detail[0]
    index, inner = next((n, each) for n, each in enumerate(detail) if each)
    return _first(inner, _joined(path, index))


def _joined(path: str, name: str | int) -> str:
    if name == "non_field_errors":
        return path
    if isinstance(name, int):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name


def _printable(text: str) -> str:
    """Return ``text`` with what cannot be sent as UTF-8, or would garble a log, escaped."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
