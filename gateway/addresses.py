"""
Which addresses an upstream may have. Checked at connect time on the address that is used, so that
neither DNS rebinding nor an odd spelling gets around it.

``ipaddress``'s own flags are not enough: NAT64, 6to4 and IPv4-compatible addresses of private
hosts count as global there, and so does multicast.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "::/128", "::1/128", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16",
        "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
_NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")
PORT_MAX: Final = 65_535


class AddressRefused(OSError):
    """The upstream's address is private and not allowed by GATEWAY_ALLOW_PRIVATE_UPSTREAMS."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """A private network that upstreams may be in, at one port or any."""

    network: Network
    port: int | None

    @classmethod
    def of(cls, text: str) -> "Allowed":
        """
        Read ``CIDR`` or ``CIDR:port``; an IPv6 network with a port stands in brackets.

        :raises ValueError: if it is neither
        """
        bracketed = text.startswith("[")
        network, found, port = text.removeprefix("[").partition("]:" if bracketed else ":")
        if not bracketed and ":" in port:
            network, found, port = text, "", ""
        number = int(port) if found else None
        if number is not None and not 0 < number <= PORT_MAX:
            raise ValueError(f"{text!r} has no such port")
        return cls(ipaddress.ip_network(network.removesuffix("]")), number)

    def admits(self, address: Address, port: int) -> bool:
        return address in self.network and self.port in {None, port}


def check(host: str, port: int, *, allowed: Sequence[Allowed]) -> None:
    """
    Return if an upstream may be at this address.

    :raises AddressRefused: if not
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    inner = _unwrapped(address)
    if any(each.admits(inner, port) or each.admits(address, port) for each in allowed):
        return
    if any(inner in network for network in _REFUSED if network.version == inner.version):
        raise AddressRefused(f"{address} is not a public address")


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address carries, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    number = int(address)
    if address in _SIX_TO_FOUR:
        return ipaddress.IPv4Address((number >> 80) & 0xFFFFFFFF)
    carries = any(address in network for network in _NAT64) or address in _COMPATIBLE
    is_own = number in {0, 1}
    return ipaddress.IPv4Address(number & 0xFFFFFFFF) if carries and not is_own else address
