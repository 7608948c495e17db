"""
What the head of a request must be, beyond what the parser asks for.

A proxy that reads a head otherwise than we do can be made to pass a second request as the body of
the first. So whatever has two meanings is refused.
"""

import re
from collections.abc import Iterable
from typing import Final

from gateway.errors import BodyEncoded, InvalidHttp

BYTES_MAX: Final = 64 * 1_024
HEADERS_MAX: Final = 100
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_WATCHED: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-encoding"})
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#@]+)/[^#]*", re.IGNORECASE)


def check(
    *, method: bytes, version: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> int:
    """
    Return how long the body is said to be, 0 if that is not said.

    :raises InvalidHttp: if somebody else might take the request for another
    :raises BodyEncoded: if the body is compressed
    """
    hosts, announced = [], 0
    for name, value in headers:
        if name not in _WATCHED:
            continue
        if name == b"host":
            hosts.append(value.strip().lower())
        elif name == b"content-length":
            announced = int(value)
        else:
            _check_coding(name, value, version)
    if version not in _VERSIONS or method == b"CONNECT":
        raise InvalidHttp("Send HTTP/1.1, and do not ask for a tunnel.")
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        raise InvalidHttp("Send the header 'Host', once.")
    _check_target(target, hosts)
    return announced


def _check_coding(name: bytes, value: bytes, version: str) -> None:
    coding = value.strip().lower()
    if name == b"content-encoding":
        if coding != b"identity":
            raise BodyEncoded("Send the body as it is, without 'Content-Encoding'.")
    elif coding != b"chunked" or version == "1.0":
        raise InvalidHttp("Of transfer codings only 'chunked' is known, and not in HTTP/1.0.")


def _check_target(target: bytes, hosts: list[bytes]) -> None:
    if target.startswith(b"/") and b"#" not in target:
        return
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or hosts != [absolute[1].lower()]:
        raise InvalidHttp("Ask for a path, or for an address of the host that 'Host' names.")
