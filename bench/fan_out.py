"""Server-sent events to 100 followers of one tape at once: rows over the API, which each of them is sent whole.

The followers only count. They are one process, which says how busy it was: at 100 % it is what was measured.
"""

import tempfile
import time
from pathlib import Path

import trio

from bench.pages import HTTP
from bench.report import Figures, progress
from bench.served import Served, daemon
from bench.tapes import write_tapes

FOLLOWERS = 100
READ_BYTES = 256 * 1024
EVENT = b"\nevent: "


def measure(rows: int) -> dict[str, Figures]:
    """Send a tape of so many rows to each follower."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        [run_id] = write_tapes(home / "state", 1, rows)
        with daemon(home, environment=HTTP) as served:
            trio.run(_follow, served, run_id, rows, 1)  # warms the caches
            cpu_began, own_began, began = served.cpu_s(), time.process_time(), time.perf_counter()
            trio.run(_follow, served, run_id, rows, FOLLOWERS)
            elapsed_s = time.perf_counter() - began
            cpu_s, own_s = served.cpu_s() - cpu_began, time.process_time() - own_began
    events = rows * FOLLOWERS
    progress(f"{FOLLOWERS} followers: {events / elapsed_s:,.0f} events/s")
    return {
        f"server-sent events, {FOLLOWERS} followers": {
            "events/s": events / elapsed_s,
            "CPU us/event": cpu_s / events * 1e6,
            "client busy %": own_s / elapsed_s * 100,
        }
    }


async def _follow(served: Served, run_id: str, rows: int, followers: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(followers):
            nursery.start_soon(_count, served, run_id, rows)


async def _count(served: Served, run_id: str, rows: int) -> None:
    request = (
        f"GET /api/v1/runs/{run_id}/events HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n"
        f"Authorization: Bearer {served.token}\r\nConnection: close\r\n\r\n"
    )
    counted, left = 0, b""
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        await stream.send_all(request.encode())
        while data := await stream.receive_some(READ_BYTES):
            text = left + data
            counted += text.count(EVENT)
            left = text[-len(EVENT) + 1 :]
    if counted != rows:
        raise RuntimeError(f"a follower received {counted} events of {rows}")
