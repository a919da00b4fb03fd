import pytest

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.tools.registry import Plan, Registry
from palyra_trio.tools.todo import MAX_ITEMS
from tests.tools.conftest import Call

ITEMS = [
    {"text": "read", "status": "done"},
    {"text": "write", "status": "in_progress"},
    {"text": "test"},
]


async def test_the_list_is_given_back_for_reading_and_touches_nothing(call: Call) -> None:
    plan, result = await call("todo.write", items=ITEMS)
    assert result.text == "[x] read\n[>] write\n[ ] test\n1 of 3 done"
    assert plan == Plan(preview=result.text)


async def test_each_call_replaces_the_list(call: Call) -> None:
    await call("todo.write", items=ITEMS)
    _, result = await call("todo.write", items=[])
    assert result.text == "0 of 0 done"


def test_the_model_is_told_what_an_item_is(registry: Registry) -> None:
    items = registry.get("todo.write").spec.definition().parameters["properties"]["items"]
    assert items["maxItems"] == MAX_ITEMS
    assert items["items"]["required"] == ["text"]
    assert items["items"]["additionalProperties"] is False
    assert items["items"]["properties"]["status"]["enum"] == ["done", "in_progress", "pending"]


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([{"status": "done"}], "text"),
        ([{"text": ""}], "length"),
        ([{"text": "x", "status": "begun"}], "begun"),
        (["x"], "object"),
        ([{"text": "x"}] * (MAX_ITEMS + 1), "length"),
        ("x", "array"),
    ],
)
async def test_a_list_that_is_none_is_refused_with_the_reason(call: Call, items: object, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        await call("todo.write", items=items)
