"""What `bench.quic` asks of a server: small requests, pings, handshakes, 50 MB each way, and to be left alone by many.

Each takes a server that has just begun and returns figures: rates and times as the client sees them, CPU time and memory of
the server's process from /proc.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.quic_client import Connection, Poll, head
from bench.served import Served

MB = 1_000_000
SMALL, ECHO = head("GET", "/small"), head("POST", "/echo")
PING = bytes(100)
SHAKING = 8  # handshakes at a time
OPENING = 50  # connections that are opened at a time before they idle
SETTLING_S = 2.0
MOST_S = 120.0

Figure = dict[str, float]


def requests(served: Served, connections: int, in_flight: int, seconds: float) -> Figure:
    """Keep so many small requests in flight on each connection for so long: each that ends is followed by another."""
    took_s: list[float] = []

    def ask(connection: Connection) -> None:
        began = time.monotonic()

        def ended() -> None:
            took_s.append(time.monotonic() - began)
            ask(connection)

        connection.request(SMALL).on_end = ended

    def begin(poll: Poll) -> None:
        for connection in _connected(poll, connections):
            for _ in range(in_flight):
                ask(connection)
            poll.write(connection)

    return _timed(served, begin, took_s, "requests/s", seconds)


def pings(served: Served, seconds: float) -> Figure:
    """Send 100 bytes on a stream that stays open, and again once they are back."""
    took_s: list[float] = []

    def begin(poll: Poll) -> None:
        (connection,) = _connected(poll, 1)
        request = connection.request(ECHO, last=False)
        sent_at = time.monotonic()
        awaited = len(PING)

        def back() -> None:
            nonlocal sent_at, awaited
            if request.taken_bytes < awaited:
                return
            took_s.append(time.monotonic() - sent_at)
            awaited = request.taken_bytes + len(PING)
            sent_at = time.monotonic()
            request.send(PING)

        request.on_data = back
        request.send(PING)
        poll.write(connection)

    return _timed(served, begin, took_s, "pings/s", seconds)


def handshakes(served: Served, seconds: float) -> Figure:
    """Keep so many handshakes under way; a connection is closed as soon as it stands."""
    took_s: list[float] = []
    standing: list[Connection] = []

    def shake(poll: Poll) -> None:
        began = time.monotonic()
        connection = poll.connect()

        def stands() -> None:
            took_s.append(time.monotonic() - began)
            standing.append(connection)

        connection.on_ready = stands

    def turn(poll: Poll) -> None:
        while standing:
            poll.close(standing.pop())
            shake(poll)

    def begin(poll: Poll) -> None:
        for _ in range(SHAKING):
            shake(poll)

    return _timed(served, begin, took_s, "handshakes/s", seconds, turn)


def _timed(
    served: Served,
    begin: Callable[[Poll], None],
    took_s: list[float],
    unit: str,
    seconds: float,
    turn: Callable[[Poll], None] = lambda _: None,
) -> Figure:
    """Run what `begin` begins for `seconds`, after a fifth of that which is not counted."""
    poll = Poll(served.port)
    try:
        begin(poll)
        for warming in (True, False):
            began, cpu_began, own_began = time.monotonic(), served.cpu_s(), time.process_time()
            took_s.clear()
            end = began + (seconds / 5 if warming else seconds)
            while time.monotonic() < end:
                poll.step(end)
                turn(poll)
        elapsed_s, cpu_s, own_s = time.monotonic() - began, served.cpu_s() - cpu_began, time.process_time() - own_began
    finally:
        poll.close_all()
    if not took_s:
        raise RuntimeError(f"the server has answered nothing within {seconds} s")
    took_s.sort()
    return {
        unit: len(took_s) / elapsed_s,
        "p50 ms": took_s[len(took_s) // 2] * 1e3,
        "p99 ms": took_s[len(took_s) * 99 // 100] * 1e3,
        "CPU us each": cpu_s / len(took_s) * 1e6,
        "peak RSS MB": _memory(served, "VmHWM") / 1024,
        "client busy %": own_s / elapsed_s * 100,
    }


def bulk(served: Served, megabytes: int, way: str) -> Figure:
    """Move so many megabytes over one stream, "down" or "up", with ngtcp2's gtlsclient, which is C and limits nobody.

    "Grown" is how much more memory than before the server held at most. Raises RuntimeError when not all has arrived.
    """
    size = megabytes * MB
    with tempfile.TemporaryDirectory() as folder:
        upload, got = Path(folder) / "upload", Path(folder) / "got"
        got.mkdir()
        upload.write_bytes(bytes(size))
        path, data = ("up", ["-d", str(upload)]) if way == "up" else (f"down/{size}", [])
        command = ["gtlsclient", "-q", "--exit-on-all-streams-close", f"--download={got}", *data]
        before_kb = _memory(served, "VmRSS")
        began, cpu_began, own_began = time.monotonic(), served.cpu_s(), _children_s()
        subprocess.run(
            [*command, "127.0.0.1", str(served.port), f"https://localhost:{served.port}/{path}"],
            check=True,
            capture_output=True,
            timeout=MOST_S,
        )
        elapsed_s, cpu_s, own_s = time.monotonic() - began, served.cpu_s() - cpu_began, _children_s() - own_began
        answer = got / Path(path).name
        arrived = int(answer.read_text() or 0) if way == "up" else answer.stat().st_size
    if arrived != size:
        raise RuntimeError(f"{arrived} bytes of {size} have arrived")
    peak_kb = _memory(served, "VmHWM")
    return {
        "MB/s": megabytes / elapsed_s,
        "CPU ms/MB": cpu_s / megabytes * 1e3,
        "peak RSS MB": peak_kb / 1024,
        "grown MB": max(peak_kb - before_kb, 1) / 1024,
        "client busy %": own_s / elapsed_s * 100,
    }


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def idle(served: Served, connections: int, seconds: float) -> Figure:
    """Open connections, ask once on each, and leave them alone."""
    poll = Poll(served.port)
    try:
        _ask_once(poll, _connected(poll, 1))
        before_kb = _memory(served, "VmRSS")
        for _ in range(0, connections, OPENING):
            _ask_once(poll, _connected(poll, OPENING))
        end = time.monotonic() + SETTLING_S  # acknowledgements, and what else comes after an answer
        while time.monotonic() < end:
            poll.step(end)
        grown_kb, cpu_began, began = _memory(served, "VmRSS") - before_kb, served.cpu_s(), time.monotonic()
        end = began + seconds
        while time.monotonic() < end:
            poll.step(end)
        elapsed_s, cpu_s = time.monotonic() - began, served.cpu_s() - cpu_began
    finally:
        poll.close_all()
    return {"KB each": grown_kb / connections, "CPU %": cpu_s / elapsed_s * 100}


def _connected(poll: Poll, count: int) -> list[Connection]:
    made = [poll.connect() for _ in range(count)]
    poll.until(lambda: all(each.ready for each in made))
    return made


def _ask_once(poll: Poll, connections: list[Connection]) -> None:
    answered: list[bool] = []
    for connection in connections:
        connection.request(SMALL).on_end = lambda: answered.append(True)
        poll.write(connection)
    poll.until(lambda: len(answered) == len(connections))


def _memory(served: Served, field: str) -> int:
    """Return a field of /proc/PID/status in kB."""
    for line in Path(f"/proc/{served.pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise LookupError(field)
