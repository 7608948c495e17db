"""Errors in the words of whose clients they are for: OpenAI's shape, or Anthropic's."""

from typing import Any, Final

import orjson

from gateway.errors import GatewayError
from gateway.routes.route import ANTHROPIC, Route

_OF_STATUS: Final = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
    404: "not_found_error", 408: "timeout_error", 413: "request_too_large",
    429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip
"""As https://platform.claude.com/docs/en/api/errors names them; all others are api_error."""


def body(error: GatewayError, *, request_id: str, route: Route | None) -> bytes:
    """Return the body of an answer that tells an error."""
    if route is None or route.errors != ANTHROPIC:
        return error.body(request_id=request_id)
    return orjson.dumps(_as_anthropic(error, request_id))


def _as_anthropic(error: GatewayError, request_id: str) -> dict[str, Any]:
    inner = error.told() | {"request_id": request_id}
    kind = _OF_STATUS.get(error.http_status, "api_error")
    # Its clients choose their class by the type; ours stays in the code.
    return {"type": "error", "error": inner | {"type": kind}, "request_id": request_id}


def event(error: GatewayError, *, request_id: str, route: Route) -> bytes:
    """Return the event that tells of an error once a stream has begun; their SDKs raise it."""
    data = b"data: " + body(error, request_id=request_id, route=route) + b"\n\n"
    return b"event: error\n" + data if route.errors == ANTHROPIC else data
