import hashlib
import socket
import ssl
import stat
from contextlib import closing
from pathlib import Path

import attrs
import click
import pytest
import trio
import trustme

from palyra_trio.cli import profiles
from palyra_trio.cli.profiles import FILE_NAME, Profile, chosen, load, parse_url, save, save_authority
from palyra_trio.cli.ways import Transport
from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NotFound

PROFILE = Profile("daemon.example", 7443, tls=True, token="hush")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("grpcs://daemon.example:7443", "daemon.example", 7443, True),
        ("grpcs://[2001:db8::1]:1/", "2001:db8::1", 1, True),
        ("grpc://127.0.0.1:7443", "127.0.0.1", 7443, False),
        ("grpc://localhost:7443", "localhost", 7443, False),
        ("grpc://[::1]:7443", "::1", 7443, False),
    ],
)
def test_an_address_is_read_and_written_again(url: str, host: str, port: int, tls: bool) -> None:
    profile = parse_url(url)
    assert profile == Profile(host, port, tls, "")
    assert profile.address == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "daemon.example:7443",
        "https://daemon.example:7443",
        "grpcs://daemon.example",
        "grpcs://:7443",
        "grpcs://daemon.example:many",
        "grpcs://daemon.example:70000",
        "grpcs://daemon.example:7443/path",
        "grpcs://daemon.example:7443?query",
        "grpcs://me:secret@daemon.example:7443",
        "grpcs://.example:7443",
        "grpcs://daemon..example:7443",
        f"grpcs://{'a' * 64}:7443",
        "grpcs://[::1:7443",
    ],
)
def test_what_is_no_address_of_a_daemon_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_url(url)
    assert refused.value.remedy == "write grpcs://HOST:PORT"


def test_a_token_does_not_travel_in_the_clear() -> None:
    with pytest.raises(InvalidArgument, match="in the clear"):
        parse_url("grpc://daemon.example:7443")


def test_what_was_saved_is_loaded_and_the_file_is_this_users_alone(environ: dict[str, str]) -> None:
    path = save(environ, "there", PROFILE)
    assert path.name == FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    save(environ, "other", Profile("127.0.0.1", 1, tls=False, token="t"))
    assert load(environ, "there") == PROFILE
    save(environ, "there", Profile("127.0.0.1", 2, tls=False, token="t"))
    assert load(environ, "there").port == 2
    assert load(environ, "other").port == 1
    assert [each.name for each in path.parent.iterdir()] == [FILE_NAME]


def test_a_name_that_was_not_saved_is_refused_with_those_that_were(environ: dict[str, str]) -> None:
    with pytest.raises(NotFound) as refused:
        load(environ, "there")
    assert "none yet" in refused.value.remedy
    save(environ, "here", PROFILE)
    with pytest.raises(NotFound) as refused:
        load(environ, "there")
    assert "there are here" in refused.value.remedy


@pytest.mark.parametrize("text", ["{", "[]", '{"there": {"port": 1}}', '{"there": 7}'])
def test_a_damaged_file_is_named(environ: dict[str, str], text: str) -> None:
    save(environ, "there", PROFILE).write_text(text)
    with pytest.raises(ConfigInvalid, match=FILE_NAME):
        load(environ, "there")


def test_a_token_goes_with_every_call_and_does_not_print() -> None:
    assert PROFILE.metadata["authorization"] == "Bearer hush"
    assert "hush" not in repr(PROFILE)


async def test_who_accepts_a_connection_and_says_nothing_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "DIAL_S", 0.1)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        profile = Profile("127.0.0.1", silent.getsockname()[1], tls=True, token="t")
        with pytest.raises(TimeoutError), trio.fail_after(5):
            await profile.dial()
        with pytest.raises(TimeoutError), trio.fail_after(5):
            await profile.shown()


def test_the_ways_are_those_that_are_asked_for() -> None:
    both = attrs.evolve(PROFILE, quic_port=7444, quic_ca_file="ca.pem")
    quic, tcp = "quic://daemon.example:7444", "grpcs://daemon.example:7443"
    assert [way.address for way in both.ways(Transport.AUTO)] == [quic, tcp]
    assert [way.address for way in both.ways(Transport.QUIC)] == [quic]
    assert [way.address for way in both.ways(Transport.H2)] == [tcp]
    assert [way.address for way in PROFILE.ways(Transport.AUTO)] == [tcp]
    with pytest.raises(InvalidArgument, match="not known to serve HTTP/3"):
        PROFILE.ways(Transport.QUIC)


def test_an_authority_is_kept_under_its_fingerprint_and_nothing_else_is(environ: dict[str, str]) -> None:
    pem = trustme.CA().cert_pem.bytes()
    path = Path(save_authority(environ, pem))
    assert path.read_bytes() == pem
    assert path.stem == hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()
    with pytest.raises(ConfigInvalid, match="no certificate"):
        save_authority(environ, b"noise")


def test_nobody_is_chosen_without_the_option(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    save(environ, "there", PROFILE)
    monkeypatch.setenv("XDG_CONFIG_HOME", environ["XDG_CONFIG_HOME"])
    assert chosen() is None
    root = click.Context(click.Command("palyra-trio"))
    root.params = {"daemon": "there"}
    with root, click.Context(click.Command("runs"), parent=root):
        assert chosen() == PROFILE


def test_what_another_end_says_of_itself_does_not_reach_the_terminal_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with click.Context(click.Command("palyra-trio")) as context:
        context.params["verbose"] = True
        profiles.note("quic://h:1 cannot be used: \x1b]0;owned\x07")
    assert capsys.readouterr().err == "quic://h:1 cannot be used: \\u001b]0;owned\\u0007\n"
