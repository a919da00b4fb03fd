import pytest

from palyra_trio.wire.networks import is_loopback, network_of


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("127.0.0.1", "127.9.9.9", True),
        ("127.0.0.1", "::1", True),
        ("::1", "::2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_what_counts_as_one(one: str, other: str, same: bool) -> None:
    assert (network_of((one, 1)) == network_of((other, 2))) is same


def test_loopback_is_known() -> None:
    assert is_loopback(network_of(("127.0.0.1", 1)))
    assert not is_loopback(network_of(("192.0.2.1", 1)))
