"""Fetches a price map from an address: bounded in bytes and time, by HTTP and HTTPS only."""

import http.client
import time
import urllib.error
import urllib.request
from typing import Final

from spend.catalogues.litellm_checks import BYTES_MAX

CHUNK_BYTES: Final = 64 * 2**10
SILENCE_SECONDS_MAX: Final = 10
OK: Final = 200


class FetchFailed(Exception):
    """No list came; ``reason`` is a word for metrics and logs."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def fetch(url: str, *, seconds_max: int, bytes_max: int = BYTES_MAX) -> bytes:
    """
    Return what is at the address.

    :raises FetchFailed: if it is not there, or does not come whole within the bounds
    """
    until = time.monotonic() + seconds_max
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310
    try:
        with _opener().open(request, timeout=min(SILENCE_SECONDS_MAX, seconds_max)) as answer:
            if answer.status != OK:
                raise FetchFailed("status")
            return _read(answer, until, bytes_max)
    except urllib.error.HTTPError as error:
        raise FetchFailed("status") from error
    except TimeoutError as error:
        raise FetchFailed("slow") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchFailed("unreachable") from error


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens HTTP and HTTPS; the usual one would also follow to files and FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _read(answer: http.client.HTTPResponse, until: float, bytes_max: int) -> bytes:
    body = bytearray()
    while chunk := answer.read1(CHUNK_BYTES):
        body += chunk
        if len(body) > bytes_max:
            raise FetchFailed("too_large")
        if time.monotonic() > until:
            raise FetchFailed("slow")
    if answer.length:
        raise FetchFailed("unreachable")
    return bytes(body)
