"""What a person is shown before they decide, word for word: nothing is cut, and nothing hides."""

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.messages import ToolCall
from palyra_trio.core.policy import (
    CallFacts,
    Decision,
    HostResource,
    PathResource,
    Pattern,
    ProgramFacts,
    SecretResource,
    ToolResource,
)
from palyra_trio.core.tape import FileChange
from palyra_trio.core.text import visible
from palyra_trio.runtime.prompts import LONG_CHARACTERS, prompt_for
from palyra_trio.tools.registry import Plan

ASKS = Decision("ask", ("write-in-workspace", "mine"), "it changes a file, so a person decides", "H", standing=True)
WRITE = CallFacts(
    "files.write", "fs.write", "medium", read_only=False, resources=(PathResource("notes/a.md"),), arguments_digest="aa", workspace="/w"
)  # fmt: skip
NO_PREVIEW = Plan()
DIFF = Plan("--- /dev/null\n+++ b/notes/a.md\n@@ -0,0 +1 @@\n+hello\n", (FileChange("notes/a.md", None, "aa"),))


def prompt(
    facts: CallFacts = WRITE,
    plan: Plan = NO_PREVIEW,
    pattern: Pattern | None = None,
    decision: Decision = ASKS,
    **arguments: object,
) -> str:
    return prompt_for(ToolCall("c", facts.tool, arguments), decision, facts, plan, pattern, question=False)


# --- word for word ---


def test_a_new_file_is_shown_as_a_diff() -> None:
    pattern = Pattern("files.write", "notes/*")
    assert prompt(plan=DIFF, pattern=pattern, path="notes/a.md", text="hello\n") == (
        "files.write asks: it changes a file, so a person decides\n"
        "  workspace  /w\n"
        "  file       notes/a.md (new)\n"
        "  risk       medium\n"
        "  policy     write-in-workspace, mine\n"
        "  runs       in the daemon's own process\n"
        "  may stand  files.write notes/* (for the session, or a time)\n"
        '  path       "notes/a.md"\n'
        '  text       "hello\\n"\n'
        "--- /dev/null\n"
        "+++ b/notes/a.md\n"
        "@@ -0,0 +1 @@\n"
        "+hello"
    )


def test_a_request_to_another_machine_names_the_place_and_the_method() -> None:
    site = HostResource("example.com", 8443, "https", "POST", "public")
    facts = attrs.evolve(WRITE, tool="fetch.post", action="net.fetch", risk="high", resources=(site,))
    decision = Decision("ask", ("fetch",), "it talks to another machine")
    assert prompt(facts, Plan("POST https://example.com:8443/\nbody, 2 bytes:\nhi"), decision=decision, body="hi") == (
        "fetch.post asks: it talks to another machine\n"
        "  workspace  /w\n"
        "  host       POST https://example.com:8443 (public address)\n"
        "  risk       high\n"
        "  policy     fetch\n"
        "  runs       in the daemon's own process\n"
        '  body       "hi"\n'
        "  | POST https://example.com:8443/\n"
        "  | body, 2 bytes:\n"
        "  | hi"
    )


def test_a_program_is_shown_with_its_path_and_its_sandbox() -> None:
    program = ProgramFacts("/usr/bin/env", 3, opaque=True, network=False, cwd_inside=True)
    facts = CallFacts(
        "process.run", "process.exec", "high", False, (ToolResource("process.run"),), "aa", "/w", 4, program
    )
    assert prompt(facts, argv=["env", "x", "y"]) == (
        "process.run asks: it changes a file, so a person decides\n"
        "  workspace  /w\n"
        "  program    /usr/bin/env\n"
        "  risk       high\n"
        "  policy     write-in-workspace, mine\n"
        "  runs       in sandbox tier 4\n"
        '  argv       ["env", "x", "y"]'
    )


def test_everything_that_a_call_touches_is_named_in_its_order() -> None:
    touched = (
        PathResource("a", exists=True),
        PathResource("/etc/b", inside_workspace=False),
        PathResource("c", exists=True, inside_workspace=False),
        SecretResource("github", "api.github.com", 443),
    )
    shown = prompt(attrs.evolve(WRITE, resources=touched)).splitlines()[2:6]
    assert shown == [
        "  file       a (exists)",
        "  file       /etc/b (new, outside the workspace)",
        "  file       c (exists, outside the workspace)",
        "  secret     github, sent to api.github.com:443",
    ]


