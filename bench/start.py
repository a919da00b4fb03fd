"""How long a person waits: for `--help`, offline for the first event of a run, and for a daemon that is ready; each time cold.

A process that does nothing but start the interpreter is measured in turn with them: below that nobody gets.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.report import Bar, Report, machine, progress
from bench.served import daemon

COMMAND = [sys.executable, "-m", "palyra_trio"]
LOADED_BY_HELP = """
import json, sys
from palyra_trio.cli.main import main
sys.argv = ["palyra-trio", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted(sys.modules)))
"""


def measure(quick: bool) -> Report:
    return compare(rounds=10 if quick else 30)


def compare(rounds: int) -> Report:
    """Start each process `rounds` times, in turn, after once to warm the caches, and report the medians."""
    facts = machine()
    contestants: dict[str, Callable[[], float]] = {
        "python -c pass": lambda: _wall_s([sys.executable, "-c", "pass"]),
        "palyra-trio --help": lambda: _wall_s([*COMMAND, "--help"]),
        "palyra-trio run, first event": _first_event_s,
        "palyra-trio serve, ready": _ready_s,
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, contestant in contestants.items():
            elapsed_s = contestant()
            if number:
                times[name].append(elapsed_s)
        progress(f"round {number} of {rounds}")
    peers: dict[str, dict[str, float | str | None]] = {
        name: {"median ms": median(each) * 1000, "longest ms": max(each) * 1000} for name, each in times.items()
    }
    modules = _modules_of_help()
    peers["palyra-trio --help"]["modules"] = len(modules)
    medians_ms = {name: median(each) * 1000 for name, each in times.items()}
    bars = [
        Bar("--help, wall time", medians_ms["palyra-trio --help"], "ms", 150, at_most=True),
        Bar("--help, modules of trio loaded", _of_trio(modules), "modules", 0, at_most=True),
        Bar("run offline, to the first event", medians_ms["palyra-trio run, first event"], "ms", 700, at_most=True),
        Bar("serve, to ready", medians_ms["palyra-trio serve, ready"], "ms", 700, at_most=True),
    ]
    return Report("start", bars, peers, facts)


def _wall_s(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def _first_event_s() -> float:
    """Return the time from the start of the process to its first line, in a new home with a folder of two files."""
    with tempfile.TemporaryDirectory() as home:
        workspace = Path(home) / "project"
        workspace.mkdir()
        for name in ("README.md", "main.py"):
            (workspace / name).write_text("one line\n")
        environment = {"HOME": home, "PATH": os.environ["PATH"], "PALYRA_STATE_DIR": str(Path(home) / "state")}
        began = time.perf_counter()
        with subprocess.Popen(
            [*COMMAND, "run", "list the files here", "--jsonl"],
            cwd=workspace,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()
            elapsed_s = time.perf_counter() - began
            process.stdout.read()
            complaint = process.stderr.read()
        if process.returncode or not first:
            raise RuntimeError(f"palyra-trio run failed with {process.returncode}:\n{complaint}")
        json.loads(first)
    return elapsed_s


def _ready_s() -> float:
    """Return the time from the start of the daemon's process to its `ready` line, with a new state directory."""
    with tempfile.TemporaryDirectory() as home:
        began = time.perf_counter()
        with daemon(Path(home)):
            return time.perf_counter() - began


def _modules_of_help() -> list[str]:
    done = subprocess.run([sys.executable, "-c", LOADED_BY_HELP], capture_output=True, text=True, check=True)
    modules: list[str] = json.loads(done.stdout.splitlines()[-1])
    return modules


def _of_trio(modules: list[str]) -> int:
    return sum(module.partition(".")[0] == "trio" for module in modules)
