"""Every foreign client against ours, and ours against a foreign server, each with Retry and without it.

What is required and not there is named, with how to install it: nothing was tested then, and the exit status says so.
"""

import sys
import tempfile
from pathlib import Path

import trio

from tests.wire.interop_quic import against_ours, our_client
from tests.wire.interop_quic.against_ours import CLIENTS, Case

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "interop_quic.txt"
KEPT = 4_000  # characters of either end of what somebody said


async def run() -> list[tuple[str, Case]]:
    """Go through all cases, print a line for each, and return them by that line."""
    found: list[tuple[str, Case]] = []

    def take(case: Case) -> None:
        line = f"client {case.who}, {'with' if retry else 'without'} Retry: {'; '.join(case.failures) or 'ok'}"
        print(line, flush=True)
        found.append((line, case))

    for retry in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            async with against_ours.serving(Path(folder), retry=retry) as server:
                for client in CLIENTS:
                    take(await against_ours.case(server, client))
                tls = server.shell.state_dir / "tls"
                take(await our_client.case(tls / "ca.pem", tls / "leaf.pem", retry=retry))
    return found


def _short(raw: str) -> str:
    """Return the beginning and the end of what somebody said."""
    raw = raw.rstrip()
    return raw if len(raw) <= 2 * KEPT else f"{raw[:KEPT]}\n[...]\n{raw[-KEPT:]}"


def main() -> None:
    if reasons := [reason for client in CLIENTS if (reason := client.missing())]:
        sys.exit("\n".join(f"NOT RUN: {reason}" for reason in reasons))
    found = trio.run(run)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(f"== {line}\n{_short(case.raw)}\n" for line, case in found), "utf-8")
    if any(case.failures for _, case in found):
        sys.exit(f"see {RESULTS.name}")


if __name__ == "__main__":
    main()
