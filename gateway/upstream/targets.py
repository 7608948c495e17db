"""Where a request goes, and its head as it is written: what either client accepts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from gateway.upstream.errors import UpstreamNotReached

Origin = tuple[str, str, int]
"""Scheme, host and port: what a connection may be used for again."""

URL_CHARACTERS_MAX: Final = 8_192
_PORTS: Final = {"http": 80, "https": 443}
_IN_PATH: Final = "/:@!$&'()*+,;=-._~%?"
_IN_NAMES: Final = re.compile(r"[^!#$%&'*+.^_`|~0-9a-z-]")
_NOT_IN_VALUES: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_OURS: Final = frozenset(
    {
        "host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer",
        "upgrade", "expect", "proxy-connection",
    }
)  # fmt: skip
"""How a request is framed is the client's business: another's word on it would smuggle."""


@dataclass(frozen=True, slots=True)
class Target:
    origin: Origin
    host_header: str
    path: str
    """With the query, percent-encoded."""

    @property
    def host(self) -> str:
        return self.origin[1]

    @property
    def port(self) -> int:
        return self.origin[2]

    @property
    def is_tls(self) -> bool:
        return self.origin[0] == "https"


@lru_cache(maxsize=1_024)
def of(url: str) -> Target:
    """
    Read an address.

    :raises UpstreamNotReached: if nothing can be asked there
    """
    if len(url) > URL_CHARACTERS_MAX:
        raise UpstreamNotReached("the address is too long")
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, _host(parts)
        port = _PORTS[scheme] if parts.port is None else parts.port
    except (KeyError, ValueError) as error:
        raise UpstreamNotReached("the address is not one of http or https") from error
    if not host or not port or "@" in parts.netloc:
        raise UpstreamNotReached("the address has no host, no port, or a user")
    shown = f"[{host}]" if ":" in host else host
    if port != _PORTS[scheme]:
        shown = f"{shown}:{port}"
    path = quote(parts.path or "/", safe=_IN_PATH)
    query = f"?{quote(parts.query, safe=_IN_PATH)}" if parts.query else ""
    return Target((scheme, host, port), shown, path + query)


def check(headers: Mapping[str, str]) -> None:
    """
    Return if these may be sent.

    :raises UpstreamNotReached: if one would break out of its line, or frame the request
    """
    if _IN_NAMES.search("".join(headers)) or "" in headers:
        raise UpstreamNotReached("a header has a name that may not be sent")
    if _NOT_IN_VALUES.search("".join(headers.values())):
        raise UpstreamNotReached("a header has a value that may not be sent")
    if not _OURS.isdisjoint(headers):
        raise UpstreamNotReached("a header that frames the request may not be given")


def head_of(
    method: str, target: Target, headers: Mapping[str, str], *, body_bytes: int | None
) -> bytes:
    """
    Return the head of a request; ``identity`` is asked for unless the headers ask for another.

    :raises UpstreamNotReached: as :func:`check`
    """
    check(headers)
    lines = [f"{method} {target.path} HTTP/1.1\r\nhost: {target.host_header}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
    if "accept-encoding" not in headers:
        lines.append("accept-encoding: identity\r\n")
    if body_bytes is not None:
        lines.append(f"content-length: {body_bytes}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode()


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    try:
        return str(ip_address(host))
    except ValueError:
        return host.encode("idna").decode() if host else ""
