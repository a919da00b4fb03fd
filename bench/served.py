"""Servers in processes of their own, for the benches that are their clients: started, known by their `ready` line, ended.

What a process costs is read from /proc. Nothing here talks to a server.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs

from palyra_trio.daemon import user_principal

ENDING_S = 20.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parents[1]


@attrs.frozen
class Served:
    """A server on a port of 127.0.0.1. The daemon also has a Unix `socket`; over TCP a `token` opens it.

    Its runs may work in `workspace`.
    """

    pid: int
    port: int
    socket: str = ""
    token: str = ""
    workspace: str = ""

    def cpu_s(self) -> float:
        """Return the CPU time of the process so far, in steps of a tick (10 ms)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@contextmanager
def serving(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Generator[Served]:
    """Run `python -m MODULE` for the length of the block. It prints `ready` and its addresses, the TCP one last.

    Raises RuntimeError with what it said on stderr when it is not ready, or does not end well when it is told to.
    """
    command = [sys.executable, "-m", module, *arguments]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        with process:
            try:
                assert process.stdout is not None
                ready = process.stdout.readline().split()
                if ready[:1] == ["ready"]:
                    yield Served(process.pid, int(ready[-1].rpartition(":")[2]))
                process.terminate()
                process.wait(ENDING_S)
            except Exception as error:
                said.seek(0)
                error.add_note(f"{module} said:\n{said.read()[-2000:]}")
                raise
            finally:
                process.kill()
        if not ready or process.returncode not in {0, -signal.SIGTERM}:
            said.seek(0)
            raise RuntimeError(f"{module} ended with {process.returncode}:\n{said.read()[-2000:]}")


@contextmanager
def daemon(home: Path, module: str = "palyra_trio", environment: Mapping[str, str] | None = None) -> Generator[Served]:
    """Run `serve` on a free port. All that it has is below `home`: `state`, `workspace`, and what configures it."""
    state, workspace, config = home / "state", home / "workspace", home / ".config" / "palyra-trio" / "config.toml"
    workspace.mkdir()
    config.parent.mkdir(parents=True)
    config.write_text(f'[workspaces]\nroots = {{ "{user_principal(os.getuid())}" = ["{workspace}"] }}\n')
    quiet = {"PALYRA_LOG__LEVEL": "warning", "PALYRA_HTTP__ENABLED": "false", "PALYRA_QUIC__ENABLED": "false"}
    own = {"HOME": str(home), "PALYRA_STATE_DIR": str(state), **quiet, **(environment or {})}
    with serving(module, "serve", "--port", "0", environment=own) as served:
        token = (state / "token").read_text().strip()
        yield attrs.evolve(served, socket=str(state / "socket"), token=token, workspace=str(workspace))
