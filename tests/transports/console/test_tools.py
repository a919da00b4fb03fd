"""The tools: what each takes, what is said of it, and saying something else."""

from pathlib import Path
from typing import Literal

import attrs
import pytest

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Scope
from palyra_trio.core.policy import PolicyRules
from palyra_trio.guard.posture import Posture
from palyra_trio.tools.registry import ToolSpec
from palyra_trio.transports.console.tools import Argument, posture_of, shown
from tests.fakes import CONFIG
from tests.transports.console.browsing import Console, open_console

READER = frozenset({Scope.READ})
XSS = '"><script>alert(1)</script>'


@attrs.frozen
class Takes:
    path: str
    kind: Literal["a", "b"] = "a"
    names: tuple[str, ...] = ()
    most: int | None = None
    depth: int = 3
    quick: bool = True


SPEC = ToolSpec("files.walk", "Walk a folder. And more.", Takes, "fs.read", "low", read_only=True, idempotent=True)


def postures(console: Console) -> tuple[Posture, ...]:
    return console.runtime.gateway.policies.postures()


def test_what_a_tool_takes_is_told_argument_by_argument() -> None:
    assert shown(SPEC, (), PolicyRules()).arguments == (
        Argument("path", "string", None),
        Argument("kind", "a | b", "a"),
        Argument("names", "list of string", ""),
        Argument("most", "integer or nothing", ""),
        Argument("depth", "integer", "3"),
        Argument("quick", "boolean", "true"),
    )


@pytest.mark.parametrize(
    ("said", "rules", "mode"),
    [
        ((), PolicyRules(), ""),
        ((Posture("files.*", "allow"),), PolicyRules(), "allow"),
        ((Posture("files.*", "allow"), Posture("files.walk", "ask")), PolicyRules(), "ask"),
        ((Posture("files.walk", "allow"),), PolicyRules(deny=("files.*",)), "disable"),
        ((Posture("process.*", "disable"),), PolicyRules(ask=("net.*",)), ""),
    ],
)
def test_the_strictest_of_what_is_said_is_told_at_a_glance(
    said: tuple[Posture, ...], rules: PolicyRules, mode: str
) -> None:
    assert shown(SPEC, said, rules).mode == mode


@pytest.mark.parametrize(
    ("form", "posture"),
    [
        ({"tool": "a", "verdict": "allow"}, Posture("a", "allow")),
        ({"tool": "a", "verdict": "ask", "name": "left over"}, Posture("a", "ask")),
        ({"tool": "a", "verdict": "ask", "scope": "agent", "name": " r "}, Posture("a", "ask", "agent", "r")),
        ({"tool": "a", "verdict": "disable", "span": "1h"}, Posture("a", "disable", until_s=4600)),
    ],
)
def test_a_form_says_a_posture(form: dict[str, str], posture: Posture) -> None:
    assert posture_of(form, 1000) == posture


@pytest.mark.parametrize(
    "form",
    [
        {"tool": "a"},
        {"tool": "a", "verdict": "perhaps"},
        {"tool": "a", "verdict": "allow", "scope": "planet"},
        {"tool": "a", "verdict": "allow", "scope": "agent"},
        {"tool": "a", "verdict": "allow", "span": "1y"},
        {"tool": "", "verdict": "allow"},
    ],
)
def test_a_form_that_says_nothing_is_refused(form: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        posture_of(form, 1000)


async def test_every_tool_is_listed_and_what_programs_run_in(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        page = await console.visitor(scopes=READER).get("/tools")
        for name in console.runtime.gateway.tools.names():
            assert f'id="tool-{name}"' in page.text
        assert "no sandbox: no program can be run" in page
        assert "Nothing: the policies decide on each call." in page


async def test_who_opens_the_page_lets_no_canary_loose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_console(tmp_path) as console:
        proofs: list[None] = []

        async def prove() -> None:
            proofs.append(None)

        monkeypatch.setattr(console.runtime.gateway, "prove_sandbox", prove)
        await console.visitor().get("/tools")
        assert not proofs


async def test_something_is_said_of_a_tool_and_taken_back(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        done = await browser.post("/tools/say", {"tool": "clock.now", "verdict": "disable", "next": "/tools"})
        assert done.status == 303
        assert postures(console) == (Posture("clock.now", "disable"),)
        assert "disable clock.now everywhere" in await browser.get("/tools")
        said = {"tool": "clock.now", "scope": "global", "name": ""}
        assert (await browser.post("/tools/unsay", said)).status == 303
        assert postures(console) == ()


async def test_what_is_said_of_several_tools_is_told_apart_and_with_each(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, policy=PolicyRules(ask=("todo.*",)))
    async with open_console(tmp_path, config=config) as console:
        browser = console.visitor()
        form = {"tool": "files.*", "verdict": "allow", "scope": "workspace", "name": "/project", "span": "1d"}
        await browser.post("/tools/say", form)
        page = await browser.get("/tools")
        count = sum(name.startswith("files.") for name in console.runtime.gateway.tools.names())
        assert page.words.count("allow files.* for the workspace /project , until") == count + 1
        assert "ask by the configuration" in page


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"tool": "no.such", "verdict": "ask"}, "There is no tool"),
        ({"tool": "clock.now", "verdict": "ask", "scope": "agent"}, "needs a name"),
        ({"tool": XSS, "verdict": "ask"}, "There is no tool"),
    ],
)
async def test_what_cannot_be_said_is_refused_beside_what_was_typed(
    tmp_path: Path, form: dict[str, str], words: str
) -> None:
    async with open_console(tmp_path) as console:
        page = await console.visitor().post(
            "/tools/say", {**form, "name": "kept name"} if "scope" not in form else form
        )
        assert page.status in (400, 404)
        assert words in page
        assert XSS not in page.text
        assert postures(console) == ()


async def test_taking_back_what_was_never_said_is_refused(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        page = await console.visitor().post("/tools/unsay", {"tool": "clock.now", "scope": "global"})
        assert page.status == 404
        assert "Nothing was said of" in page


async def test_who_may_only_read_is_offered_no_change_and_refused_one(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        await console.runtime.gateway.policies.set_posture(Posture("clock.now", "ask"), "user:me")
        browser = console.visitor(scopes=READER)
        page = await browser.get("/tools")
        assert "ask clock.now everywhere" in page
        assert "<form" not in page.text.partition("<main")[2]
        for path in ("/tools/say", "/tools/unsay"):
            assert (await browser.post(path, {"tool": "clock.now", "verdict": "allow"})).status == 403
        assert postures(console) == (Posture("clock.now", "ask"),)
