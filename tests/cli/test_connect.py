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
