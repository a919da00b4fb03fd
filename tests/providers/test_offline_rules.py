"""What the offline rules understand, word by word, and what they rather refuse."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.providers.offline_rules import (
    EXAMPLES,
    FIRST_LINES,
    HELLO_WORLD,
    MAX_ANDS,
    MAX_CHARACTERS,
    NotUnderstood,
    plan,
)

Call = tuple[str, dict[str, Any]]


def calls(prompt: str) -> list[Call]:
    return [(step.tool, step.arguments) for step in plan(prompt)]


def listing(path: str = ".") -> Call:
    return "files.list", {"path": path}


def reading(path: str, max_lines: int = 0, start_line: int = 1) -> Call:
    asked = {"path": path} | ({"start_line": start_line} if start_line > 1 else {})
    return "files.read", asked | ({"max_lines": max_lines} if max_lines else {})


def searching(pattern: str, path: str = ".", **more: str) -> Call:
    return "files.search", {"pattern": pattern, "path": path, **more}


def writing(path: str, text: str) -> Call:
    return "files.write", {"path": path, "text": text}


def editing(path: str, old: str, new: str) -> Call:
    return "files.edit", {"path": path, "old": old, "new": new}


NOW: Call = ("clock.now", {})


@pytest.mark.parametrize(
    ("prompt", "call"),
    [
        ("list the files here", listing()),
        ("What is in this folder?", listing()),
        ("what's in this folder", listing()),
        ("show me the files", listing()),
        ("What files are here?", listing()),
        ("show me what is in this directory", listing()),
        ("find all files", listing()),
        ("ls", listing()),
        ("List the files in docs.", listing("docs")),
        ('list files in "my docs"', listing("my docs")),
        ("what's in src?", listing("src")),
        ("list files in .", listing()),
        ("read README.md", reading("README.md")),
        ("Please read the file README.md.", reading("README.md")),
        ("could you show me README.md, please?", reading("README.md")),
        ("print the contents of a/b.txt", reading("a/b.txt")),
        ("what is in README.md", reading("README.md")),
        ("what does README.md say?", reading("README.md")),
        ("cat 'my notes.txt'", reading("my notes.txt")),
        ("show me the first 5 lines of README.md", reading("README.md", 5)),
        ("show the first lines of README.md", reading("README.md", FIRST_LINES)),
        ("read the first three lines of x", reading("x", 3)),
        ("head -n 3 a.txt", reading("a.txt", 3)),
        ("read README.md and show the first lines", reading("README.md", FIRST_LINES)),
        ("Read README.md, and then show me the first 5 lines of it, thanks!", reading("README.md", 5)),
        ("read lines 10 to 20 of a.txt", reading("a.txt", 11, 10)),
        ("search for TODO in src", searching("TODO", "src")),
        ("search for TODO", searching("TODO")),
        ("Search for hello world in this folder.", searching("hello world")),
        ('find the word "cat and dog" in notes.txt', searching("cat and dog", "notes.txt")),
        ("search for salt and pepper in all files", searching("salt and pepper")),
        ("find TODO in *.py", searching("TODO", glob="*.py")),
        ("find all *.py files in src", searching("", "src", glob="*.py")),
        ("which files contain TODO", searching("TODO")),
        ("search src for TODO", searching("TODO", "src")),
        ("grep TODO src", searching("TODO", "src")),
        ("what time is it", NOW),
        ("What's the time?", NOW),
        ("tell me the date", NOW),
        ('write "hello, then bye" to out.txt', writing("out.txt", "hello, then bye\n")),
        ("write hello world to out.txt", writing("out.txt", "hello world\n")),
        ("save 'a b' in a new file called notes/x.txt", writing("notes/x.txt", "a b\n")),
        ("create notes.txt with milk and eggs", writing("notes.txt", "milk and eggs\n")),
        ('create a file called notes.txt with the text "hi"', writing("notes.txt", "hi\n")),
        ("create hello.py", writing("hello.py", HELLO_WORLD)),
        ("write a hello world program to src/hi.py", writing("src/hi.py", HELLO_WORLD)),
        ("create an empty file a.txt", writing("a.txt", "")),
        ("replace foo with bar in a.txt", editing("a.txt", "foo", "bar")),
        ('in a.txt, replace "x in y" with "z"', editing("a.txt", "x in y", "z")),
        ('/tool files.read {"path": "a; and then b"}', ("files.read", {"path": "a; and then b"})),
        ("/tool clock.now", NOW),
    ],
)
def test_a_plain_request_is_one_call(prompt: str, call: Call) -> None:
    assert calls(prompt) == [call]
    assert calls(f"Please {prompt}") == [call]


@pytest.mark.parametrize(
    "prompt",
    ["LIST THE FILES HERE", "List The Files Here!", "  list   the files\there ", "list the files here, please"],
)
def test_case_spaces_and_politeness_do_not_matter(prompt: str) -> None:
    assert calls(prompt) == [listing()]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("list the files and read a.txt", [listing(), reading("a.txt")]),
        ("List the files. Then read a.txt; finally, what time is it?", [listing(), reading("a.txt"), NOW]),
        ("list the files, read a.txt and tell me the time", [listing(), reading("a.txt"), NOW]),
        ("list the files\nread a.txt", [listing(), reading("a.txt")]),
        ("create hello.py and then read it", [writing("hello.py", HELLO_WORLD), reading("hello.py")]),
        (
            "list the files here and then read README.md and show the first lines and then search for x in README.md",
            [listing(), reading("README.md", FIRST_LINES), searching("x", "README.md")],
        ),
        ('/tool files.list {"path": "a"} and then /tool clock.now {}', [("files.list", {"path": "a"}), NOW]),
        (
            'write "one" to a.txt, replace one with two in a.txt and show it',
            [writing("a.txt", "one\n"), editing("a.txt", "one", "two"), reading("a.txt")],
        ),
    ],
)
def test_several_requests_are_several_steps(prompt: str, expected: list[Call]) -> None:
    assert calls(prompt) == expected


@pytest.mark.parametrize(
    "prompt",
    [
        *("", "?", "hello", "please", "tell me a joke", "what is love", "what is 2+2", "delete README.md", "run ls"),
        *("write a poem about the sea in poem.txt", "create story.txt with a story", "write the time to now.txt"),
        *("list the files and dance", "read a.txt and summarize it", "search for foo then dance"),
        *("read it", "show the first lines", "list the files and show the first lines"),
        *("search the web for cats", "/tool files.read {path: a}", "/tool", "read a.txt b.txt"),
        "/tool files.read " + '{"path": ' * 20_000,
    ],
    ids=lambda prompt: prompt[:40],
)
def test_what_is_not_understood_whole_is_not_understood(prompt: str) -> None:
    with pytest.raises(NotUnderstood):
        plan(prompt)


def test_the_clause_that_no_rule_fits_is_named_as_it_was_written() -> None:
    with pytest.raises(NotUnderstood, match=r'^sing "la la" to me$'):
        plan('list the files, then sing "la la" to me; what time is it')


def test_every_example_is_understood() -> None:
    words = {"DIR": "src", "FILE": "a.txt", "TEXT": "word", "OLD": "x", "NEW": "y", "NAME": "files.list"}
    for example in EXAMPLES[:-1]:
        for word, stand_in in words.items():
            example = example.replace(word, stand_in)
        assert plan(example)
    assert len(plan("; ".join(EXAMPLES[:2]) + " then what time is it and ls")) == 4


@given(
    st.text(max_size=300)
    | st.lists(
        st.sampled_from(
            ["list", "files", "and", "then", "search", "for", "a.txt", '"', ",", "in", "it", "/tool", "{}", "read"]
        )
    ).map(" ".join)
)
def test_any_text_is_a_plan_or_not_understood(prompt: str) -> None:
    with suppress(NotUnderstood):
        assert plan(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "replace a with b in x.txt and " * MAX_ANDS + "dance",
        "and " * (MAX_CHARACTERS // 4),
        "a " * (MAX_CHARACTERS // 2),
        "replace " + "a with b in " * (MAX_CHARACTERS // 13) + "dance",
        "x" * 1_000_000,
    ],
)
def test_a_long_prompt_is_refused_soon(prompt: str) -> None:
    with pytest.raises(NotUnderstood) as caught:
        plan(prompt + " .")
    assert len(str(caught.value)) <= MAX_CHARACTERS


def test_a_long_quoted_text_is_no_long_prompt() -> None:
    text = "word and word; " * 10_000
    assert calls(f'write "{text}" to a.txt') == [writing("a.txt", text + "\n")]
