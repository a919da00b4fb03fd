"""h2spec's cases against the HTTP port, over TLS on the loopback: `python -m tests.transports.h2spec_http`.

What speaks HTTP/2 there is Hypercorn, so the same cases are put to a bare application under Hypercorn too: no case may fail
here that passes there. The program h2spec 2.6 must be on the PATH; without it nothing was tested, and the exit status says so.
"""

import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trustme
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from palyra_trio.core.config import HttpConfig
from tests.transports.api.test_asgi import port

RESULTS = Path(__file__).parents[2] / "bench" / "results" / "h2spec_http.txt"
WITHIN_S = 600
_SECTION = re.compile(r"^ *(?P<name>[0-9]+(\.[0-9]+)*\. .*)$")


def failed(output: str) -> set[str]:
    """Return the cases that failed, each with its section."""
    found, section = set(), ""
    for line in output.partition("Failures:")[0].splitlines():
        line = line.rpartition("\r")[2]
        if title := _SECTION.match(line):
            section = title["name"].strip()
        elif "× " in line:
            found.add(f"{section}: {line.partition('× ')[2].strip()}")
    return found


async def bare(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer anything with a little text, when all of it has come."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"3")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok\n"})


@asynccontextmanager
async def bare_hypercorn(certificate: Path, key: Path) -> AsyncGenerator[int, None]:
    """Serve the bare application; a connection whose failure would end Hypercorn's own server ends alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    config, worker = HypercornConfig(), WorkerContext(None)
    config.errorlog = None

    async def connection(stream: Any) -> None:
        try:
            await TCPServer(ASGIWrapper(bare), config, worker, ConnectionState({}), stream)
        except Exception:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_ssl_over_tcp, connection, 0, context, host="127.0.0.1", https_compatible=True)
        (listener,) = await nursery.start(serve)
        yield int(listener.transport_listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def cases(program: str, port: int) -> str:
    """Return what h2spec prints."""
    command = [
        program,
        "--tls",
        "--insecure",
        "--timeout",
        "1",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--path",
        "/healthz",
    ]
    with trio.fail_after(WITHIN_S):
        done = await trio.run_process(command, check=False, capture_stdout=True, stderr=subprocess.STDOUT)
    return done.stdout.decode()


async def both(program: str, folder: Path) -> tuple[str, str]:
    """Return what h2spec prints of our port, and of a bare application."""
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    http = HttpConfig(port=0, tls_certificate_file=str(certificate), tls_key_file=str(key))
    async with port(folder, http) as at:
        ours = await cases(program, at.served.port)
    async with bare_hypercorn(certificate, key) as bound:
        return ours, await cases(program, bound)


def main() -> None:
    program = shutil.which("h2spec")
    if program is None:
        sys.exit("NOT RUN: there is no h2spec on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = trio.run(both, program, Path(folder))
    RESULTS.write_text(f"--- the HTTP port\n\n{ours}\n--- a bare application under Hypercorn\n\n{theirs}", "utf-8")
    print(ours.rstrip().rpartition("\n")[2])
    print(f"bare: {theirs.rstrip().rpartition(chr(10))[2]}")
    for case in sorted(failed(ours)):
        print(f"failed: {case}" + (" (Hypercorn's own)" if case in failed(theirs) else ""))
    if only_ours := failed(ours) - failed(theirs):
        sys.exit(f"{len(only_ours)} fail here only; see {RESULTS.name}")


if __name__ == "__main__":
    main()
