"""The foreign HTTP/3 peers that are installed here, and what the program says where one is not."""

import json
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from tests.wire.interop_quic import __main__ as program
from tests.wire.interop_quic import against_ours, chromium, curl, gtls, our_client, picoquic
from tests.wire.interop_quic.against_ours import CLIENTS, Case
from tests.wire.interop_quic.place import Answer, Talk, sequence

every_client = pytest.mark.parametrize("client", CLIENTS, ids=[each.NAME for each in CLIENTS])


@every_client
async def test_a_client_loads_health_and_follows_a_run(client: ModuleType, tmp_path: Path) -> None:
    if reason := client.missing():
        pytest.skip(f"NOT RUN: {reason}")
    async with against_ours.serving(tmp_path, retry=True) as server:
        case = await against_ours.case(server, client)
    assert case.failures == ()
    assert client is not gtls or "type=Retry" in case.raw


async def test_our_client_fetches_from_ngtcp2(tmp_path: Path) -> None:
    if reason := gtls.missing():
        pytest.skip(f"NOT RUN: {reason}")
    async with against_ours.serving(tmp_path, retry=False) as server:
        tls = server.shell.state_dir / "tls"
        case = await our_client.case(tls / "ca.pem", tls / "leaf.pem", retry=True)
    assert case.failures == ()
    assert "Token was successfully validated" in case.raw


def test_what_is_missing_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(curl, "find_spec", lambda _: None)
    monkeypatch.setattr(picoquic, "ENVIRONMENT", tmp_path / "none")
    monkeypatch.setattr(program, "RESULTS", tmp_path / "results.txt")
    with pytest.raises(SystemExit) as ended:
        program.main()
    said = str(ended.value)
    for words in ("apt-get install ngtcp2-client", "pip install", "apt-get install chromium", "just interop"):
        assert words in said
    assert not program.RESULTS.exists()


def test_another_version_of_a_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert "is not installed" in (chromium.missing(tmp_path) or "")
    wanted = json.loads((chromium.HERE / "package.json").read_text("utf-8"))["dependencies"]["playwright-core"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", wanted)
    installed = tmp_path / "playwright-core"
    installed.mkdir()
    (installed / "package.json").write_text(json.dumps({"version": wanted}))
    assert chromium.missing(tmp_path) is None
    (installed / "package.json").write_text(json.dumps({"version": "0.0.1"}))
    assert "is not installed" in (chromium.missing(tmp_path) or "")


def test_a_case_that_failed_makes_the_program_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> list[tuple[str, Case]]:
        return [("client a: ok", Case("a", (), "said a")), ("client b: why", Case("b", ("why",), "x" * 100_000))]

    monkeypatch.setattr(program, "CLIENTS", ())
    monkeypatch.setattr(program, "run", run)
    monkeypatch.setattr(program, "RESULTS", tmp_path / "results.txt")
    with pytest.raises(SystemExit, match=r"see results\.txt"):
        program.main()
    written = program.RESULTS.read_text("utf-8")
    assert "== client a: ok\nsaid a\n" in written
    assert len(written) < 3 * program.KEPT


GOOD = Answer(200, "id: 1\ndata: x\n\nid: 2\ndata: y\n\n", "h3")


@pytest.mark.parametrize(
    ("health", "events", "why"),
    [
        (GOOD, GOOD, ""),
        (GOOD, None, ""),
        (Answer(200, "ok", "h2"), GOOD, "answered with 200 over h2"),
        (GOOD, Answer(401, "", "h3"), "answered with 401 over h3"),
        (GOOD, Answer(200, "id: 1\n\n", "h3"), "1 events instead of 2"),
        (GOOD, Answer(200, GOOD.body + "id: 2\n\n", "h3"), "3 events instead of 2"),
        (Answer(200, "", "h3"), None, "is empty"),
    ],
)
def test_what_a_client_got_wrong_is_a_failure(health: Answer, events: Answer | None, why: str) -> None:
    failures = against_ours.failures(Talk("1", health, events, ""), [1, 2])
    assert any(why in each for each in failures) if why else not list(failures)


def test_heartbeats_are_no_events() -> None:
    assert sequence(": still here\n\nid: 7\nevent: X\ndata: {}\n\n") == [7]
