"""picoquic, from the PyPI package aiopquic: it needs Python 3.12 or later, so it has an environment of its own in build/picoquic.

It is a QUIC client only; HTTP/3's few frames are made and read here. `python -m tests.wire.interop_quic.picoquic` makes the
environment.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pylsqpack
import trio
from aioquic.buffer import Buffer, encode_uint_var

from tests.wire.interop_quic.place import HOST, WITHIN_S, Answer, Place, Talk

NAME = "picoquic"
HERE = Path(__file__).parent
ENVIRONMENT = Path(__file__).parents[3] / "build" / "picoquic"
WANTED = "aiopquic==0.6.1"
PYTHONS = tuple(f"python3.{minor}" for minor in (14, 13, 12))  # for which there are wheels
DATA, HEADERS, SETTINGS = 0, 1, 4  # RFC 9114, section 7.2
CONTROL = b"\0" + bytes((SETTINGS, 0))  # section 6.2.1


def missing() -> str | None:
    """Return why it cannot run here, or None when it can."""
    if not (ENVIRONMENT / "bin" / "python").is_file():
        return "picoquic is not installed: `just interop` installs it, with Python 3.12 or later"
    return None


def install() -> None:
    """Make the environment with the first Python that there is. Raises SystemExit when there is none."""
    if missing() is None:
        return
    for python in _pythons():
        if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            subprocess.run([python, "-m", "venv", str(ENVIRONMENT)], check=True)
            subprocess.run([ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "--quiet", WANTED], check=True)
            return
    sys.exit(f"NOT RUN: there is none of {', '.join(PYTHONS)}")


def _pythons() -> list[str]:
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [found for name in PYTHONS if (found := shutil.which(name)) is not None]
    return found + [str(path) for name in PYTHONS for path in versions.glob(f"*/bin/{name}")]


async def talk(place: Place) -> Talk:
    requests = [
        _request("/healthz"),
        _request(place.events_path, (b"authorization", f"Bearer {place.token}".encode())),
    ]
    program = [str(ENVIRONMENT / "bin" / "python"), "picoquic_client.py"]
    streams = [each.hex() for each in (CONTROL, *requests)]
    command = [*program, "127.0.0.1", str(place.port), str(place.authority), *streams]
    with trio.fail_after(WITHIN_S):
        done = await trio.run_process(command, cwd=HERE, check=False, capture_stdout=True, capture_stderr=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    health, events = map(_answer, done.stdout.decode().split())
    return Talk(WANTED.partition("==")[2], health, events, done.stderr.decode() + done.stdout.decode())


def _request(path: str, *more: tuple[bytes, bytes]) -> bytes:
    fields = [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", HOST.encode()),
        (b":path", path.encode()),
        *more,
    ]
    _, block = pylsqpack.Encoder().encode(0, fields)
    return encode_uint_var(HEADERS) + encode_uint_var(len(block)) + block


def _answer(stream: str) -> Answer:
    """Read a response, in hex, that uses QPACK's static table only."""
    buffer = Buffer(data=bytes.fromhex(stream))
    status, body = 0, b""
    while not buffer.eof():
        kind, length = buffer.pull_uint_var(), buffer.pull_uint_var()
        payload = buffer.pull_bytes(length)
        if kind == HEADERS and not status:
            _, fields = pylsqpack.Decoder(0, 0).feed_header(0, payload)
            status = int(dict(fields)[b":status"])
        elif kind == DATA:
            body += payload
    return Answer(status, body.decode(), "h3")


if __name__ == "__main__":
    install()
