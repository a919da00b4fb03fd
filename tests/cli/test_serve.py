"""The daemon as who operates it meets it: what it says, what signals do, and what it refuses to begin with."""

import json
import os
import re
import resource
import select
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
import grpc
import pytest
import trio
import trustme

from palyra_trio import __version__
from palyra_trio.cli.open import principal
from palyra_trio.cli.serve import OPEN_FILES
from palyra_trio.pb import gateway_pb2
from palyra_trio.wire.authority import fingerprint_of_pem, spelled
from palyra_trio.wire.h3_client import connect
from palyra_trio.wire.quic_config import Trust
from tests.processes import PATIENCE_S, ROOT, Shell

HANGS = {"deltas": ["thinking"], "hang": True}
WITH_QUIC = {"PALYRA_QUIC__ENABLED": "true"}
HEALTH = "/palyra.gateway.v1.GatewayService/GetHealth"


@attrs.define
class Serving:
    """A `serve` that is ready: its process, its addresses, and its log."""

    process: "subprocess.Popen[str]"
    addresses: list[str]
    _read: bytes = b""

    @property
    def target(self) -> str:
        return self.addresses[1].partition("://")[2]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def logged(self, event: str) -> dict[str, Any]:
        """Read log lines until one says `event`, and return it. A sentence that is no entry is passed over."""
        assert self.process.stderr is not None
        deadline = time.monotonic() + PATIENCE_S
        while True:
            line, newline, rest = self._read.partition(b"\n")
            if newline:
                self._read = rest
                entry: dict[str, Any] = json.loads(line) if line.startswith(b"{") else {}
                if entry.get("event") == event:
                    return entry
                continue
            if not select.select([self.process.stderr], [], [], max(0.0, deadline - time.monotonic()))[0]:
                pytest.fail(f"{event!r} was not logged")
            data = os.read(self.process.stderr.fileno(), 65536)
            if not data:
                pytest.fail(f"the log ended without {event!r}: {self._read!r}")
            self._read += data

    def ends(self) -> int:
        return self.process.wait(PATIENCE_S)


@contextmanager
def serving(shell: Shell, *options: str, environ: Mapping[str, str] | None = None) -> Generator[Serving]:
    with shell.process("serve", *(options or ("--port", "0")), environ=environ) as process:
        assert process.stdout is not None
        ready, *addresses = process.stdout.readline().split() or [""]
        if ready != "ready":
            pytest.fail(process.communicate(timeout=PATIENCE_S)[1])
        yield Serving(process, addresses)


def local_token(shell: Shell) -> tuple[tuple[str, str], ...]:
    (path,) = shell.state_dir.glob("*token*")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return (("authorization", f"Bearer {path.read_text().strip()}"),)


