import pytest

from gateway.addresses import AddressRefused, Allowed, check

pytestmark = pytest.mark.no_servers

PRIVATE = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "100.64.0.1", "169.254.169.254", "192.0.0.192", "192.0.2.1", "198.18.0.1",
    "198.51.100.7", "203.0.113.9", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001::1", "2001:db8::1", "100::1",
    "64:ff9b:1::7f00:1", "5f00::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "104.18.7.192", "2606:4700::6812:7c0", "64:ff9b::808:808"]


@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_address_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises(AddressRefused):
        check(host, 443, allowed=[])


@pytest.mark.parametrize("host", PUBLIC)
def test_a_public_address_is_let_through(host: str) -> None:
    check(host, 443, allowed=[])


def test_an_allowed_network_is_open_at_its_port_only() -> None:
    allowed = [Allowed.of("127.0.0.1/32:8010")]

    check("127.0.0.1", 8010, allowed=allowed)
    check("::ffff:127.0.0.1", 8010, allowed=allowed)
    for host, port in (("127.0.0.1", 8011), ("127.0.0.2", 8010)):
        with pytest.raises(AddressRefused):
            check(host, port, allowed=allowed)


@pytest.mark.parametrize(
    ("text", "network", "port"),
    [
        ("10.1.0.0/16", "10.1.0.0/16", None),
        ("10.1.0.0/16:443", "10.1.0.0/16", 443),
        ("fd00::/8", "fd00::/8", None),
        ("[fd00::/8]:443", "fd00::/8", 443),
    ],
)
def test_allowed_networks_are_read_with_and_without_a_port(
    text: str, network: str, port: int | None
) -> None:
    allowed = Allowed.of(text)

    assert (str(allowed.network), allowed.port) == (network, port)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "nonsense", "10.0.0.0/8:0", "10.0.0.0/8:x", ""])
def test_what_is_no_network_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Allowed.of(text)
