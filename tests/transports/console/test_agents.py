"""Agents: listed, defined, changed, bound and removed by who may; looked at by who may only read."""

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.agents import AS_CONFIGURED, DEFAULT_INSTRUCTIONS, AgentSpec, Limits
from palyra_trio.core.bindings import BindingPlace, Target
from palyra_trio.core.commands import BindAgent, DefineAgent
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Scope
from palyra_trio.transports.console.agents import NEW, spec_of, typed_of
from tests.fakes import ME, OTHER, FakeProvider, says
from tests.transports.console.browsing import Console, open_console

XSS = '"><img src=x onerror=alert(1)>'
READER = frozenset({Scope.READ})
TOOLS = ("clock.now", "files.list", "files.read")
FORM = {
    **typed_of(AgentSpec("", limits=AS_CONFIGURED)),
    "name": "reviewer",
    "model": "acme/large",
    "instructions": "Look\r\ntwice.",
}


async def define(console: Console, **fields: object) -> None:
    await console.runtime.do(DefineAgent(AgentSpec(**fields)))  # type: ignore[arg-type]


async def bindings(console: Console) -> list[tuple[str, str, str]]:
    found = await console.runtime.gateway.ask(lambda reader: reader.bindings())
    return [(place.target, place.name, agent) for place, agent in found]


