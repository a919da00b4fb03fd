"""The definitions: clean, compatible with what was released, and what palyra_trio/pb was generated from."""

import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROTO = ROOT / "proto"
BASELINE = PROTO / "baseline.binpb"
GENERATED = ROOT / "palyra_trio" / "pb"


def generator() -> Any:
    spec = spec_from_file_location("generate", PROTO / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def buf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("buf"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in folder.iterdir() if path.suffix in (".py", ".pyi")}


def test_the_generated_modules_are_those_of_the_definitions(tmp_path: Path) -> None:
    generator().generate(tmp_path)
    committed = texts(GENERATED)
    del committed["__init__.py"]
    assert texts(tmp_path) == committed


def test_the_definitions_are_clean() -> None:
    for check in (("lint",), ("format", "--diff", "--exit-code")):
        result = buf(*check, PROTO)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_definitions_break_nothing_that_was_released() -> None:
    result = buf("breaking", PROTO, "--against", BASELINE)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_change_that_breaks_a_client_is_found(tmp_path: Path) -> None:
    changed = tmp_path / "proto"
    shutil.copytree(PROTO, changed)
    tape = changed / "palyra/gateway/v1/tape.proto"
    tape.write_text(tape.read_text("utf-8").replace("uint64 seq = 2;", "string seq = 2;"), "utf-8")
    result = buf("breaking", changed, "--against", BASELINE)
    assert result.returncode != 0
    assert '"seq"' in result.stdout
