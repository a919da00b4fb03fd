"""ngtcp2's example client and server on GnuTLS, from Debian's ngtcp2-client and ngtcp2-server."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.wire.interop_quic.place import WITHIN_S, Answer, Place, Talk

NAME = "ngtcp2 gtlsclient"
SBIN = "/usr/sbin"  # where Debian has the server, and not every PATH leads


def missing() -> str | None:
    """Return why client or server cannot run here, or None when they can."""
    if shutil.which("gtlsclient") is None:
        return "there is no gtlsclient: apt-get install ngtcp2-client"
    if _server() is None:
        return "there is no gtlsserver: apt-get install ngtcp2-server"
    return None


def _server() -> str | None:
    return shutil.which("gtlsserver") or shutil.which("gtlsserver", path=SBIN)


def version() -> str:
    """Return the version of the Debian package, since the programs have none of their own."""
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "ngtcp2-client"], capture_output=True, text=True, check=False
    )
    return asked.stdout or "of unknown version"


async def talk(place: Place) -> Talk:
    """Fetch /healthz. It cannot send a token, so it follows no run."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["gtlsclient", "--exit-on-all-streams-close", f"--download={folder}", "127.0.0.1", str(place.port)]
        with trio.fail_after(WITHIN_S):
            done = await trio.run_process(
                [*command, f"{place.origin}/healthz"], check=False, capture_stdout=True, stderr=subprocess.STDOUT
            )
        raw = done.stdout.decode("utf-8", "replace")
        body = Path(folder) / "healthz"
        text = body.read_text("utf-8") if body.is_file() else ""
    status = next((line.rpartition(" ")[2].strip("]") for line in raw.splitlines() if ":status" in line), "0")
    protocol = next((line.rpartition(" ")[2] for line in raw.splitlines() if "Negotiated ALPN is" in line), "?")
    return Talk(version(), Answer(int(status), text, protocol), None, raw)


@asynccontextmanager
async def serving(
    folder: Path, certificate: Path, key: Path, *, retry: bool
) -> AsyncGenerator[tuple[int, list[str]], None]:
    """Serve the files of a folder for the length of the block, which gets the UDP port, and what the server says."""
    program = _server()
    assert program is not None
    port = _free_port()
    options = ["--no-quic-dump", "--no-http-dump", *(["-V"] if retry else [])]
    command = [program, *options, "-d", str(folder), "127.0.0.1", str(port), str(key), str(certificate)]
    said: list[str] = []
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None

        async def listen(out: trio.abc.ReceiveStream) -> None:
            async for chunk in out:
                said.append(chunk.decode("utf-8", "replace"))

        nursery.start_soon(listen, process.stdout)
        try:
            await _until_bound(port, process)
            yield port, said
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
        nursery.cancel_scope.cancel()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def _until_bound(port: int, process: trio.Process) -> None:
    """Wait until the process listens. Raises RuntimeError when it has ended."""
    with trio.fail_after(WITHIN_S):
        while f":{port:04X} " not in await trio.Path("/proc/net/udp").read_text():
            if process.poll() is not None:
                raise RuntimeError(f"gtlsserver has ended with {process.returncode}")
            await trio.sleep(0.02)
