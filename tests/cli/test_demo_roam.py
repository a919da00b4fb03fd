"""The demonstration of a client that roams: whole, where hosts can be made; and what it says where they cannot."""

import re
from pathlib import Path

import pytest
import trio

from palyra_trio.cli import demo_roam
from palyra_trio.cli.demo import Claims
from palyra_trio.cli.demo_hosts import missing
from palyra_trio.cli.demo_roam import Client, play
from palyra_trio.core.codec import TapeRow
from tests.processes import Shell

LONGEST_S = 60.0


@pytest.mark.skipif(missing() is not None, reason=f"NOT RUN: {missing()}")
@pytest.mark.slow
def test_a_client_keeps_its_connection_and_then_its_place(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.processes.PATIENCE_S", LONGEST_S)
    done = shell.run("demo", "roam")
    out = done.stdout
    assert (done.returncode, done.stderr) == (0, ""), out
    assert "reconnects 0\n" in out
    found = re.search(r"h2 after_seq=(\d+), gaps 0, duplicates 0\n", out)
    assert found
    assert out.index("reconnects 0") < found.start()
    assert int(found[1]) > 2 * demo_roam.ROWS
    assert out.endswith("3 claims hold, 0 do not or could not be shown\n")
    assert not shell.state_dir.exists()


async def test_where_no_hosts_can_be_made_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_roam, "missing", lambda: ("there is no `ip`", "install iproute2"))
    claims = Claims()
    await play(tmp_path, claims)
    assert (claims.held, claims.failed) == (0, 1)
    assert "unavailable: there is no `ip`\n           install iproute2\n" in capsys.readouterr().out


async def test_a_machine_that_refuses_says_what_it_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_roam, "missing", lambda: None)
    monkeypatch.setattr("palyra_trio.cli.demo_hosts.COMMAND", ("sh", "-c", "echo not here >&2; exit 1"))
    claims = Claims()
    await play(tmp_path, claims)
    assert (claims.held, claims.failed) == (0, 1)
    assert "not here" in capsys.readouterr().out


class Paged:
    """Rows as a follower brings them, by their seqs."""

    def __init__(self, *pages: tuple[int, ...]) -> None:
        self._pages = [tuple(TapeRow(seq, "s", seq, 1, 0, b"", bytes([seq])) for seq in page) for page in pages]

    async def next_rows(self) -> tuple[TapeRow, ...]:
        await trio.lowlevel.checkpoint()
        return self._pages.pop(0) if self._pages else ()


@pytest.mark.parametrize(
    ("pages", "gaps", "duplicates"),
    [
        (((1, 2), (3, 4)), 0, 0),
        (((1, 2), (4,)), 1, 0),
        (((1, 2), (2, 3)), 0, 1),
        (((2, 3),), 1, 0),
    ],
)
async def test_what_is_missing_or_twice_is_counted(
    pages: tuple[tuple[int, ...], ...], gaps: int, duplicates: int
) -> None:
    client = Client()
    await client.receive(Paged(*pages), 100)
    assert (client.gaps, client.duplicates) == (gaps, duplicates)


async def test_a_connection_is_counted_with_the_place_where_it_began() -> None:
    client = Client()
    client.note("connected over quic://192.0.2.130:7444")
    await client.receive(Paged((1, 2), (3,)), 3)
    client.note("quic://192.0.2.130:7444 does not answer within 1 s")
    client.note("connected over grpcs://192.0.2.130:7443")
    assert client.connections == ["quic", "h2"]
    assert client.places == [0, 3]
