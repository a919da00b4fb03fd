"""The newest runs that fit the budget, whole, in order; and no more is read than that takes."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.chain import canonical_json, digest
from palyra_trio.core.context import Context, PastRun, assemble, message_digest
from palyra_trio.core.messages import Message

SYSTEM = Message("system", "be brief")


def past(run_id: str, *texts: str) -> PastRun:
    return PastRun(run_id, tuple(Message("user", text) for text in texts))


def size(*messages: Message) -> int:
    return sum(len(canonical_json(message)) for message in messages)


def test_a_first_run_is_shown_the_instructions_alone() -> None:
    assert assemble("be brief", [], 0, 10_000) == Context((SYSTEM,), (), 0)


def test_history_stands_oldest_first() -> None:
    context = assemble("be brief", [past("R2", "c", "d"), past("R1", "a", "b")], 2, 10_000)
    assert [message.text for message in context.messages] == ["be brief", "a", "b", "c", "d"]
    assert (context.runs, context.omitted_runs) == (("R1", "R2"), 0)


def test_a_run_fits_to_the_byte_or_not_at_all() -> None:
    newest, older = past("R2", "c"), past("R1", "äöü", "b")
    whole = size(SYSTEM, *newest.messages, *older.messages)
    assert assemble("be brief", [newest, older], 2, whole).runs == ("R1", "R2")
    short = assemble("be brief", [newest, older], 2, whole - 1)
    assert (short.runs, short.omitted_runs) == (("R2",), 1)
    assert short.messages == (SYSTEM, *newest.messages)


def test_an_older_run_is_not_taken_over_the_head_of_one_that_did_not_fit() -> None:
    context = assemble("be brief", [past("R3", "x"), past("R2", "y" * 5000), past("R1", "z")], 3, 1000)
    assert (context.runs, context.omitted_runs) == (("R3",), 2)


def test_the_instructions_are_shown_even_where_they_exceed_the_budget() -> None:
    context = assemble("be brief", [past("R2"), past("R1", "a")], 2, 5)
    assert (context.messages, context.runs, context.omitted_runs) == ((SYSTEM,), (), 2)


def test_no_more_runs_are_read_than_the_one_that_does_not_fit() -> None:
    read: list[str] = []

    def newest_first() -> Iterator[PastRun]:
        for number in range(9, 0, -1):
            read.append(f"R{number}")
            yield past(f"R{number}", "x" * 400)

    context = assemble("be brief", newest_first(), 9, 1200)
    assert context.runs == ("R8", "R9")
    assert read == ["R9", "R8", "R7"]
    assert context.omitted_runs == 7


@given(st.lists(st.lists(st.text(max_size=40), max_size=4), max_size=6), st.integers(0, 1500))
def test_what_is_shown_is_the_longest_run_of_the_newest_that_fits(texts: list[list[str]], budget: int) -> None:
    runs = [past(f"R{number}", *each) for number, each in enumerate(texts)]
    context = assemble("be brief", reversed(runs), len(runs), budget)
    taken = len(context.runs)
    assert context.runs == tuple(run.run_id for run in runs[len(runs) - taken :])
    assert context.messages == (SYSTEM, *(message for run in runs[len(runs) - taken :] for message in run.messages))
    assert context.omitted_runs == len(runs) - taken
    assert not taken or size(*context.messages) <= budget
    if context.omitted_runs:
        assert size(*context.messages, *runs[len(runs) - taken - 1].messages) > budget


def test_a_message_is_named_by_the_digest_of_its_canonical_json() -> None:
    message = Message("user", "grüße")
    assert message_digest(message) == digest(canonical_json(message))
    assert message_digest(message) == "c02ce462b05352822aa7660be576e65b04d4dd6630c9f22d4ef84c28544926d2"