@given(
    st.builds(
        AgentSpec,
        st.just("a"),
        st.text("abc/-", max_size=9),
        st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])),
        st.none() | st.sets(st.sampled_from(TOOLS)).map(lambda names: tuple(sorted(names))),
        st.builds(Limits, *[st.integers(0, 10**8)] * 4),
        st.none() | st.just({"type": "object"}),
    )
)
def test_a_form_says_what_an_agent_is(spec: AgentSpec) -> None:
    assert spec_of("a", typed_of(spec), TOOLS) == spec


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("turns", "many", "is no number"),
        ("tool_s", "-1", "is no number"),
        ("turns", "9" * 5000, "is no number"),
        ("active_s", "²", "is no number"),
        ("answer_schema", "{", "is no JSON"),
        ("answer_schema", "[" * 100_000, "is no JSON"),
        ("answer_schema", "[]", "is no JSON object"),
    ],
)
def test_what_no_agent_can_have_is_refused(field: str, text: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        spec_of("a", {**FORM, field: text}, TOOLS)


async def test_the_list_marks_the_default_and_says_who_answers(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        await define(console, name="reviewer", model="acme/large", tools=("files.read",))
        page = await console.visitor(scopes=READER).get("/agents")
        assert "default default the configured model" in page
        assert "reviewer acme/large" in page
        assert "1 tool: files.read" in page
        assert "answered by default , the default agent." in page
        assert "No agent is bound to anything." in page


async def test_an_agent_is_defined_and_then_changed(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        assert "A new agent" in await browser.get(NEW)
        done = await browser.post("/agents", {**FORM, "tools": "some", "tool.files.read": "yes", "next": NEW})
        assert (done.status, done.headers["Location"]) == (303, "/agents/reviewer")
        spec = (await console.runtime.gateway.agent("reviewer")).spec
        assert spec == AgentSpec("reviewer", "acme/large", "Look\ntwice.", ("files.read",), AS_CONFIGURED)
        await browser.post("/agents/reviewer/define", {**typed_of(spec), "turns": "7", "tools": "all"})
        changed = (await console.runtime.gateway.agent("reviewer")).spec
        assert changed == attrs.evolve(spec, tools=None, limits=attrs.evolve(AS_CONFIGURED, turns=7))
        assert 'value="acme/large"' in (await browser.get("/agents/reviewer")).text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": "no blanks"}, "is no name for an agent"),
        ({"turns": "none"}, "'none' is no number"),
        ({"answer_schema": '{"type": 7}'}, ""),
    ],
)
async def test_what_is_refused_is_told_beside_what_was_typed(
    tmp_path: Path, changed: dict[str, str], words: str
) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        form = {**FORM, "instructions": "kept words", "tools": "some", "tool.files.list": "yes", **changed}
        page = await browser.post("/agents", form)
        assert page.status == 400
        assert words in page
        assert 'role="alert"' in page.text
        assert "kept words" in page
        assert 'name="tool.files.list" value="yes" checked' in page.text
        assert [each.spec.name for each in await console.runtime.gateway.agents()] == ["default"]


@pytest.mark.parametrize("path", ["/agents", "/agents/default/define"])
async def test_a_form_without_its_fields_is_refused(tmp_path: Path, path: str) -> None:
    async with open_console(tmp_path) as console:
        assert (await console.visitor().post(path, {"name": "writer"})).status == 400


async def test_a_name_that_is_taken_is_not_defined_over(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        await define(console, name="reviewer", model="the/first")
        page = await console.visitor().post("/agents", FORM)
        assert page.status in (400, 409)
        assert 'value="acme/large"' in page.text
        assert (await console.runtime.gateway.agent("reviewer")).spec.model == "the/first"


async def test_changing_one_that_is_not_there_defines_nothing(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        assert (await console.visitor().post("/agents/reviewer/define", FORM)).status == 404
        assert (await console.visitor().get("/agents/reviewer")).status == 404


async def test_the_default_is_chosen_and_an_agent_removed(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        await define(console, name="reviewer")
        await browser.post("/agents/reviewer/default")
        assert (await console.runtime.gateway.agent("reviewer")).is_default
        done = await browser.post("/agents/reviewer/remove", {"next": "/agents/reviewer"})
        assert done.headers["Location"] == "/agents"
        assert (await console.runtime.gateway.agent("default")).is_default


async def test_the_built_in_agent_is_not_deleted_but_got_back(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        page = await browser.get("/agents/default")
        assert "built in" in page
        assert "/agents/default/remove" not in page.text
        await browser.post("/agents/default/define", {**FORM, "name": "default"})
        assert "Back to the built-in one" in await browser.get("/agents/default")
        await browser.post("/agents/default/remove")
        assert (await console.runtime.gateway.agent("default")).spec.instructions == DEFAULT_INSTRUCTIONS


async def test_an_agent_is_bound_and_unbound(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        browser = console.visitor()
        await define(console, name="reviewer")
        accepted = await console.runtime.start("Paint the fence")
        await console.runtime.ended(accepted.run_id)
        for target, place in (("channel", "telegram"), ("session", "last"), ("principal", "user:me")):
            done = await browser.post("/agents/reviewer/bindings", {"target": target, "place": place})
            assert done.headers["Location"] == "/agents/reviewer"
        assert await bindings(console) == [
            ("channel", "telegram", "reviewer"),
            ("principal", "user:me", "reviewer"),
            ("session", accepted.session_id, "reviewer"),
        ]
        page = await browser.get("/agents")
        assert "session Paint the fence → reviewer" in page
        assert "which is bound to your principal" in page
        await browser.post("/bindings/remove", {"target": "channel", "place": "telegram", "next": "/agents"})
        assert "telegram" not in await browser.get("/agents/reviewer")


@pytest.mark.parametrize(
    ("target", "place", "words"),
    [
        ("planet", "mars", "cannot be bound to a planet"),
        ("session", "ZZZ", "no session"),
        ("channel", "", "characters"),
    ],
)
async def test_a_binding_to_nothing_is_refused_beside_what_was_typed(
    tmp_path: Path, target: str, place: str, words: str
) -> None:
    async with open_console(tmp_path) as console:
        page = await console.visitor().post("/agents/default/bindings", {"target": target, "place": place})
        assert page.status in (400, 404)
        assert words in page
        assert f'name="place" value="{place}"' in page.text
        assert await bindings(console) == []


async def test_the_bindings_of_others_are_not_told(tmp_path: Path) -> None:
    async with open_console(tmp_path, FakeProvider(says("done"))) as console:
        theirs = await console.runtime.start("their secret plan", context=OTHER)
        await console.runtime.ended(theirs.run_id, OTHER)
        for place in (
            BindingPlace(Target.SESSION, theirs.session_id),
            BindingPlace(Target.PRINCIPAL, OTHER.principal),
            BindingPlace(Target.CHANNEL, "telegram"),
        ):
            await console.runtime.do(BindAgent(place, "default"), OTHER)
        page = await console.visitor(scopes=READER).get("/agents")
        assert "telegram" in page
        assert OTHER.principal not in page
        everything = await console.visitor().get("/agents")
        assert OTHER.principal in everything  # which an administrator manages
        for text in ("their secret plan", theirs.session_id):
            assert text not in everything.text
            assert text not in page.text
        bound = {"target": "session", "place": theirs.session_id}
        assert (await console.visitor().post("/bindings/remove", bound)).status == 404


async def test_who_may_only_read_is_offered_no_change_and_refused_one(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        await define(console, name="reviewer", instructions="Look twice.")
        browser = console.visitor(scopes=READER)
        page = await browser.get("/agents/reviewer")
        assert "Look twice." in page
        main = page.text.partition("<main")[2]
        assert "<form" not in main
        assert "<form" not in (await browser.get("/agents")).text.partition("<main")[2]
        assert (await browser.get(NEW)).status == 403
        for path in (
            "/agents",
            "/agents/reviewer/define",
            "/agents/reviewer/remove",
            "/agents/reviewer/default",
            "/agents/reviewer/bindings",
            "/bindings/remove",
        ):
            assert (await browser.post(path, FORM)).status == 403
        assert (await console.runtime.gateway.agent("reviewer")).spec.instructions == "Look twice."


async def test_what_an_agent_is_told_is_only_text(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        await define(console, name="reviewer", model=XSS, instructions=XSS, answer_schema={"title": XSS})
        await console.runtime.do(BindAgent(BindingPlace(Target.CHANNEL, XSS), "reviewer"), ME)
        for browser in (console.visitor(), console.visitor(scopes=READER)):
            for path in ("/agents", "/agents/reviewer"):
                page = await browser.get(path)
                assert "onerror" in page.text
                assert "<img" not in page.text
        refused = await console.visitor().post("/agents", {**FORM, "name": XSS, "model": XSS})
        assert refused.status == 400
        assert "<img" not in refused.text
