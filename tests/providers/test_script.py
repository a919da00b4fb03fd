"""Reading a script: what its format says is what is taken, and every fault is named with its place."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.core.messages import Usage
from palyra_trio.providers.script import Repeat, Script, ScriptedCall, ScriptedError, Turn, load_script, parse_script


def parse(script: Any) -> Script:
    return parse_script(msgspec.json.encode(script), "turns.json")


def faults(script: Any) -> str:
    with pytest.raises(ConfigInvalid) as caught:
        parse(script)
    return caught.value.message


def test_every_field_of_the_format_is_taken() -> None:
    turn = {
        "text": "Hello",
        "deltas": ["Hel", "lo"],
        "calls": [{"tool": "files.read", "arguments": {"path": "a"}, "call_id": "c"}],
        "finish": "length",
        "usage": {"input_tokens": 1, "cached_input_tokens": 2, "output_tokens": 3},
        "pause_s": 1,
        "delta_pause_s": 0.5,
        "hang": True,
        "error": {
            "kind": "overloaded",
            "message": "no room",
            "retryable": True,
            "retry_after_s": 2,
            "after_deltas": 1,
            "times": 3,
        },
    }
    error = ScriptedError("overloaded", "no room", True, 2, 1, 3)
    call = ScriptedCall("files.read", {"path": "a"}, "c")
    first = Turn("Hello", ("Hel", "lo"), None, (call,), "length", Usage(1, 2, 3), 1, 0.5, True, error)
    second = Turn(repeat=Repeat("ab", 3))
    assert parse({"turns": [turn, {"repeat": {"text": "ab", "times": 3}}], "loop": False}) == Script((first, second))


def test_all_faults_are_reported_at_once_each_with_its_place() -> None:
    message = faults(
        {
            "turns": [
                "abc",
                {"text": 1, "texts": "", "deltas": "abc", "calls": [{"arguments": []}], "hang": 1},
                {"error": {"kind": "bogus", "message": "m"}, "usage": {"input_tokens": True}, "finish": None},
                {"pause_s": -1},
                {"text": "ab", "deltas": ["a"]},
            ],
            "loops": True,
        }
    )
    for fault in (
        "must be an object @ script.turns[0]",
        "must be a string @ script.turns[1].text",
        "unknown field 'texts' @ script.turns[1]",
        "must be a list @ script.turns[1].deltas",
        "is missing @ script.turns[1].calls[0].tool",
        "must be an object @ script.turns[1].calls[0].arguments",
        "must be true or false @ script.turns[1].hang",
        "@ script.turns[2].error.kind",
        "must be a whole number @ script.turns[2].usage.input_tokens",
        "'pause_s' must be >= 0: -1 @ script.turns[3]",
        "`deltas` do not add up to `text` @ script.turns[4]",
        "unknown field 'loops' @ script",
    ):
        assert fault in message
    assert "turns.json has 12 faults" in message


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ([], "must be an object"),
        ({}, "is missing @ script.turns"),
        ({"turns": []}, "turns"),
        ({"turns": [{"text": "a", "repeat": {"text": "a", "times": 1}}]}, "`repeat` stands instead"),
        ({"turns": [{"calls": [{"tool": "t", "call_id": "c"}]}], "loop": True}, "`call_id` would come twice"),
        ({"turns": [{"calls": [{"tool": "t", "call_id": "c"}, {"tool": "t", "call_id": "c"}]}]}, "`call_id` would"),
    ],
)
def test_a_script_that_cannot_be_played_is_refused(script: Any, fault: str) -> None:
    assert fault in faults(script)


def test_a_file_that_is_no_script_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"none\.json cannot be read"):
        load_script(tmp_path / "none.json")
    for bad in (b"{turns}", b'{"turns": ' + b"[" * 20_000):
        (tmp_path / "bad.json").write_bytes(bad)
        with pytest.raises(ConfigInvalid, match=r"bad\.json is not JSON"):
            load_script(tmp_path / "bad.json")
