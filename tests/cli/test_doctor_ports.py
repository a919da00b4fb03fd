"""What is looked at where a daemon listens. A daemon that runs is looked at in test_doctor."""

import os
import socket
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs

from palyra_trio.cli.doctor_ports import addresses, ports
from palyra_trio.core.config import Config, GrpcConfig, HttpConfig, QuicConfig
from palyra_trio.journal.store import lock_state_dir

NOTHING = Config(grpc=GrpcConfig(port=0), quic=QuicConfig(enabled=False), http=HttpConfig(enabled=False))


@contextmanager
def taken(kind: socket.SocketKind) -> Generator[int]:
    """Yield the number of a port of loopback that somebody has."""
    with closing(socket.socket(socket.AF_INET, kind)) as bound:
        bound.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            bound.listen()
        yield bound.getsockname()[1]


def test_a_port_that_somebody_has_is_named_with_its_key_and_how_to_find_them() -> None:
    with taken(socket.SOCK_STREAM) as tcp, taken(socket.SOCK_DGRAM) as udp:
        config = Config(grpc=GrpcConfig(port=tcp), quic=QuicConfig(port=udp), http=HttpConfig(port=0))
        found = ports(config, False, None)
    assert found.health == "fault"
    assert f"TCP port {tcp} (grpc.port) is taken by another process" in found.said
    assert f"UDP port {udp} (quic.port) is taken by another process" in found.said
    assert f"`ss -ltnp sport = :{tcp}` names it; end it, or choose another grpc.port" in found.remedy
    assert f"`ss -lunp sport = :{udp}`" in found.remedy


def test_two_sections_with_one_port_are_in_each_others_way() -> None:
    with taken(socket.SOCK_STREAM) as number:
        pass
    config = attrs.evolve(NOTHING, grpc=GrpcConfig(port=number), http=HttpConfig(port=number))
    assert "(http.port) is taken" in ports(config, False, None).said


def test_an_address_that_is_not_of_this_machine_is_told_with_where_to_look() -> None:
    found = ports(attrs.evolve(NOTHING, grpc=GrpcConfig("192.0.2.1", 7443)), False, None)
    assert (found.health, found.remedy) == ("fault", "look at grpc.host and grpc.port")


def test_what_the_daemon_serves_is_not_in_its_way_and_what_it_does_not_say_is_not_judged() -> None:
    with taken(socket.SOCK_STREAM) as number:
        config = attrs.evolve(NOTHING, grpc=GrpcConfig(port=number))
        assert ports(config, True, (f"grpc://127.0.0.1:{number}",)).health == "ok"
        assert ports(config, True, (f"http://127.0.0.1:{number}",)).health == "fault"
        assert ports(config, True, None).health == "warning"


def test_nobody_is_asked_where_nobody_holds_the_folder_or_listens(tmp_path: Path) -> None:
    assert addresses(tmp_path) is None
    descriptor = lock_state_dir(tmp_path)
    assert addresses(tmp_path) is None
    os.close(descriptor)
