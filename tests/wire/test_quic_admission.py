import pytest
from aioquic.quic.packet import QuicHeader, QuicPacketType, QuicProtocolVersion

from palyra_trio.wire.limits import QuicLimits
from palyra_trio.wire.quic_admission import Admission, Gatekeeper, ServerKeys, Verdict
from palyra_trio.wire.udp_port import Address

SECRET = bytes(range(32))
HERE: Address = ("192.0.2.1", 4000, 0)
CONNECTIONS = 10
WALL_S = 1_800_000_000.0


def first(token: bytes = b"", to: bytes = b"original") -> QuicHeader:
    return QuicHeader(
        version=QuicProtocolVersion.VERSION_1,
        packet_type=QuicPacketType.INITIAL,
        packet_length=1200,
        destination_cid=to,
        source_cid=b"client_1",
        token=token,
        integrity_tag=b"",
        supported_versions=[],
    )


def keeper(quic: QuicLimits | None = None, secret: bytes = SECRET) -> Gatekeeper[int]:
    return Gatekeeper(ServerKeys(secret), quic or QuicLimits(), CONNECTIONS)


def judge(
    gatekeeper: Gatekeeper[int],
    header: QuicHeader | None = None,
    address: Address = HERE,
    *,
    now: float = 0.0,
    wall_s: float = WALL_S,
) -> Admission:
    return gatekeeper.admit(header or first(), address, now=now, wall_s=wall_s)


def shown(gatekeeper: Gatekeeper[int], address: Address = HERE) -> QuicHeader:
    """Return the first datagram of a client that was told to retry."""
    retried_id, token = gatekeeper.retry_token(first(), address, WALL_S)
    return first(token, retried_id)


def come(gatekeeper: Gatekeeper[int], connection: int, address: Address, header: QuicHeader | None = None) -> None:
    """Begin a handshake."""
    admission = judge(gatekeeper, header, address)
    assert admission.verdict is Verdict.ACCEPT
    gatekeeper.add(connection, admission, address)


def host(number: int) -> Address:
    return (f"198.51.{number // 250}.{number % 250}", 4000, 0)


def test_who_asks_first_is_let_in() -> None:
    assert judge(keeper()) == Admission(Verdict.ACCEPT, b"original", None)


@pytest.mark.parametrize("quic", [QuicLimits(always_retry=True), QuicLimits(retry_above=5)])
def test_by_option_and_under_load_an_address_has_to_be_shown(quic: QuicLimits) -> None:
    gatekeeper = keeper(quic)
    if not quic.always_retry:
        for number in range(5):
            come(gatekeeper, number, host(number))
    assert judge(gatekeeper).verdict is Verdict.RETRY


def test_a_token_lets_in_where_it_was_given_also_by_the_next_process() -> None:
    before = keeper(QuicLimits(always_retry=True))
    retried_id, token = before.retry_token(first(), HERE, WALL_S)
    after = keeper(QuicLimits(always_retry=True))
    assert judge(after, first(token, retried_id)) == Admission(Verdict.ACCEPT, b"original", retried_id)


def test_a_token_is_of_no_use_elsewhere_later_or_changed() -> None:
    gatekeeper = keeper(QuicLimits(always_retry=True))
    retried_id, token = gatekeeper.retry_token(first(), HERE, WALL_S)
    good = first(token, retried_id)
    changed = first(token[:-1] + bytes([token[-1] ^ 1]), retried_id)
    judged = [
        judge(gatekeeper, good, ("192.0.2.2", 4000, 0)),
        judge(gatekeeper, good, ("192.0.2.1", 4001, 0)),
        judge(gatekeeper, good, wall_s=WALL_S + 31),
        judge(gatekeeper, first(token, b"else_123")),
        judge(gatekeeper, changed),
        judge(keeper(secret=bytes(32)), good),
    ]
    assert [each.verdict for each in judged] == [Verdict.INVALID_TOKEN] * 6


def test_a_token_of_another_server_is_no_token() -> None:
    assert judge(keeper(), first(b"somebody else's")).verdict is Verdict.ACCEPT
    assert judge(keeper(QuicLimits(always_retry=True)), first(b"somebody else's")).verdict is Verdict.RETRY


def test_an_address_that_comes_often_has_to_be_shown_and_then_to_wait() -> None:
    gatekeeper = keeper(QuicLimits(address_handshakes=3, address_handshakes_per_s=1))
    for connection in range(3):
        come(gatekeeper, connection, HERE)
        gatekeeper.established(connection, 0.0)
        gatekeeper.table.remove(connection)
    assert judge(gatekeeper).verdict is Verdict.RETRY
    assert judge(gatekeeper, shown(gatekeeper)).verdict is Verdict.DROP
    assert judge(gatekeeper, shown(gatekeeper), now=1.0).verdict is Verdict.ACCEPT
    assert judge(gatekeeper, address=host(1)).verdict is Verdict.ACCEPT


