"""The published interop cases; those with grpc-js where `just interop` has installed it, and skipped elsewhere."""

import json
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.wire.echo import Echo, listening, server_of
from tests.wire.interop import __main__ as program
from tests.wire.interop import grpc_js, grpcio_client, trio_client
from tests.wire.interop.cases import CASES, PASSED
from tests.wire.interop.service import against_ours

Talk = Callable[[int], Awaitable[list[str]]]

_MISSING = grpc_js.missing()
needs_grpc_js = pytest.mark.skipif(_MISSING is not None, reason=f"NOT RUN: {_MISSING}")
every_client = pytest.mark.parametrize(
    "talk",
    [
        pytest.param(grpc_js.talk, id="grpc-js", marks=needs_grpc_js),
        pytest.param(grpcio_client.talk, id="grpcio"),
        pytest.param(trio_client.talk, id="ours"),
    ],
)


@every_client
async def test_every_case_passes_against_our_server(talk: Talk) -> None:
    assert await against_ours(talk) == PASSED


@needs_grpc_js
async def test_every_case_passes_with_our_client_against_grpc_js() -> None:
    async with grpc_js.serving() as port:
        assert await trio_client.talk(port) == PASSED


@every_client
async def test_a_server_without_the_service_passes_no_case_but_those_of_what_is_unimplemented(talk: Talk) -> None:
    async with listening(server_of(Echo())) as port:
        lines = await talk(port)
    ended_by_the_client = {
        "cancel_after_begin",
        "timeout_on_sleeping_server",
    }  # perhaps before the server's status is there
    passed = {case for case in CASES if f"ok {case}" in lines}
    assert passed - ended_by_the_client == {"unimplemented_method", "unimplemented_service"}
    assert len(lines) == len(CASES)


def test_the_packages_are_pinned() -> None:
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in grpc_js.wanted().values())


def test_a_package_that_is_not_there_or_another_version_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert "is not installed" in (grpc_js.missing(tmp_path) or "")
    for package, version in grpc_js.wanted().items():
        folder = tmp_path / package
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(json.dumps({"version": version}))
    assert grpc_js.missing(tmp_path) is None
    (tmp_path / "@grpc" / "grpc-js" / "package.json").write_text(json.dumps({"version": "0.0.1"}))
    assert "is not installed" in (grpc_js.missing(tmp_path) or "")


def test_without_node_nothing_was_run_and_the_program_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(program, "RESULTS", tmp_path / "interop.txt")
    with pytest.raises(SystemExit, match="NOT RUN: there is no node on the PATH"):
        program.main()
    assert not program.RESULTS.exists()


@pytest.mark.parametrize(
    "lines", [PASSED[:-1], [*PASSED[:-1], "FAILED custom_metadata: why"], [*PASSED, "FAILED server: why"], []]
)
def test_a_case_that_failed_or_is_absent_makes_the_program_fail(
    lines: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def run() -> dict[str, list[str]]:
        return {"good": PASSED, "bad": lines}

    monkeypatch.setattr(grpc_js, "missing", lambda: None)
    monkeypatch.setattr(program, "run", run)
    monkeypatch.setattr(program, "RESULTS", tmp_path / "interop.txt")
    with pytest.raises(SystemExit, match=r"see interop\.txt"):
        program.main()
    assert "14 cases, 14 passed\n" in program.RESULTS.read_text("utf-8")
    assert ", FAILED\n" in program.RESULTS.read_text("utf-8")
