"""Every client and server of the interop cases that is not ours on both ends, over real sockets.

node and the packages of package.json must be there; without them nothing was tested, and the exit status says so.
"""

import sys
from pathlib import Path

import grpc
import trio

from palyra_trio import __version__
from tests.wire.interop import grpc_js, grpcio_client, trio_client
from tests.wire.interop.cases import CASES, PASSED
from tests.wire.interop.service import against_ours

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "interop.txt"


async def run() -> dict[str, list[str]]:
    """Return what each client says, by who talked to whom."""
    node = (await trio.run_process(["node", "--version"], capture_stdout=True)).stdout.decode().strip()
    js, ours = f"@grpc/grpc-js {grpc_js.wanted()['@grpc/grpc-js']} on node {node}", f"palyra-trio {__version__}"
    lines = {
        f"client {js}, server {ours}": await against_ours(grpc_js.talk),
        f"client grpcio {grpc.__version__}, server {ours}": await against_ours(grpcio_client.talk),
    }
    async with grpc_js.serving() as port:
        lines[f"client {ours}, server {js}"] = await trio_client.talk(port)
    return lines


def summary(lines: list[str]) -> str:
    passed = len(set(lines) & set(PASSED))
    return f"{len(CASES)} cases, {passed} passed" + ("" if lines == PASSED else ", FAILED")


def main() -> None:
    if reason := grpc_js.missing():
        sys.exit(f"NOT RUN: {reason}")
    runs = trio.run(run)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        "\n".join("\n  ".join([who, *lines, summary(lines)]) + "\n" for who, lines in runs.items()), "utf-8"
    )
    for who, lines in runs.items():
        print(f"{who}: {summary(lines)}")
    if any(lines != PASSED for lines in runs.values()):
        sys.exit(f"see {RESULTS.name}")


if __name__ == "__main__":
    main()
