"""What an answer schema accepts, and what it says of an answer that does not fit."""

import socket
from typing import Any

import pytest

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.runtime.answers import answer_check

PERSON = {
    "type": "object",
    "required": ["name", "age"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "additionalProperties": False,
}


def test_without_a_schema_any_text_is_an_answer() -> None:
    assert answer_check(None)("not JSON") == ""


def test_an_answer_that_fits_has_no_problem() -> None:
    assert answer_check(PERSON)(' {"name": "Ada", "age": 36}\n') == ""


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("Ada, 36", "it must be JSON and nothing else"),
        ('```json\n{"name": "Ada"}\n```', "it must be JSON and nothing else"),
        ('{"name": "Ada"}', "$: 'age' is a required property"),
        ('{"name": "Ada", "age": -1}', "$.age: -1 is less than the minimum of 0"),
        ('{"name": 1, "age": "x"}', "$.age: 'x' is not of type 'integer'; $.name: 1 is not of type 'string'"),
        ("[" * 100_000, "it is nested too deeply"),
        ("1" * 5000, "it must be JSON and nothing else"),
    ],
)
def test_an_answer_that_does_not_fit_is_told_where(answer: str, problem: str) -> None:
    assert answer_check(PERSON)(answer).startswith(problem)


def test_what_is_told_of_a_huge_answer_is_short() -> None:
    assert len(answer_check({"type": "object"})('"' + "x" * 1_000_000 + '"')) < 1000
    assert len(answer_check({"items": {"type": "null"}})(str([1] * 100_000))) < 5000


@pytest.mark.parametrize("schema", [{"type": "objet"}, {"required": "name"}, {"minimum": "zero"}])
def test_a_schema_that_is_none_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="not a JSON Schema"):
        answer_check(schema)


@pytest.mark.parametrize("reference", ["#/$defs/none", "http://127.0.0.1:9/schema", "file:///etc/passwd"])
def test_a_reference_out_of_the_schema_is_never_fetched(reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the check went to the network")

    monkeypatch.setattr(socket, "create_connection", no_network)
    problem = answer_check({"properties": {"a": {"$ref": reference}}})('{"a": 1}')
    assert problem.startswith("the answer schema refers to what it does not hold")


def test_a_reference_within_the_schema_holds() -> None:
    check = answer_check({"$defs": {"n": {"type": "number"}}, "items": {"$ref": "#/$defs/n"}})
    assert check("[1, 2]") == ""
    assert check('["a"]')