def health(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> Any:
    call = channel.unary_unary(
        HEALTH,
        request_serializer=gateway_pb2.GetHealthRequest.SerializeToString,
        response_deserializer=gateway_pb2.GetHealthResponse.FromString,
    )
    return call(gateway_pb2.GetHealthRequest(), metadata=metadata, timeout=PATIENCE_S)


# --- it serves ---


def test_it_says_when_it_is_ready_and_where_and_ends_with_0_on_sigterm(shell: Shell) -> None:
    with serving(shell) as daemon:
        unix, tcp = daemon.addresses
        assert unix == f"unix:{shell.state_dir / 'socket'}"
        assert tcp.startswith("grpc://127.0.0.1:")
        ready = daemon.logged("ready")
        assert (ready["pid"], ready["addresses"], ready["level"]) == (daemon.process.pid, daemon.addresses, "info")
        with grpc.insecure_channel(daemon.target) as channel:
            assert health(channel, local_token(shell)).version == __version__
            with pytest.raises(grpc.RpcError) as refused:
                health(channel, ())
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with grpc.insecure_channel(unix) as channel:
            assert health(channel, ()).version == __version__
        daemon.signal(signal.SIGTERM)
        assert daemon.logged("draining")["live_runs"] == 0
        assert daemon.ends() == 0
    assert not (shell.state_dir / "socket").exists()
    shell.assert_verifies()


def test_with_a_certificate_it_speaks_tls(shell: Shell) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(shell.root / "key.pem")
    (shell.root / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    environ = {
        "PALYRA_GRPC__TLS_CERTIFICATE_FILE": str(shell.root / "chain.pem"),
        "PALYRA_GRPC__TLS_KEY_FILE": str(shell.root / "key.pem"),
    }
    with serving(shell, "--port", "0", "--host", "0.0.0.0", environ=environ) as daemon:
        assert daemon.addresses[1].startswith("grpcs://0.0.0.0:")
        port = daemon.target.rpartition(":")[2]
        with grpc.secure_channel(
            f"localhost:{port}", grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        ) as channel:
            assert health(channel, local_token(shell)).version == __version__
        daemon.signal(signal.SIGTERM)
        assert daemon.ends() == 0


def test_beyond_loopback_it_speaks_tls_with_a_certificate_of_its_own(shell: Shell) -> None:
    with serving(shell, "--host", "0.0.0.0", "--port", "0") as daemon:
        assert daemon.addresses[1].startswith("grpcs://0.0.0.0:")
        ca = (shell.state_dir / "tls" / "ca.pem").read_bytes()
        assert daemon.logged("ready")["authority_sha256"] == spelled(fingerprint_of_pem(ca))
        port = daemon.target.rpartition(":")[2]
        with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(ca)) as channel:
            assert health(channel, local_token(shell)).version == __version__
            with pytest.raises(grpc.RpcError) as refused:
                health(channel, ())
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        daemon.signal(signal.SIGTERM)
        assert daemon.ends() == 0


CONSOLE = {"PALYRA_HTTP__ENABLED": "true", "PALYRA_HTTP__PORT": "0", "PALYRA_HTTP__HOST": "0.0.0.0"}


def test_the_console_beyond_loopback_shows_a_certificate_of_the_daemons_own_or_is_refused(shell: Shell) -> None:
    done = shell.run("serve", "--port", "0", environ=CONSOLE)
    assert (done.returncode, done.stdout) == (78, "")
    assert "http.host 0.0.0.0 is reachable from elsewhere, and there is no TLS" in done.stderr
    assert "set http.tls, or" in done.stderr
    with serving(shell, "--port", "0", environ={**CONSOLE, "PALYRA_HTTP__TLS": "true"}) as daemon:
        console = daemon.addresses[2]
        assert console.startswith("https://localhost:")
        ca = shell.state_dir / "tls" / "ca.pem"
        fingerprint = spelled(fingerprint_of_pem(ca.read_bytes()))
        assert daemon.logged("ready")["authority_sha256"] == fingerprint
        assert f"authority SHA-256 {fingerprint}" in shell.run("status").stdout
        context = ssl.create_default_context(cafile=ca)
        with urllib.request.urlopen(f"{console}/healthz", timeout=PATIENCE_S, context=context) as answer:
            assert answer.status == 200
        assert shell.run("console", "--print").stdout.startswith(f"{console}/sign-in?link=")
        daemon.signal(signal.SIGTERM)
        assert daemon.ends() == 0


def test_it_serves_http_3_beside_the_others_and_its_own_commands_can_come_in_that_way(shell: Shell) -> None:
    # A token's principal may work nowhere, unless that is configured.
    shell.configure(f'[workspaces]\nroots = {{ "{principal()}" = ["{shell.folder}"] }}\n')
    with serving(shell, "--port", "0", "--quic-port", "0", environ=WITH_QUIC) as daemon:
        quic = daemon.addresses[2]
        assert quic.startswith("quic://127.0.0.1:")
        told = shell.run("--transport", "quic", "-v", "status")
        assert (told.returncode, told.stderr.splitlines()[-1]) == (0, f"connected over {quic}")
        ca = (shell.state_dir / "tls" / "ca.pem").read_bytes()
        assert f"authority SHA-256 {spelled(fingerprint_of_pem(ca))}" in told.stdout
        for address in daemon.addresses:
            assert f"listens at {address}" in told.stdout
        run = shell.run("--transport", "quic", "run", "what time is it", "--json")
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout)["state"] == "done"
        attached = shell.run("--transport", "quic", "run", "--attach", "last", "--jsonl")
        assert [json.loads(line) for line in attached.stdout.splitlines()] == shell.tape()
        ((_, token),) = local_token(shell)
        events = trio.run(fetched, shell, quic, "/api/v1/runs/last/events", [("authorization", token)])
        data = re.findall(r"^data: (.*)$", events.decode(), re.MULTILINE)
        assert data == attached.stdout.splitlines()
        assert trio.run(fetched, shell, quic, "/healthz", []) == b'{"status":"serving"}'
        daemon.signal(signal.SIGTERM)
        assert daemon.ends() == 0


async def fetched(shell: Shell, address: str, path: str, headers: list[tuple[str, str]]) -> bytes:
    """Return the body of a plain resource."""
    port, trust = int(address.rpartition(":")[2]), Trust(shell.state_dir / "tls" / "ca.pem")
    with trio.fail_after(PATIENCE_S):
        async with connect("127.0.0.1", port, trust=trust) as channel, channel.fetch("GET", path, headers) as response:
            return await response.read()


