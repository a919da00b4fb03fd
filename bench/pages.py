"""How long the console takes to make a page of 10,000 events, and how large it is: a session's, and its run's."""

import http.client
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import attrs
import trio

from bench.report import Bar, Figures, progress
from bench.served import Served, daemon
from bench.tapes import PIECE, write_runs
from palyra_trio.core.messages import ToolCall, Usage
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import (
    Input,
    ModelDelta,
    ModelTurn,
    PolicyDecision,
    ProviderRequest,
    RoutingDecision,
    RunFinished,
    StatusChange,
    TapeEvent,
    ToolFinished,
    ToolOutput,
    ToolProposed,
    ToolStarted,
)
from palyra_trio.daemon import user_principal

TURNS = 50  # as many as a run may have
CALLS = 4  # in a turn, and so 200 in the run, which is as many as it may have
MOST_MS = 150
MOST_KB = 300
HTTP = {"PALYRA_HTTP__ENABLED": "true", "PALYRA_HTTP__PORT": "0"}


def measure(rows: int, loads: int) -> tuple[list[Bar], dict[str, Figures]]:
    """Load each page so many times, after once to warm the caches. From the request to the last byte."""
    bars: list[Bar] = []
    peers: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        [(session_id, run_id)] = trio.run(write_runs, home / "state", [list(long_run(rows))])
        with daemon(home, environment=HTTP) as served:
            visitor = Visitor.signed_in(served)
            for name, path in (("session", f"/sessions/{session_id}"), ("run", f"/runs/{run_id}")):
                times, size = visitor.load(path, loads)
                name = f"page of a {name} with {rows:,} events"
                progress(f"{name}: {median(times) * 1e3:.0f} ms, {size / 1024:.0f} KB")
                peers[name] = {"p50 ms": median(times) * 1e3, "longest ms": max(times) * 1e3, "KB": size / 1024}
                bars.append(Bar(f"{name}, p50", median(times) * 1e3, "ms", MOST_MS, at_most=True))
                bars.append(Bar(f"{name}, size", size / 1024, "KB", MOST_KB, at_most=True))
    return bars, peers


def long_run(rows: int) -> Iterator[TapeEvent]:
    """Yield the events of a run that did a lot: 50 turns that were streamed in pieces, with four calls each."""
    yield Input("", user_principal(os.getuid()), "", "", "look into everything there is", "0" * 64)
    yield StatusChange(RunState.QUEUED, RunState.RUNNING)
    yield RoutingDecision("scripted", "bench", "configured")
    each, rest = divmod(rows - 4, TURNS)
    pieces = each - 2 - 6 * CALLS
    for turn in range(1, TURNS + 1):
        text = " ".join(f"{number:03} {PIECE}" for number in range(6))  # an answer of half a page
        yield ProviderRequest(turn, 0, ("0" * 64,), "0" * 64)
        yield from (ModelDelta(turn, PIECE) for _ in range(pieces + rest * (turn == TURNS)))
        yield ModelTurn(turn, text, "tool_calls" if turn < TURNS else "stop", Usage(9_000, 8_000, 300), "bench", CALLS)
        for number in range(CALLS):
            call_id = f"call_{turn}_{number}"
            yield ToolProposed(ToolCall(call_id, "process.run", {"argv": ["grep", "-rn", f"word{number}", "src"]}))
            yield PolicyDecision(call_id, "allow", "read-only", "it only reads", "0" * 64)
            yield ToolStarted(call_id, "0" * 64, sandbox_tier=3)
            yield ToolOutput(call_id, "stdout", f"src/{number}.py: {PIECE}\n" * 4)
            yield ToolOutput(call_id, "stdout", f"src/{number}.py: {PIECE}\n" * 4)
            yield ToolFinished(call_id, f"src/{number}.py: {PIECE}\n" * 8, 12)
    yield RunFinished(RunState.RUNNING, RunState.DONE, "final_answer")


@attrs.frozen
class Visitor:
    """A browser that has signed in, as far as a server can tell."""

    served: Served
    cookie: str

    @classmethod
    def signed_in(cls, served: Served) -> "Visitor":
        headers = {
            "Origin": f"http://127.0.0.1:{served.port}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        with closing(http.client.HTTPConnection("127.0.0.1", served.port)) as connection:
            connection.request("POST", "/sign-in", urlencode({"token": served.token}), headers)
            answer = connection.getresponse()
            if answer.status != 303:
                raise RuntimeError(f"signing in was answered with {answer.status}")
            return cls(served, (answer.getheader("Set-Cookie") or "").partition(";")[0])

    def load(self, path: str, loads: int) -> tuple[list[float], int]:
        """Load a page so many times, and return how long each took, in seconds, and its size in bytes."""
        times, size = [], 0
        with closing(http.client.HTTPConnection("127.0.0.1", self.served.port)) as connection:
            for _ in range(loads + 1):
                began = time.perf_counter()
                connection.request("GET", path, headers={"Cookie": self.cookie})
                answer = connection.getresponse()
                size = len(answer.read())
                times.append(time.perf_counter() - began)
                if answer.status != 200:
                    raise RuntimeError(f"{path} was answered with {answer.status}")
        return times[1:], size
