"""Why a call went as it did, and what would be decided of another: in words, with the policies that decide."""

from pathlib import Path
from urllib.parse import urlencode

import pytest

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Scope
from palyra_trio.core.messages import ToolCall
from palyra_trio.guard.policy_set import PolicySet
from palyra_trio.guard.policy_text import PolicySource
from palyra_trio.transports.console.policy_questions import call_of
from tests.fakes import ME, OTHER, FakeProvider, says
from tests.transports.console.browsing import Console, Page, open_console

READER = frozenset({Scope.READ})
XSS = '"><script>alert(1)</script>'
NEVER = '@id("never")\n@reason("not that one")\nforbid (principal, action, resource)\nwhen { context.common.tool.name == "clock.now" };\n'


async def ran(console: Console, *calls: ToolCall, context: object = ME) -> str:
    provider = FakeProvider(says("", *calls), says("done"))
    tape = await console.runtime.run("Look around", provider, context, attended=False)  # type: ignore[arg-type]
    return tape.rows[0].stream.removeprefix("run:")


async def asked(console: Console, **fields: str) -> Page:
    return await console.visitor(scopes=READER).get(f"/policy/test?{urlencode(fields)}")


async def test_before_anything_has_run_there_is_nothing_to_ask_of(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        assert "Nothing has run yet, so nothing was decided." in await console.visitor().get("/policy/why")


async def test_the_calls_of_a_run_are_told_with_the_policies_that_decided(tmp_path: Path) -> None:
    policies = PolicySet([PolicySource("mine.cedar", NEVER)])
    async with open_console(tmp_path, policies=policies) as console:
        run_id = await ran(console, ToolCall("a", "files.list", {"path": "."}), ToolCall("b", "clock.now"))
        browser = console.visitor(scopes=READER)
        assert f"/policy/why?run={run_id}" in (await browser.get("/policy/why")).text
        page = await browser.get(f"/policy/why?run={run_id}")
        assert "allow: it only reads inside the workspace" in page
        assert "deny: not that one" in page
        assert "/policy/text?of=mine.cedar&amp;workspace=" in page.text
        assert "mine.cedar, line 1" in page
        assert "Other policies are in force since." not in page
        one = await browser.get(f"/policy/why?run={run_id}&call=b")
        assert "clock.now" in one
        assert "files.list" not in one


async def test_it_is_said_that_other_policies_are_in_force_since(tmp_path: Path) -> None:
    policies = PolicySet([PolicySource("mine.cedar", NEVER)])
    async with open_console(tmp_path, policies=policies) as console:
        run_id = await ran(console, ToolCall("b", "clock.now"))
        await console.runtime.gateway.policies.reload("user:me")  # the folder has no files
        page = await console.visitor().get(f"/policy/why?run={run_id}")
        assert "Other policies are in force since." in page
        assert "It is in force no more." in page


async def test_a_run_that_is_not_there_and_one_of_others_are_told_alike(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        theirs = await ran(console, ToolCall("b", "clock.now"), context=OTHER)
        browser = console.visitor()
        for run_id in (theirs, "ZZZZ", "last"):
            page = await browser.get(f"/policy/why?run={run_id}")
            assert f"There is no run &#39;{run_id}&#39;" in page.text
            assert "clock.now" not in page
        assert "Nothing has run yet" not in await console.visitor(OTHER).get("/policy/why")


async def test_what_a_model_called_is_only_text(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        run_id = await ran(console, ToolCall(XSS, XSS, {"x": XSS}))
        page = await console.visitor().get(f"/policy/why?run={run_id}")
        assert "alert(1)" in page
        assert "<script>alert" not in page.text
        for query in ({"run": XSS}, {"run": run_id, "call": XSS}):
            assert "<script>alert" not in (await console.visitor().get(f"/policy/why?{urlencode(query)}")).text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tool": "files.read", "path": "a.txt"}, "Allowed it only reads inside the workspace"),
        ({"tool": "files.write", "path": "a.txt"}, "A person is asked"),
        ({"tool": "fetch.get", "host": "example.org:8080"}, "fetch.get on example.org:8080"),
        ({"tool": "fetch.get", "host": "example.org", "ip_class": "metadata"}, "Denied"),
        ({"tool": "clock.now"}, "Denied not that one"),
    ],
)
async def test_what_would_be_decided_is_told_in_words(tmp_path: Path, fields: dict[str, str], words: str) -> None:
    policies = PolicySet([PolicySource("mine.cedar", NEVER)])
    async with open_console(tmp_path, policies=policies) as console:
        page = await asked(console, **fields)
        assert words in page
        assert "once a person says yes to this call" in page
        for name, text in fields.items():
            assert name == "tool" or f'name="{name}" value="{text}"' in page.text or f"selected>{text}<" in page.text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tool": "files.read"}, "needs a path"),
        ({"tool": "clock.now", "host": "h"}, "has no host"),
        ({"tool": "no.such"}, "There is no tool"),
        ({"tool": "fetch.get", "host": "h:99999"}, "99999 is no port"),
        ({"tool": "fetch.get", "host": f"h:{'9' * 5000}"}, "is no port"),
        ({"tool": "fetch.get", "host": "h", "ip_class": "odd"}, "This describes no call"),
    ],
)
async def test_what_describes_no_call_is_refused_beside_what_was_typed(
    tmp_path: Path, fields: dict[str, str], words: str
) -> None:
    async with open_console(tmp_path) as console:
        page = await asked(console, **fields, workspace="/kept")
        assert page.status == 200
        assert words in page
        assert 'name="workspace" value="/kept"' in page.text


async def test_a_link_that_names_a_tool_alone_is_a_beginning_and_no_fault(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        page = await asked(console, tool="files.read")
        assert "needs a path" not in page
        assert 'value="files.read" selected' in page.text
        assert "A person is asked" not in page
        assert "Allowed" in await asked(console, tool="clock.now")


async def test_a_description_is_only_text(tmp_path: Path) -> None:
    async with open_console(tmp_path) as console:
        for fields in ({"tool": XSS}, {"tool": "files.read", "path": XSS}, {"tool": "files.read", "host": XSS}):
            assert "<script>alert" not in (await asked(console, **fields)).text


def test_a_form_says_no_more_of_a_call_than_its_fields() -> None:
    found = call_of(
        {"tool": "t", "host": "h:8080", "exists": "yes", "sandbox_tier": "3", "user": "user:root", "now_s": "1"}
    )
    assert (found.host, found.port, found.exists, found.sandbox_tier) == ("h", 8080, True, 3)
    assert (found.user, found.now_s, found.tainted) == ("user:someone", 0, False)
    assert call_of({"tool": "t", "sandbox_tier": "99"}).sandbox_tier == 0
    with pytest.raises(InvalidArgument, match="is no port"):
        call_of({"tool": "t", "host": "h:0"})
