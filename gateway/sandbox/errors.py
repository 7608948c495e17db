"""
How a request ends without the reply it asked for.

SandboxError
├── RequestRefused      answered with OpenAI's error body, before any other byte
└── ClientGone          nobody is left to answer
"""

from http import HTTPStatus

RETRY_AFTER = "retry-after"


class SandboxError(Exception):
    pass


class ClientGone(SandboxError):
    pass


class RequestRefused(SandboxError):
    """Carries what OpenAI's error body says; ``retry_after`` becomes the header as it is."""

    def __init__(
        self,
        message: str,
        *,
        status: int = HTTPStatus.BAD_REQUEST,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = int(status)
        self.body = {
            "error": {"message": message, "type": kind, "param": param, "code": code},
        }
        self.headers = {} if retry_after is None else {RETRY_AFTER: retry_after}


def scripted(*, status: int, retry_after: str | None) -> RequestRefused:
    """Return the error that OpenAI would send with ``status``."""
    kind, code = "invalid_request_error", None
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind, code = "requests", "rate_limit_exceeded"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "server_error"
    message = f"The script of this request asked for status {status}."
    return RequestRefused(message, status=status, kind=kind, code=code, retry_after=retry_after)
