"""Debian's Chromium without a screen, driven by playwright-core from npm, which `just interop` installs beside this file."""

import json
import shutil
from pathlib import Path

import trio

from tests.wire.interop_quic.place import WITHIN_S, Answer, Place, Talk

NAME = "Chromium"
HERE = Path(__file__).parent


def missing(modules: Path = HERE / "node_modules") -> str | None:
    """Return why it cannot run here, or None when it can."""
    for program, package in (("chromium", "chromium"), ("node", "nodejs")):
        if shutil.which(program) is None:
            return f"there is no {program}: apt-get install {package}"
    wanted = json.loads((HERE / "package.json").read_text("utf-8"))["dependencies"]["playwright-core"]
    installed = modules / "playwright-core" / "package.json"
    if not installed.is_file() or json.loads(installed.read_text("utf-8"))["version"] != wanted:
        return f"the npm package playwright-core {wanted} is not installed: `just interop` installs it"
    return None


async def talk(place: Place) -> Talk:
    browser = shutil.which("chromium")
    assert browser is not None
    command = ["node", "chromium.js", browser, place.origin, place.spki, place.run_id, place.token]
    with trio.fail_after(WITHIN_S):
        done = await trio.run_process(command, cwd=HERE, check=False, capture_stdout=True, capture_stderr=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    found = json.loads(done.stdout)
    health, events = (
        Answer(found[each]["status"], found[each]["text"], found[each]["protocol"]) for each in ("healthz", "events")
    )
    return Talk(found["version"], health, events, done.stdout.decode())
