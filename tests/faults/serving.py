"""`palyra-trio serve` in a process of its own: started, killed, started again, and looked at from outside."""

import json
import os
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import trio

from palyra_trio.cli.open import principal
from palyra_trio.core.identity import mint_ulid
from palyra_trio.core.tape import run_stream
from palyra_trio.journal.queries import Reader
from palyra_trio.journal.writer import wall_clock_ms
from palyra_trio.pb import agents_pb2, runs_pb2
from palyra_trio.pb.gateway_grpc import GatewayServiceStub
from palyra_trio.wire.h2_client import connect
from tests.processes import PROGRAM, Shell

STARTING_S = 20.0
PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
QUIC = {"PALYRA_QUIC__ENABLED": "true", "PALYRA_QUIC__PORT": "0"}
HTTP = {"PALYRA_HTTP__ENABLED": "true", "PALYRA_HTTP__PORT": "0"}
Row = tuple[int, int, int, int, bytes | None, bytes]
"""seq, g, kind, at_ms, body, hash"""


@attrs.define
class Server:
    """A daemon on ports of its own choice, which change with every start. It serves HTTP/3 too when `environ` has QUIC,
    and the console when it has HTTP.

    `before` are the words before its command, such as those that run it on another host.
    """

    shell: Shell
    environ: dict[str, str] = attrs.Factory(dict)
    port: int = 0
    quic_port: int = 0
    http_port: int = 0
    before: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None

    @classmethod
    def below(cls, root: Path, **environ: str) -> "Server":
        """Make the surroundings: the local user's token may work in the project's folder."""
        shell = Shell.below(root)
        shell.configure(f'[workspaces]\nroots = {{ "{principal()}" = [{json.dumps(str(shell.folder))}] }}\n')
        return cls(shell, environ)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Run for the length of the block; whichever process runs at its end is killed."""
        try:
            await self.start()
            yield
        finally:
            self.kill()

    async def start(self) -> None:
        """Start, and return once it takes calls."""
        self.process = self._spawn()
        assert self.process.stdout is not None
        with trio.fail_after(STARTING_S):
            line = await trio.to_thread.run_sync(self.process.stdout.readline, abandon_on_cancel=True)
        words = line.decode().split()
        assert words[:1] == ["ready"], self.log
        ports = {each.partition("://")[0]: int(each.rpartition(":")[2]) for each in words[2:]}
        self.port, self.quic_port = ports.get("grpc") or ports["grpcs"], ports.get("quic", 0)
        self.http_port = ports.get("http", 0)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with open(self.shell.root / "log", "ab") as log:
            return subprocess.Popen(
                [*self.before, *PROGRAM, "serve", "--port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.shell.folder,
                env=self.shell.environment(self.environ),
            )

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    @property
    def log(self) -> str:
        return (self.shell.root / "log").read_text("utf-8", "replace")

    @property
    def tracebacks(self) -> list[str]:
        """The lines of the log that tell of what nobody had thought of."""
        return [line for line in self.log.splitlines() if "Traceback" in line]

    @property
    def authorization(self) -> str:
        return f"Bearer {(self.shell.state_dir / 'token').read_text('ascii').strip()}"

    @property
    def authority(self) -> Path:
        """The certificate that vouches for it, where it shows one of its own."""
        return self.shell.state_dir / "tls" / "ca.pem"

    @property
    def rss_kb(self) -> int:
        """What the process holds in memory."""
        assert self.process is not None
        return int(Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1]) * PAGE_KB

    # --- runs ---

    async def define(self, agent: str, *turns: dict[str, Any]) -> None:
        """Define an agent that plays `turns`. Only the local user may name the file that they are in."""
        script = self.shell.root / f"{agent}.json"
        await trio.Path(script).write_text(json.dumps({"turns": turns}), "utf-8")
        spec = agents_pb2.AgentSpec(name=agent, model=f"scripted/{script}")
        async with connect(await trio.open_unix_socket(str(self.shell.state_dir / "socket"))) as channel:
            stub = GatewayServiceStub(channel)  # type: ignore[arg-type]
            await stub.CreateAgent(agents_pb2.CreateAgentRequest(spec=spec))

    def new_run(self, agent: str) -> runs_pb2.StartRun:
        """Return the order of a run with an id of its own."""
        run_id = mint_ulid(wall_clock_ms(), os.urandom(10))
        return runs_pb2.StartRun(text="go on", run_id=run_id, agent=agent, workspace=str(self.shell.folder))

    def recorded(self, run_id: str, most: int | None = None) -> list[Row]:
        """Return the rows of a run, or the first `most`, as they lie in the journal."""
        with closing(Reader(self.shell.journal)) as reader:
            rows = islice(reader.tape(run_stream(run_id)), most)
            return [(row.seq, row.g, row.kind, row.at_ms, row.body, row.hash) for row in rows]


def processes_with(text: str) -> list[int]:
    """Return the processes of this user whose environment holds `text`."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text.encode() in environ.read_bytes():
                found.append(int(environ.parent.name))
        except OSError:  # it has ended, or is somebody else's
            continue
    return found