def test_where_no_http_3_is_served_asking_for_it_is_refused(shell: Shell) -> None:
    with serving(shell):
        done = shell.run("--transport", "quic", "run", "what time is it")
    assert done.returncode == 69
    assert "this daemon does not serve HTTP/3" in done.stderr
    done = shell.run("--transport", "quic", "run", "what time is it")
    assert done.returncode == 69  # and no process takes its place


def test_a_socket_that_a_dead_daemon_left_is_in_nobodys_way(shell: Shell) -> None:
    with serving(shell) as daemon:
        daemon.process.kill()
        daemon.ends()
    assert (shell.state_dir / "socket").exists()
    assert shell.run("status").returncode == 69
    with serving(shell) as daemon:
        assert shell.run("status").returncode == 0
        daemon.signal(signal.SIGINT)
        assert daemon.ends() == 0


@pytest.mark.parametrize(
    ("limits", "expected"), [((256, 1000), 1000), ((256, 20_000), OPEN_FILES), ((9000, 9000), 9000)]
)
def test_it_may_open_as_many_files_as_the_system_lets_it_within_reason(limits: tuple[int, int], expected: int) -> None:
    """In a process of its own: a limit that was lowered stays so."""
    program = (
        "import resource, sys; from palyra_trio.cli.serve import allow_open_files\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, {limits})\n"
        "allow_open_files(); print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < limits[1]:
        pytest.skip("the system lets nobody open so many here")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == str((expected, limits[1]))


def test_a_file_that_no_message_can_carry_is_named_with_its_size_and_what_to_do(shell: Shell) -> None:
    (shell.root / "big.bin").write_bytes(bytes(5 << 20))
    with serving(shell):
        done = shell.run("run", "see", "--file", str(shell.root / "big.bin"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "the attachment big.bin has 5242880 bytes" in done.stderr
    assert "at most 4194304" in done.stderr
    assert "put it into a file in the workspace" in done.stderr
    assert shell.runs() == []


# --- it ends ---


def test_a_drain_lets_a_run_end_that_is_about_to(shell: Shell) -> None:
    slow = {"deltas": ["think", "ing", " done"], "delta_pause_s": 0.4}
    with serving(shell) as daemon:
        with shell.process("run", "--model", shell.script(slow), "go", "--jsonl") as run:
            assert run.stdout is not None
            while "ModelDelta" not in run.stdout.readline():
                assert run.poll() is None
            daemon.signal(signal.SIGTERM)
            assert daemon.logged("draining")["live_runs"] == 1
            rest, _ = run.communicate(timeout=PATIENCE_S)
            assert run.returncode == 0
            assert '"RunFinished"' in rest
        assert daemon.ends() == 0
    assert shell.states() == [("go", "done")]


def test_a_drain_leaves_interrupted_what_has_not_ended_by_its_deadline(shell: Shell) -> None:
    with serving(shell, environ={"PALYRA_DAEMON__DRAIN_S": "1"}) as daemon, _thinking(shell):
        daemon.signal(signal.SIGTERM)
        assert daemon.ends() == 0
    assert shell.states() == [("go", "interrupted")]
    shell.assert_verifies()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(shell: Shell, number: signal.Signals) -> None:
    with serving(shell, environ={"PALYRA_DAEMON__DRAIN_S": "100"}) as daemon, _thinking(shell):
        daemon.signal(signal.SIGTERM)
        daemon.logged("draining")
        daemon.signal(number)
        assert daemon.ends() == -number
    assert shell.states() == [("go", "interrupted")]
    shell.assert_verifies()


@contextmanager
def _thinking(shell: Shell) -> Generator[None]:
    """A run of another process that thinks for ever."""
    with shell.process("run", "--model", shell.script(HANGS), "go", "--jsonl") as run:
        assert run.stdout is not None
        while "ModelDelta" not in run.stdout.readline():
            assert run.poll() is None
        yield


# --- it reloads ---


def test_a_reload_tells_what_it_applied_what_needs_a_restart_and_what_it_refused(shell: Shell) -> None:
    path = shell.configure("[limits]\nturns = 7\n")
    with serving(shell) as daemon:
        daemon.logged("ready")
        path.write_text('[limits]\nturns = 1\ntool_calls = 3\n[log]\nlevel = "error"\n[grpc]\nport = 1\n')
        daemon.signal(signal.SIGHUP)
        done = daemon.logged("reloaded")
        assert (done["applied"], done["needs_restart"]) == (["limits.turns", "limits.tool_calls"], ["log.level"])
        looks = {"calls": [{"tool": "clock.now"}]}
        run = shell.run("run", "--model", shell.script(looks, loop=True), "go")
        assert run.returncode == 5  # by the limit that was applied
        assert "limit reached: 1 turns" in run.stderr
        path.write_text("[limits]\nturns = -1\nturnips = 2\n")
        daemon.signal(signal.SIGHUP)
        refused = daemon.logged("reload refused")
        assert refused["level"] == "error"
        assert "limits.turns" in refused["faults"]
        assert "limits.turnips" in refused["faults"]
        daemon.signal(signal.SIGTERM)
        assert daemon.ends() == 0


def test_a_reload_in_a_folder_that_was_deleted_does_what_it_can(shell: Shell) -> None:
    path = shell.configure("")
    with serving(shell) as daemon:
        daemon.logged("ready")
        shell.folder.rmdir()
        path.write_text("[limits]\nturns = 7\n")
        daemon.signal(signal.SIGHUP)
        assert daemon.logged("reloaded")["applied"] == ["limits.turns"]
        shell.folder.mkdir()
        assert shell.run("status").returncode == 0
        daemon.signal(signal.SIGTERM)
        assert daemon.ends() == 0


# --- it logs to a file ---


def logged_in(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


def test_a_log_file_is_private_and_is_made_anew_when_it_was_moved_and_a_signal_came(shell: Shell) -> None:
    path, moved = shell.root / "daemon.log", shell.root / "daemon.log.1"
    with serving(shell, environ={"PALYRA_LOG__FILE": str(path)}) as daemon:
        assert shell.run("status").returncode == 0  # so what it said when it was ready is in the file
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.rename(moved)
        daemon.signal(signal.SIGHUP)
        assert shell.run("status").returncode == 0
        daemon.signal(signal.SIGTERM)
        assert daemon.process.communicate(timeout=PATIENCE_S) == ("", "")
    assert "ready" in logged_in(moved)
    assert "reloaded" not in logged_in(moved)
    assert [each for each in logged_in(path) if each != "sandbox"] == [
        *("reloaded", "policies reloaded", "draining", "ended"),
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_daemon_goes_on_when_its_log_has_no_place_left_and_logs_to_stderr(shell: Shell) -> None:
    folder = shell.root / "logs"
    folder.mkdir()
    with serving(shell, environ={"PALYRA_LOG__FILE": str(folder / "daemon.log")}) as daemon:
        folder.rename(shell.root / "away")
        daemon.signal(signal.SIGHUP)
        assert daemon.logged("reloaded")["level"] == "info"
        assert shell.run("status").returncode == 0
        daemon.signal(signal.SIGTERM)
        assert daemon.ends() == 0


# --- what it refuses ---


def test_a_log_file_that_cannot_be_opened_is_a_fault_of_configuration_with_a_remedy(shell: Shell) -> None:
    done = shell.run("serve", "--port", "0", environ={"PALYRA_LOG__FILE": str(shell.root / "none" / "daemon.log")})
    assert (done.returncode, done.stdout) == (78, "")
    assert "daemon.log cannot be opened: No such file or directory" in done.stderr
    assert "leave log.file empty for stderr" in done.stderr


def test_a_port_that_is_in_use_is_a_fault_of_configuration_with_a_remedy(shell: Shell) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        done = shell.run("serve", "--port", str(taken.getsockname()[1]))
    assert (done.returncode, done.stdout) == (78, "")
    assert "cannot be listened on" in done.stderr
    assert "choose another grpc.port" in done.stderr
    assert not (shell.state_dir / "socket").exists()


def test_a_udp_port_that_is_in_use_is_a_fault_of_configuration_with_a_remedy(shell: Shell) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = shell.run("serve", "--port", "0", "--quic-port", str(port), environ=WITH_QUIC)
    assert (done.returncode, done.stdout) == (78, "")
    assert f"UDP port {port} cannot be listened on" in done.stderr
    assert "choose another quic.port, or set quic.enabled to false" in done.stderr
    assert not (shell.state_dir / "socket").exists()


def test_an_authority_that_is_not_what_it_was_is_a_fault_with_a_remedy(shell: Shell) -> None:
    with serving(shell, "--host", "0.0.0.0", "--port", "0") as daemon:
        daemon.signal(signal.SIGTERM)
        assert daemon.ends() == 0
    (shell.state_dir / "tls" / "ca.key").unlink()
    done = shell.run("serve", "--host", "0.0.0.0", "--port", "0")
    assert (done.returncode, done.stdout) == (78, "")
    assert "ca.key is missing, and clients may have pinned it" in done.stderr
    assert "restore it from a backup" in done.stderr


def test_a_second_daemon_is_told_who_holds_the_directory(shell: Shell) -> None:
    with serving(shell) as daemon:
        done = shell.run("serve", "--port", "0")
        assert done.returncode == 75
        assert f"in use by process {daemon.process.pid}" in done.stderr
        assert shell.run("status").returncode == 0
