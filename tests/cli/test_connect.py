"""Getting to know a daemon elsewhere, and every command's way to it: with a certificate that is pinned, or not trusted."""

import json
import re
import socket
import stat
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trustme

from palyra_trio import __version__
from palyra_trio.cli.open import principal
from palyra_trio.wire.authority import fingerprint_of_pem, spelled
from tests.processes import Shell


@contextmanager
def elsewhere(shell: Shell) -> Generator[str]:
    """A daemon with TLS that no authority of this machine vouches for, by another name. Yields its address."""
    issued = trustme.CA().issue_cert("daemon.example")
    issued.private_key_pem.write_to_path(shell.root / "key.pem")
    issued.cert_chain_pems[0].write_to_path(shell.root / "chain.pem")
    config = daemons(shell).with_name("config.toml")
    config.parent.mkdir(parents=True)
    config.write_text(f'[workspaces]\nroots = {{ "{principal()}" = ["{shell.folder}"] }}\n')
    environ = {
        "PALYRA_STATE_DIR": str(shell.root / "far"),
        "PALYRA_GRPC__TLS_CERTIFICATE_FILE": str(shell.root / "chain.pem"),
        "PALYRA_GRPC__TLS_KEY_FILE": str(shell.root / "key.pem"),
    }
    with shell.process("serve", "--port", "0", environ=environ) as daemon:
        assert daemon.stdout is not None
        ready = daemon.stdout.readline()
        assert ready.startswith("ready "), daemon.communicate()[1]
        yield f"grpcs://127.0.0.1:{ready.rpartition(':')[2].strip()}"


@contextmanager
def beyond(shell: Shell, *options: str, **environ: str) -> Generator[list[str]]:
    """A daemon that shows its own certificate, over TCP and UDP. Yields its addresses."""
    own = {"PALYRA_STATE_DIR": str(shell.root / "far"), "PALYRA_QUIC__ENABLED": "true", "PALYRA_GRPC__TLS": "true"}
    options = options or ("--port", "0", "--quic-port", "0")
    with shell.process("serve", *options, environ=own | environ) as daemon:
        assert daemon.stdout is not None
        ready, *addresses = daemon.stdout.readline().split()
        assert ready == "ready", daemon.communicate()[1]
        yield addresses


def daemons(shell: Shell) -> Path:
    return shell.home / ".config" / "palyra-trio" / "daemons.json"


def token_file(shell: Shell) -> Path:
    return shell.root / "far" / "token"


def test_a_daemon_is_pinned_saved_and_used_by_name(shell: Shell) -> None:
    with elsewhere(shell) as url:
        done = shell.run("connect", url, "--name", "far", "--token-file", str(token_file(shell)), "--yes")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert re.search("SHA-256 ([0-9A-F]{2}:){31}[0-9A-F]{2}", done.stderr)
        assert f"connected to {url} (version {__version__}); saved as far in " in done.stderr
        assert stat.S_IMODE(daemons(shell).stat().st_mode) == 0o600
        status = shell.run("--daemon", "far", "status")
        assert (status.returncode, status.stdout.splitlines()[0]) == (0, f"ready: {url}, version {__version__}")
        run = shell.run("--daemon", "far", "run", "what time is it", "--json")
        assert run.returncode == 0, run.stderr
        run_id = json.loads(run.stdout)["run_id"]
        listed = json.loads(shell.run("--daemon", "far", "runs", "list", "--json").stdout)["runs"]
        assert [(each["run_id"], each["state"]) for each in listed] == [(run_id, "done")]
        near = {"PALYRA_STATE_DIR": str(shell.root / "far")}
        for command in (["tape", run_id, "--jsonl"], ["tape", run_id, "--follow"], ["runs", "show", run_id, "--json"]):
            there, here = shell.run("--daemon", "far", *command), shell.run(*command, environ=near)
            assert (there.returncode, there.stdout) == (here.returncode, here.stdout), command
    assert shell.run("--daemon", "far", "status").returncode == 69
    assert not shell.state_dir.exists()


def test_the_daemons_own_authority_is_pinned_and_http_3_is_used_where_it_answers(shell: Shell) -> None:
    with beyond(shell) as (_, tcp, quic, *_):
        done = shell.run("connect", tcp, "--name", "far", "--token-file", str(token_file(shell)), "--yes")
        assert done.returncode == 0, done.stderr
        ca = shell.root / "far" / "tls" / "ca.pem"
        assert f"SHA-256 {spelled(fingerprint_of_pem(ca.read_bytes()))}" in done.stderr
        assert f"HTTP/3 on UDP port {quic.rpartition(':')[2]}" in done.stderr
        for transport, way in (("auto", quic), ("quic", quic), ("h2", tcp)):
            told = shell.run("--daemon", "far", "--transport", transport, "-v", "status")
            assert (told.returncode, told.stderr) == (0, f"connected over {way}\n")
        assert shell.run("--daemon", "far", "status").stderr == ""
        ports = {name: each.rpartition(":")[2] for name, each in (("--port", tcp), ("--quic-port", quic))}

    (shell.root / "far" / "tls" / "leaf.pem").unlink()  # as if it had been renewed
    with beyond(shell, *(word for option in ports.items() for word in option)):
        assert shell.run("--daemon", "far", "--transport", "quic", "status").returncode == 0
        assert shell.run("--daemon", "far", "--transport", "h2", "status").returncode == 0

    without = {"PALYRA_QUIC__ENABLED": "false"}
    with beyond(shell, "--port", ports["--port"], **without):
        told = shell.run("--daemon", "far", "-v", "status")
        assert told.returncode == 0
        assert told.stderr.splitlines()[0].startswith(f"{quic} cannot be used: ")
        assert told.stderr.splitlines()[-1] == f"connected over {tcp}"
        assert shell.run("--daemon", "far", "--transport", "quic", "status").returncode == 69


