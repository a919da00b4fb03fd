"""@grpc/grpc-js as the client and as the server: programs for node, with packages that `just interop` installs."""

import json
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from tests.wire.interop.cases import ALL_WITHIN_S

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"


def wanted() -> dict[str, str]:
    """Return the exact version of each package."""
    versions: dict[str, str] = json.loads((HERE / "package.json").read_text("utf-8"))["dependencies"]
    return versions


def missing(modules: Path = MODULES) -> str | None:
    """Return why grpc-js cannot run here, or None when it can."""
    if shutil.which("node") is None:
        return "there is no node on the PATH"
    for package, version in wanted().items():
        installed = modules / package / "package.json"
        if not installed.is_file() or json.loads(installed.read_text("utf-8"))["version"] != version:
            return f"the npm package {package} {version} is not installed: `just interop` installs it"
    return None


async def talk(port: int) -> list[str]:
    """Return a line for each case against the server on a port of the loopback."""
    with trio.fail_after(ALL_WITHIN_S):
        done = await trio.run_process(
            ["node", "client.js", str(port)], cwd=HERE, check=False, capture_stdout=True, stderr=subprocess.STDOUT
        )
    return done.stdout.decode().splitlines()


@asynccontextmanager
async def serving() -> AsyncGenerator[int, None]:
    """Serve the cases with grpc-js on a free TCP port, which is what the block gets."""
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, ["node", "server.js"], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process: trio.Process = await nursery.start(run)
        assert process.stdin is not None
        assert process.stdout is not None
        async with process.stdin, process.stdout:  # whose end is the server's
            with trio.fail_after(ALL_WITHIN_S):
                yield int(await process.stdout.receive_some())
