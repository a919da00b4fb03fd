"""The program as a person meets it: a process, on pipes or at a terminal, in surroundings of one's own."""

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from palyra_trio.cli.open import is_held, principal, state_word
from palyra_trio.cli.tape import rows_after
from palyra_trio.core.codec import json_line
from palyra_trio.journal.check import check_file
from palyra_trio.journal.queries import Reader, RunSummary
from palyra_trio.tools import bubblewrap
from tests.fakes import PATIENT

PATIENCE_S = 20.0  # far more than any step takes; only a hang comes to it
PROGRAM = (sys.executable, "-m", "palyra_trio")
ROOT = Path(__file__).parents[1]


@attrs.frozen
class Shell:
    """A home, a state directory and a current folder below `root`, and an environment that holds nothing else."""

    root: Path
    folder: Path

    @classmethod
    def below(cls, root: Path) -> "Shell":
        for name in ("home", "project"):
            (root / name).mkdir()
        return cls(root, root / "project")

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def state_dir(self) -> Path:
        return self.root / "state"

    def configure(self, text: str) -> Path:
        """Write the user's own configuration, and return the file."""
        path = self.home / ".config" / "palyra-trio" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    @property
    def journal(self) -> Path:
        return self.state_dir / "journal.sqlite3"

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        own = {"HOME": str(self.home), "PALYRA_STATE_DIR": str(self.state_dir), "PYTHONPATH": str(ROOT)}
        own["PALYRA_HTTP__ENABLED"] = "false"  # several daemons run at once, and most tests need no console
        own["PALYRA_QUIC__ENABLED"] = "false"  # the same holds of HTTP/3
        own |= {f"PALYRA_LATENCY__{name.upper()}": str(ms) for name, ms in attrs.asdict(PATIENT).items()}
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONDONTWRITEBYTECODE") if name in os.environ}
        return {**kept, "LANG": "C.UTF-8", "TERM": "xterm", **own, **(more or {})}

    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Call the program on pipes, to its end. Its output is text, whatever it is."""
        done = subprocess.run(
            [*PROGRAM, *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            cwd=cwd or self.folder,
            env=self.environment(environ),
            timeout=PATIENCE_S,
            check=False,
        )
        out, err = (each.decode("utf-8", "backslashreplace") for each in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def sh(self, line: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Let a POSIX shell run `line`, in which `$P` is the program."""
        return subprocess.run(
            ["sh", "-c", line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.folder,
            env=self.environment({"P": " ".join(PROGRAM), **(environ or {})}),
            timeout=PATIENCE_S,
            text=True,
            check=False,
        )

    @contextmanager
    def process(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Generator["subprocess.Popen[str]"]:
        """Start the program on pipes. It is killed if it outlives the block."""
        with subprocess.Popen(
            [*PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment(environ),
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def terminal(
        self, *arguments: str, columns: int = 80, environ: Mapping[str, str] | None = None
    ) -> Generator["AtTerminal"]:
        """Start the program at a terminal that is its controlling one. It is killed if it outlives the block."""
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=self.folder,
            env=self.environment({"NO_COLOR": "1", **(environ or {})}),
            start_new_session=True,
            preexec_fn=_at_the_terminal,
        )
        os.close(slave)
        try:
            yield AtTerminal(process, master)
        finally:
            process.kill()
            process.wait()
            os.close(master)

    def script(self, *turns: dict[str, Any], **fields: Any) -> str:
        """Write a script, outside of the workspace, and return the model that plays it."""
        path = self.root / "script.json"
        path.write_text(json.dumps({"turns": turns, **fields}))
        return f"scripted/{path}"

    def tape(self, run: str = "last") -> list[dict[str, Any]]:
        """Return the rows of a run as `tape --jsonl` prints them, read without a process."""
        with closing(Reader(self.journal)) as reader:
            return [json.loads(json_line(row)) for row in rows_after(reader, reader.find_run(run, principal()), 0)]

    def bodies(self, kind: str, run: str = "last") -> list[dict[str, Any]]:
        """Return the bodies of a run's events of this kind, in order."""
        return [row["body"] for row in self.tape(run) if row["kind"] == kind]

    def runs(self) -> list[RunSummary]:
        """Return the runs, oldest first."""
        with closing(Reader(self.journal)) as reader:
            return [*reversed(reader.runs(principal()))]

    def until_waiting(self, run: str, count: int = 1) -> None:
        """Follow a run, which another process runs, until it has begun to wait for a person for the `count`-th time."""
        with self.process("tape", run, "--follow", "--jsonl", "--kind", "StatusChange") as following:
            assert following.stdout is not None
            for line in following.stdout:
                count -= json.loads(line)["body"]["after"] == "waiting"
                if not count:
                    return
        pytest.fail(f"run {run} ended without waiting so often")

    def states(self) -> list[tuple[str, str]]:
        """Return of each run, oldest first, what it was asked and how `runs list` says that it stands."""
        held = is_held(self.state_dir)
        return [(self.bodies("Input", run.run_id)[0]["text"], state_word(run, held)) for run in self.runs()]

    def assert_verifies(self) -> None:
        assert check_file(self.journal).faults == ()


@contextmanager
def shell_for_programs(config: str = "") -> Generator[Shell]:
    """Yield a shell whose folder the programs of a run can work in: who is root has them run as `nobody`.

    Skips where there is no bubblewrap.
    """
    if bubblewrap.find() is None:
        pytest.skip("unavailable: there is no bubblewrap to run the program in")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        shell = Shell.below(Path(folder))
        for each in (shell.root, shell.folder):
            each.chmod(0o755)
        shell.configure(f'[sandbox]\nuser = "nobody"\n{config}')
        yield shell


def _at_the_terminal() -> None:
    """Make the terminal on stdin this process's own, and Ctrl-C what it is there, whoever runs the tests."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@attrs.define
class AtTerminal:
    """A program at a terminal: what it shows, and what is typed."""

    process: "subprocess.Popen[bytes]"
    master: int
    shown: str = ""
    _seen: int = 0

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str) -> str:
        """Read on until `text` is shown, and return what came before it."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.shown.find(text, self._seen)) < 0:
            if not self._read(deadline):
                pytest.fail(f"{text!r} was not shown, but:\n{self.shown[self._seen :]}\n--- after:\n{self.shown}")
        before = self.shown[self._seen : found]
        self._seen = found + len(text)
        return before

    def ends(self) -> int:
        """Read what it still shows and return its exit status, as a shell would say it."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        status = self.process.wait(timeout=max(0.1, deadline - time.monotonic()))
        return status if status >= 0 else 128 - status

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def _read(self, deadline: float) -> bool:
        """Read something more; False at the end or when the deadline has passed."""
        if not select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.shown += data.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
        return bool(data)


def write_call(path: str, text: str, **fields: Any) -> dict[str, Any]:
    """A scripted turn that writes a file."""
    return {"calls": [{"tool": "files.write", "arguments": {"path": path, "text": text}}], **fields}


def read_call(*paths: str) -> dict[str, Any]:
    """A scripted turn that reads files."""
    return {"calls": [{"tool": "files.read", "arguments": {"path": path}} for path in paths]}
