import io
import json
import logging
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.guard.redactor import Redactor
from palyra_trio.runtime.telemetry import set_up_logging
from tests.fakes import SECRET

log = logging.getLogger("palyra_trio.test")
pytestmark = pytest.mark.usefixtures("own_root_logger")


def logging_to(level: str = "info", *, as_json: bool = True) -> io.StringIO:
    out = io.StringIO()
    set_up_logging(level, as_json=as_json, redactor=Redactor(), out=out)
    return out


def test_an_event_is_one_json_object_on_one_line() -> None:
    out = logging_to()
    log.info("ready\nset", extra={"pid": 7, "addresses": ("a", "b")})
    (line,) = out.getvalue().splitlines()
    entry = json.loads(line)
    at = datetime.fromisoformat(entry.pop("timestamp"))
    assert at.utcoffset() == timedelta()
    assert entry == {
        "event": "ready\nset",
        "level": "info",
        "logger": "palyra_trio.test",
        "pid": 7,
        "addresses": ["a", "b"],
    }


def test_what_is_below_the_level_is_not_said() -> None:
    out = logging_to("warning")
    log.info("no")
    log.warning("yes")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["yes"]


@pytest.mark.parametrize(("level", "said"), [("info", False), ("debug", True)])
def test_the_story_of_every_quic_connection_is_for_who_debugs(
    level: str, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = logging.getLogger("quic")
    monkeypatch.setattr(story, "disabled", False)
    story.setLevel(logging.NOTSET)
    out = logging_to(level)
    story.info("[0a] ALPN negotiated protocol h3")
    story.setLevel(logging.NOTSET)
    assert bool(out.getvalue()) is said


def test_arguments_are_put_into_the_event() -> None:
    out = logging_to()
    log.warning("%s failed %d times", "x", 3)
    assert json.loads(out.getvalue())["event"] == "x failed 3 times"


@pytest.mark.parametrize("as_json", [True, False])
def test_a_secret_is_masked_wherever_it_stands(as_json: bool) -> None:
    out = logging_to(as_json=as_json)
    log.info(f"key {SECRET}", extra={"nested": {"deep": [SECRET]}, "authorization": f"Bearer {SECRET}"})
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.exception("it failed with %s", SECRET)
    assert SECRET not in out.getvalue()
    assert out.getvalue().count("it failed with") == 1


def test_an_exception_is_told_with_its_traceback_on_the_same_line() -> None:
    out = logging_to()
    try:
        raise ValueError("oh no")
    except ValueError as error:
        log.error("it failed", exc_info=error)
    (line,) = out.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["level"]) == ("it failed", "error")
    assert entry["exception"].startswith("Traceback")
    assert entry["exception"].endswith("ValueError: oh no")


def test_what_is_no_json_value_is_told_as_text() -> None:
    out = logging_to()
    log.info("odd", extra={"what": object()})
    assert json.loads(out.getvalue())["what"].startswith("<object")


def test_as_text_a_line_reads_without_colours() -> None:
    out = logging_to(as_json=False)
    log.warning("the disk is slow", extra={"took_ms": 30})
    assert "\x1b" not in out.getvalue()
    assert "[warning" in out.getvalue()
    assert "the disk is slow" in out.getvalue()
    assert "took_ms=30" in out.getvalue()


def test_setting_it_up_again_takes_the_place_of_what_was() -> None:
    first, second = logging_to(), logging_to()
    log.info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_a_file_gets_what_stderr_would_and_stderr_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", as_json=True, redactor=Redactor(), file=tmp_path / "log")
    log.info(f"key {SECRET}", extra={"pid": 7})
    logging.getLogger().handlers[0].close()
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert (json.loads(line)["pid"], SECRET in line) == (7, False)
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_opened_changes_nothing(tmp_path: Path) -> None:
    out = logging_to()
    with pytest.raises(ConfigInvalid):
        set_up_logging("info", as_json=True, redactor=Redactor(), file=tmp_path / "none" / "log")
    log.info("still here")
    assert "still here" in out.getvalue()


# --- what nobody catches ---

CRASHES = """
import ctypes, gc, pathlib, resource, sys, threading, warnings
from palyra_trio.guard.redactor import Redactor
from palyra_trio.runtime.telemetry import log_crashes, set_up_logging
secret, *file = sys.argv[1:]
set_up_logging("info", as_json=True, redactor=Redactor(), file=pathlib.Path(*file) if file else None)
log_crashes()
class Last:
    def __del__(self): raise ValueError("last: " + secret)
def fail(): raise ValueError("in a thread: " + secret)
thread = threading.Thread(target=fail)
thread.start(); thread.join()
Last()
warnings.warn("a warning: " + secret)
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
raise ValueError("in the end: " + secret)
"""


@pytest.mark.parametrize("to_file", [False, True])
def test_what_nobody_catches_is_logged_without_its_secrets_and_leaves_no_core(tmp_path: Path, to_file: bool) -> None:
    path = tmp_path / "log"
    call = [sys.executable, "-c", CRASHES, SECRET, *([str(path)] if to_file else [])]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == "(0, 0) 0\n"
    assert bool(done.stderr) is not to_file
    logged = path.read_text() if to_file else done.stderr
    assert SECRET not in logged
    entries = [json.loads(line) for line in logged.splitlines()]
    told = ("in a thread: ", "last: ", "a warning: ", "in the end: ")
    assert [next(each for each in told if f"{each}[redacted:" in json.dumps(entry)) for entry in entries] == [*told]