def test_what_others_begin_in_its_name_is_not_counted_for_an_address() -> None:
    gatekeeper = keeper(QuicLimits(address_handshakes=1, address_handshakes_per_s=0, retry_above=5))
    for connection in range(5):
        come(gatekeeper, connection, HERE)
        gatekeeper.table.remove(connection)
    assert judge(gatekeeper).verdict is Verdict.ACCEPT
    assert judge(gatekeeper, shown(gatekeeper)).verdict is Verdict.ACCEPT


def test_lies_make_nobody_forgotten_whom_a_limit_holds() -> None:
    gatekeeper = keeper(QuicLimits(addresses=8, address_handshakes=1, address_handshakes_per_s=0))
    assert judge(gatekeeper, shown(gatekeeper)).verdict is Verdict.ACCEPT
    for number in range(1000):
        come(gatekeeper, number, host(number))
        gatekeeper.table.remove(number)
    assert judge(gatekeeper, shown(gatekeeper)).verdict is Verdict.DROP


def test_a_network_of_ipv6_is_one_address_and_loopback_may_come_as_often_as_it_likes() -> None:
    gatekeeper = keeper(QuicLimits(address_handshakes=1, address_handshakes_per_s=0))
    judged = [
        judge(gatekeeper, shown(gatekeeper, address), address).verdict
        for address in (("2001:db8::1", 1, 0, 0, 1), ("2001:db8::2", 1, 0, 0, 1), ("2001:db8:0:1::2", 1, 0, 0, 1))
    ]
    assert judged == [Verdict.ACCEPT, Verdict.DROP, Verdict.ACCEPT]
    for address in (("127.0.0.1", 1, 0), ("::1", 1, 0, 0, 1)):
        again = [judge(gatekeeper, shown(gatekeeper, address), address).verdict for _ in range(3)]
        assert again == [Verdict.ACCEPT] * 3


def test_a_million_addresses_are_not_kept() -> None:
    gatekeeper = keeper(QuicLimits(addresses=8))
    for number in range(1000):
        judge(gatekeeper, shown(gatekeeper, host(number)), host(number))
    assert len(gatekeeper._buckets) == 8


def test_beyond_the_connections_somebody_is_refused() -> None:
    gatekeeper = keeper()
    for number in range(CONNECTIONS):
        come(gatekeeper, number, host(number))
        gatekeeper.established(number, 0.0)
    assert judge(gatekeeper).verdict is Verdict.FULL
    assert judge(gatekeeper, shown(gatekeeper)).verdict is Verdict.FULL
    gatekeeper.table.remove(0)
    assert judge(gatekeeper).verdict is Verdict.ACCEPT


def test_an_address_has_a_share_of_the_connections_and_leaves_the_others_room() -> None:
    gatekeeper = keeper(QuicLimits(address_share=5))
    for connection in range(CONNECTIONS // 5):
        come(gatekeeper, connection, HERE)
        gatekeeper.established(connection, 0.0)
    assert judge(gatekeeper).verdict is Verdict.FULL
    assert judge(gatekeeper, shown(gatekeeper)).verdict is Verdict.FULL
    assert judge(gatekeeper, address=host(1)).verdict is Verdict.ACCEPT


def test_handshakes_of_who_may_be_lying_keep_nobody_out_who_is_not() -> None:
    quic = QuicLimits(retry_above=5, handshakes=8)
    gatekeeper = keeper(quic)
    for number in range(quic.retry_above):
        come(gatekeeper, number, host(number))
    assert judge(gatekeeper).verdict is Verdict.RETRY
    for number in range(quic.retry_above, quic.retry_above + quic.handshakes):
        come(gatekeeper, number, host(number), shown(gatekeeper, host(number)))


def test_handshakes_of_who_has_shown_where_it_is_make_nobody_else_show_it() -> None:
    gatekeeper = keeper(QuicLimits(retry_above=5))
    for number in range(8):
        come(gatekeeper, number, host(number), shown(gatekeeper, host(number)))
    assert judge(gatekeeper).verdict is Verdict.ACCEPT


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        ServerKeys(b"short")


def test_reset_tokens_are_of_the_id_and_of_the_secret() -> None:
    tokens = {
        ServerKeys(secret).reset_token(each) for secret in (SECRET, bytes(32)) for each in (b"12345678", b"87654321")
    }
    assert len(tokens) == 4
    assert ServerKeys(SECRET).reset_token(b"12345678") in tokens
