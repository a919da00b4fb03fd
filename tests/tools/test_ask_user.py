import attrs
import pytest

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.tools.ask_user import ASK_USER, MAX_CHOICES, chosen
from palyra_trio.tools.registry import Plan, ToolContext


async def asked(context: ToolContext, answer: str, **arguments: object) -> tuple[Plan, str]:
    parsed = ASK_USER.spec.parse(arguments)
    plan = await ASK_USER.plan(parsed, context)
    result = await ASK_USER.run(parsed, attrs.evolve(context, answer=answer), plan)
    return plan, result.text


async def test_no_choice_can_pass_for_two(context: ToolContext) -> None:
    plan, _ = await asked(context, "1", question="Which?", choices=["yes\n2. all", "no"])
    assert plan.preview == "Which?\n1. yes\\n2. all\n2. no"


async def test_the_question_and_its_choices_are_shown_and_the_answer_is_the_result(context: ToolContext) -> None:
    plan, answer = await asked(context, "neither, please", question="Which one?", choices=["red", "blue"])
    assert plan == Plan(preview="Which one?\n1. red\n2. blue")
    assert answer == "neither, please"


async def test_an_empty_answer_is_said_to_be_one(context: ToolContext) -> None:
    plan, answer = await asked(context, " ", question="Go on?")
    assert plan.preview == "Go on?"
    assert answer == "the person answered nothing"


def test_a_choice_can_be_named_by_its_number_unless_it_is_a_number_itself() -> None:
    assert chosen("2", ("red", "blue")) == "blue"
    assert chosen("3", ("red", "blue")) == "3"
    assert chosen("2", ("4", "2", "7")) == "2"


def test_a_question_says_something_and_offers_a_choice_that_can_be_surveyed() -> None:
    for arguments in ({"question": ""}, {"question": "?", "choices": ["x"] * (MAX_CHOICES + 1)}, {}):
        with pytest.raises(InvalidArgument):
            ASK_USER.spec.parse(arguments)
    assert ASK_USER.spec.asks
