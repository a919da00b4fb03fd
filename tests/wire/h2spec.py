"""h2spec's cases against the server, over cleartext HTTP/2 on the loopback: `python -m tests.wire.h2spec`.

The program h2spec 2.6 must be on the PATH; without it nothing was tested, and the exit status says so. A case that sends its
fault in a second frame may find its stream answered already (RFC 9113, section 8.1, allows that): then one run fails, another not.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import trio

from tests.wire.echo import Echo, listening, server_of

RESULTS = Path(__file__).parents[2] / "bench" / "results" / "h2spec.txt"
WITHIN_S = 300


async def run(program: str) -> str:
    """Return what h2spec prints."""
    async with listening(server_of(Echo())) as port:
        with trio.fail_after(WITHIN_S):
            command = [program, "--host", "127.0.0.1", "--port", str(port)]
            done = await trio.run_process(command, check=False, capture_stdout=True, stderr=subprocess.STDOUT)
    return done.stdout.decode()


def main() -> None:
    program = shutil.which("h2spec")
    if program is None:
        sys.exit("NOT RUN: there is no h2spec on the PATH")
    output = trio.run(run, program)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(output, "utf-8")
    summary = output.rstrip().rpartition("\n")[2]
    print(summary)
    if summary != "146 tests, 146 passed, 0 skipped, 0 failed":
        sys.exit(f"see {RESULTS.name}")


if __name__ == "__main__":
    main()
