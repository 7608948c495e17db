"""
What a caller is told when a request is not served: OpenAI's error shape, with a code of its own.

GatewayError
├── Unauthorized, KeyBlocked, KeyExpired, EndUserBlocked,
│   AccountClosed, ModelForbidden                                            who asks
├── InvalidRequest, ModelNotFound, UnknownRoute, RouteNotServed, NoDeploymentForTags, ModelUnpriced,
│   UnboundedRequest, NoExchangeRate                          what is asked
├── FileUnknown, FileInUse, TooManyFiles, BatchUnknown        files and batches
├── BodyTooLarge, BodyTooSlow, BodyEncoded,
│   HeadTooLarge, HeadTooSlow, InvalidHttp                                     how it comes
├── LimitRefused                                              a budget on the path
├── Unavailable                                               we cannot tell whether it may spend
├── CacheUnavailable                                          of the API: no cache to look after
└── UpstreamFailed                                            the provider gave no answer
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import orjson


class GatewayError(Exception):
    status: ClassVar[int] = 400
    type: ClassVar[str] = "invalid_request_error"
    code: ClassVar[str] = "invalid_request"
    should_retry: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def http_status(self) -> int:
        return self.status

    def details(self) -> dict[str, Any]:
        """Return what stands beside message, type, param and code."""
        return {}

    def headers(self) -> dict[str, str]:
        # OpenAI's and Anthropic's SDKs obey this header before they look at the status.
        return {"x-should-retry": "true" if self.should_retry else "false"}

    def told(self) -> dict[str, Any]:
        return {
            "message": self.message, "type": self.type, "param": self.param, "code": self.code,
            **self.details(),
        }  # fmt: skip

    def body(self, *, request_id: str) -> bytes:
        """Return the body of an answer that tells this error as OpenAI does."""
        return orjson.dumps({"error": self.told() | {"request_id": request_id}})


class Unauthorized(GatewayError):
    status, type, code = 401, "authentication_error", "invalid_api_key"


class KeyBlocked(GatewayError):
    status, type, code = 403, "permission_error", "key_blocked"


class KeyExpired(GatewayError):
    status, type, code = 401, "authentication_error", "key_expired"


class AccountClosed(GatewayError):
    """What was spent on an account is not known until somebody has looked at what was set aside."""

    status, type, code = 403, "permission_error", "account_closed"


class EndUserBlocked(GatewayError):
    status, type, code = 403, "permission_error", "end_user_blocked"


class ModelForbidden(GatewayError):
    status, type, code = 403, "permission_error", "model_not_allowed"


class InvalidRequest(GatewayError):
    pass


class UnsupportedParameter(GatewayError):
    code = "unsupported_parameter"


class BodyTooLarge(GatewayError):
    status, code = 413, "payload_too_large"


class BodyTooSlow(GatewayError):
    status, code = 408, "request_timeout"


class HeadTooLarge(GatewayError):
    status, code = 431, "headers_too_large"


class HeadTooSlow(GatewayError):
    status, code = 408, "request_timeout"


class InvalidHttp(GatewayError):
    """What has come could be read in two ways, or is no HTTP at all."""

    code = "invalid_http"


class BodyEncoded(GatewayError):
    status, code = 415, "unsupported_content_encoding"


class ModelNotFound(GatewayError):
    status, code = 404, "model_not_found"


class UnknownRoute(GatewayError):
    status, code = 404, "unknown_route"


class RouteNotServed(GatewayError):
    """No deployment of the model is at a provider that serves this route."""

    code = "route_not_served"


class NoDeploymentForTags(GatewayError):
    """All deployments of the model carry tags, and none of them those of the request."""

    code = "no_deployment_for_tags"


class RequestNotFound(GatewayError):
    status, code = 404, "request_not_found"


class FileUnknown(GatewayError):
    status, code = 404, "file_not_found"


class FileInUse(GatewayError):
    """The output of a batch that is not settled yet: what it cost is read out of it."""

    status, code, should_retry = 409, "file_in_use", True


class TooManyFiles(GatewayError):
    code = "too_many_files"


class BatchUnknown(GatewayError):
    status, code = 404, "batch_not_found"


class ModelUnpriced(GatewayError):
    code = "unpriced_model"

    def __init__(self, message: str, *, param: str, provider: str, upstream_model: str) -> None:
        super().__init__(message, param=param)
        self.provider = provider
        self.upstream_model = upstream_model


class UnboundedRequest(GatewayError):
    code = "unbounded_cost"


class NoExchangeRate(GatewayError):
    code = "no_exchange_rate"


class LimitRefused(GatewayError):
    """A limit on the path: whose it is, what it has, and what helps."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        budget: Mapping[str, Any],
        retry_after_seconds: int | None,
    ) -> None:
        super().__init__(message)
        self.reason = code
        self.budget = dict(budget)
        self._status = status
        self._retry_after_seconds = retry_after_seconds
        self.full_deployment: str | None = None
        """The deployment that has no room, where another may have some."""

    @property
    def http_status(self) -> int:
        return self._status

    def details(self) -> dict[str, Any]:
        is_final = self._retry_after_seconds is None
        return {
            "type": "insufficient_quota" if is_final else "rate_limit_exceeded",
            "code": self.reason,
            "budget": self.budget,
        }

    def headers(self) -> dict[str, str]:
        if self._retry_after_seconds is None:
            return {"x-should-retry": "false"}
        return {"x-should-retry": "true", "retry-after": str(self._retry_after_seconds)}


class Unavailable(GatewayError):
    """Why we cannot tell whether the request may spend; ``code`` is the reason."""

    status, type, should_retry = 503, "service_unavailable", True

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self._code = code

    def details(self) -> dict[str, Any]:
        return {"code": self._code}

    def headers(self) -> dict[str, str]:
        return {"x-should-retry": "true", "retry-after": "2"}


class CacheUnavailable(GatewayError):
    """The response cache is off, or its server does not answer; no request is refused for that."""

    status, type, code, should_retry = 503, "service_unavailable", "cache_unavailable", True


class UpstreamFailed(GatewayError):
    status, type, code, should_retry = 502, "upstream_error", "upstream_failed", True


class UpstreamTimeout(GatewayError):
    status, type, code = 504, "upstream_error", "upstream_timeout"


class InternalError(GatewayError):
    status, type, code = 500, "internal_error", "internal_error"