def test_an_authority_that_was_named_is_trusted_and_no_other(shell: Shell) -> None:
    trustme.CA().cert_pem.write_to_path(shell.root / "other.pem")
    with beyond(shell) as (_, tcp, *_):
        connect = ("connect", tcp, "--name", "far", "--token-file", str(token_file(shell)), "--ca")
        refused = shell.run(*connect, str(shell.root / "other.pem"))
        assert refused.returncode == 1
        assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
        assert not daemons(shell).exists()
        done = shell.run(*connect, str(shell.root / "far" / "tls" / "ca.pem"))
        assert (done.returncode, "SHA-256" in done.stderr) == (0, False), done.stderr
        (shell.root / "far" / "tls" / "ca.pem").rename(shell.root / "moved.pem")  # a copy is kept
        assert shell.run("--daemon", "far", "status").returncode == 0


def test_http_3_of_a_daemon_that_is_not_known_to_serve_it_is_refused(shell: Shell) -> None:
    with beyond(shell, "--port", "0", PALYRA_QUIC__ENABLED="false") as (_, tcp):
        assert (
            shell.run("connect", tcp, "--name", "far", "--token-file", str(token_file(shell)), "--yes").returncode == 0
        )
        done = shell.run("--daemon", "far", "--transport", "quic", "status")
    assert done.returncode == 2
    assert "is not known to serve HTTP/3" in done.stderr
    assert "connect to it again" in done.stderr


def test_a_daemon_that_asks_for_a_client_certificate_is_shown_the_one_that_was_named(shell: Shell) -> None:
    clients = trustme.CA()
    clients.cert_pem.write_to_path(shell.root / "clients.pem")
    clients.issue_cert("me@clients.example").private_key_and_cert_chain_pem.write_to_path(shell.root / "me.pem")
    with beyond(shell, PALYRA_QUIC__CLIENT_CA_FILE=str(shell.root / "clients.pem")) as (_, tcp, quic, *_):
        connect = ("connect", tcp, "--name", "far", "--token-file", str(token_file(shell)), "--yes")
        assert shell.run(*connect).returncode == 0
        told = shell.run("--daemon", "far", "-v", "status")
        assert told.stderr.splitlines()[-1] == f"connected over {tcp}"
        assert "asks for a client certificate" in told.stderr
        assert shell.run(*connect, "--client", str(shell.root / "me.pem")).returncode == 0
        told = shell.run("--daemon", "far", "-v", "status")
        assert (told.returncode, told.stderr) == (0, f"connected over {quic}\n")


def test_a_certificate_is_not_pinned_without_a_yes(shell: Shell) -> None:
    with elsewhere(shell) as url:
        done = shell.run("connect", url, "--token-file", str(token_file(shell)))
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert not daemons(shell).exists()


def test_a_token_that_does_not_open_is_not_saved(shell: Shell) -> None:
    with elsewhere(shell) as url:
        done = shell.run("connect", url, "--token-file", "-", "--yes", stdin=b"wrong\n")
    assert done.returncode == 77
    assert not daemons(shell).exists()


def test_where_nobody_answers_nothing_is_saved(shell: Shell) -> None:
    done = shell.run("connect", "grpcs://localhost:1", "--token-file", "-", stdin=b"t\n")
    assert done.returncode == 69
    assert "grpcs://localhost:1 does not answer" in done.stderr
    assert not daemons(shell).exists()


def test_a_daemon_that_shows_another_certificate_than_the_pinned_one_is_not_talked_to(shell: Shell) -> None:
    with elsewhere(shell) as url:
        connect = ("connect", url, "--name", "far", "--token-file", str(token_file(shell)), "--yes")
        assert shell.run(*connect).returncode == 0
        saved = json.loads(daemons(shell).read_text())
        saved["far"]["fingerprint"] = "0" * 64
        daemons(shell).write_text(json.dumps(saved))
        done = shell.run("--daemon", "far", "runs", "list")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{'0' * 64} is pinned" in done.stderr
    assert "connect again" in done.stderr


def test_who_accepts_the_connection_and_says_nothing_does_not_answer(shell: Shell) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"grpcs://127.0.0.1:{silent.getsockname()[1]}"
        done = shell.run("connect", url, "--token-file", "-", "--yes", stdin=b"t\n")
    assert done.returncode == 69
    assert f"{url} does not answer" in done.stderr


@pytest.mark.parametrize("command", ["status", "runs list", "tape last"])
def test_a_daemon_that_nobody_connected_to_is_refused(shell: Shell, command: str) -> None:
    done = shell.run("--daemon", "far", *command.split())
    assert done.returncode == 1
    assert "`palyra-trio connect URL --name far` makes it" in done.stderr
