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

import attrs
import trio
import trustme
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve

from palyra_trio.core.config import HttpConfig
from tests.transports.api.test_asgi import port

RESULTS = Path(__file__).parents[2] / "bench" / "results" / "h2spec_http.txt"
WITHIN_S = 300
_CASE = re.compile(r"^ +(?P<what>[×✔].*)$")
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
    config = HypercornConfig()
    config.bind, config.certfile, config.keyfile = ["127.0.0.1:0"], str(certificate), str(key)
    config.accesslog = config.errorlog = None
    async with trio.open_nursery() as nursery:
        (bound,) = await nursery.start(partial(serve, bare, config))
        yield int(bound.rpartition(":")[2])
        nursery.cancel_scope.cancel()


async def cases(program: str, port: int) -> str:
    """Return what h2spec prints."""
    command = [program, "--tls", "--insecure", "--host", "127.0.0.1", "--port", str(port), "--path", "/healthz"]
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