def test_what_a_program_may_reach_and_which_secrets_it_gets_is_named() -> None:
    host = HostResource("index.example", 443, "tcp", "CONNECT", "public")
    touched = (host, SecretResource("index", "index.example", 443), SecretResource("signing"))
    program = ProgramFacts("/usr/bin/pip", 3, opaque=True, network=True, cwd_inside=True)
    shown = prompt(attrs.evolve(WRITE, resources=touched, program=program)).splitlines()[2:5]
    assert shown == [
        "  network    index.example:443 (public address), for whatever the program says there",
        "  secret     index, given to the program, which may send it to index.example:443",
        "  secret     signing, given to the program, which reaches no host",
    ]


def test_a_question_of_the_agent_is_shown_as_its_words_alone() -> None:
    plan = Plan("Which one?\n1. red\n2. blue\u202e")
    call = ToolCall("c", "ask_user", {"question": "x" * 300})
    assert prompt_for(call, ASKS, WRITE, plan, None, question=True) == (
        "the agent asks:\n  | Which one?\n  | 1. red\n  | 2. blue\\u202e"
    )


# --- nothing is cut ---


@pytest.mark.parametrize("extra", [0, 1, 10_000])
def test_a_long_argument_is_left_to_the_preview_where_there_is_one(extra: int) -> None:
    text = "x" * (LONG_CHARACTERS - 2 + extra)
    plan = Plan(f"+{text}\n")
    shown = prompt(plan=plan, text=text)
    assert text in shown
    assert ("characters, which make the change below" in shown) == (extra > 0)
    assert (f'"{text}"' in shown) == (extra == 0)


def test_a_long_argument_is_shown_whole_where_there_is_no_preview() -> None:
    text = "x" * 100_000
    assert f'"{text}"' in prompt(text=text)


@given(
    st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.text(max_size=300) | st.integers(), max_size=4)
)
def test_every_argument_stands_in_the_prompt_in_order_of_name(arguments: dict[str, object]) -> None:
    lines = prompt(decision=ASKS, **{f"z_{name}": value for name, value in arguments.items()}).split("\n")  # type: ignore[arg-type]
    named = sorted((f"z_{name}", value) for name, value in arguments.items())
    assert lines[6:] == [visible(f"  {name:<10} {json.dumps(value, ensure_ascii=False)}") for name, value in named]


# --- nothing hides ---


@pytest.mark.parametrize(
    "hidden", ["\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\x1b", "\x00", "\x7f", "\u2028", "\r", "\U000e0041"]
)
def test_a_character_that_hides_or_turns_text_is_spelled_out_wherever_it_stands(hidden: str) -> None:
    name = f"a{hidden}b"
    facts = attrs.evolve(WRITE, resources=(PathResource(name),), workspace=name)
    decision = attrs.evolve(ASKS, reason=name)
    shown = prompt(facts, Plan(f"+{name}\n"), Pattern(name, name), decision, path=name)
    assert hidden not in shown
    assert shown.count("a\\") == 7


def test_a_name_with_a_line_break_in_it_cannot_pass_for_another_line() -> None:
    name = "a.md (new)\n  risk       low"
    facts = attrs.evolve(WRITE, resources=(PathResource(name),), workspace=name)
    decision = attrs.evolve(ASKS, reason=f"{name} leads to a key")
    shown = prompt(facts, Plan(), Pattern("files.write", f"{name}/*"), decision, path=name).split("\n")
    assert [line for line in shown if line.startswith("  risk")] == ["  risk       medium"]
    assert len(shown) == 8
    assert shown[2] == "  file       a.md (new)\\n  risk       low (new)"


def test_lines_and_tabs_of_a_preview_stay() -> None:
    assert prompt(plan=Plan("+\ta\n+b\n")).endswith("\n  | +\ta\n  | +b")


def test_blanks_that_would_wrap_into_a_line_of_their_own_are_counted() -> None:
    path = PathResource("a" + " " * 70 + "risk       low")
    shown = prompt(
        attrs.evolve(WRITE, resources=(path,)), Plan("+x" + " " * 100 + "allow\n", (FileChange("a", None, "aa"),))
    )
    assert "  file       a[70 blanks]risk       low (new)" in shown
    assert "+x[100 blanks]allow" in shown
