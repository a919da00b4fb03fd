import pytest
import trio

from palyra_trio.cli import demo, demo_injection
from palyra_trio.cli.demo_injection import Stage
from tests.cli.conftest import Home, Palyra


def test_when_all_claims_hold_the_exit_status_is_0(palyra: Palyra, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(stage: Stage) -> None:
        await trio.lowlevel.checkpoint()
        assert stage.folder.is_dir()
        stage.claims.act("1. An act")
        stage.claims.claim("it holds", True, "tape: this", "and that")

    monkeypatch.setattr(demo_injection, "play", play)
    result = palyra("demo", "injection")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "",
        "1. An act",
        "  ok     it holds",
        "           tape: this",
        "           and that",
        "",
        "1 claims hold, 0 do not or could not be shown",
    ]
    assert not home.state_dir.exists()


async def _does_not_hold(stage: Stage) -> None:
    await trio.lowlevel.checkpoint()
    stage.claims.claim("it holds", False)
    stage.claims.claim("another holds", True)


async def _cannot_be_shown(stage: Stage) -> None:
    await trio.lowlevel.checkpoint()
    stage.claims.unavailable("there is no sandbox", "install one\n  like this")


async def _takes_too_long(stage: Stage) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("play", "said"),
    [
        (_does_not_hold, "  FAILED it holds\n"),
        (_cannot_be_shown, "  unavailable: there is no sandbox\n           install one\n             like this\n"),
        (_takes_too_long, "  FAILED the demonstration ends within 0 s\n"),
    ],
)
def test_a_claim_that_was_not_shown_is_told_by_the_exit_status(
    palyra: Palyra, monkeypatch: pytest.MonkeyPatch, play: object, said: str
) -> None:
    monkeypatch.setattr(demo_injection, "play", play)
    if play is _takes_too_long:
        monkeypatch.setattr(demo, "LIMIT_S", 0.0)
    result = palyra("demo", "injection")
    assert result.exit_code == 1, result.output
    assert said in result.stdout


def test_what_a_claim_quotes_cannot_pass_for_another_line(capsys: pytest.CaptureFixture[str]) -> None:
    demo.Claims().claim("no", False, "prompt: x\n  ok     yes\x1b[2K")
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2
    assert "\x1b" not in out
