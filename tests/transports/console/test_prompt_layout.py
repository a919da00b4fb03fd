"""What a person is asked is laid out, and all of it is there."""

from pathlib import Path

import pytest

from palyra_trio.transports.console.prompt_layout import MARK, choices, gist, laid_out

GOLDEN = sorted((Path(__file__).parents[2] / "golden" / "prompts").glob("*.txt"))
OF_THE_CLI = ("or allow ", "allow this once?", "your answer ")
EDIT = """files.edit asks: it changes a file, so a person decides
  workspace  /w
  file       a.txt (exists)
  may stand  files.edit * (for the session, or a time)
  max_characters 7
--- a/a.txt
+++ b/a.txt
  kept       as it was
+new"""


def test_the_facts_of_a_call_are_told_apart_from_its_change() -> None:
    layout = laid_out(EDIT, False)
    assert layout.head == "files.edit asks: it changes a file, so a person decides"
    assert layout.facts == (
        ("workspace", "/w"),
        ("file", "a.txt (exists)"),
        ("may stand", "files.edit * (for the session, or a time)"),
        ("max_characters", "7"),
    )
    assert layout.text == "--- a/a.txt\n+++ b/a.txt\n  kept       as it was\n+new"
    assert layout.is_diff


def test_a_text_of_strangers_is_neither_a_fact_nor_a_change() -> None:
    layout = laid_out("fetch.post asks: why\n  risk       high\n  | +  risk       low\n  | \n  | 1. x", False)
    assert layout.facts == (("risk", "high"),)
    assert (layout.text, layout.is_diff, layout.choices) == ("+  risk       low\n\n1. x", False, ())


def test_the_choices_of_a_question_stand_apart_from_its_words() -> None:
    layout = laid_out("the agent asks:\n  | Which colour\n  | shall it be?\n  | 1. red\n  | 2. blue", True)
    assert layout.text == "Which colour\nshall it be?"
    assert layout.choices == (("1", "red"), ("2", "blue"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_word_of_a_question_has_its_place(path: Path) -> None:
    lines = path.read_text().lstrip("\n").split("\n")
    prompt = "\n".join(line for line in lines if not line.startswith(OF_THE_CLI)).rstrip("\n")
    layout = laid_out(prompt, False)
    told = [layout.head, *(part for fact in layout.facts for part in fact), layout.text]
    assert layout.head
    assert layout.facts or "ask_user" in path.stem
    assert "\n".join(told).split() == prompt.replace(MARK if not layout.is_diff else "\0", "").split()


def test_what_was_erased_leaves_nothing() -> None:
    assert laid_out("", False).head == laid_out("", True).text == ""


def test_the_gist_of_a_question_is_what_it_is_about() -> None:
    assert gist("files.write asks: why\n  workspace  /w\n  file       a.txt (new)\n  risk  low") == "a.txt (new)"
    assert gist("the agent asks:\n  | Which one?") == "Which one?"
    assert gist("") == ""


def test_the_choices_of_a_question_are_the_numbered_lines_that_it_ends_with() -> None:
    asked = "the agent asks:\n  | Which?\n  | 1. not this\n  | but:\n  | 1. red\n  | 2. the <b>blue</b> one"
    assert choices(asked) == (("1", "red"), ("2", "the <b>blue</b> one"))
    assert choices(f"{asked}\n  | 7. odd") == ()
    assert choices("the agent asks:\n  | In 3. words?") == ()
