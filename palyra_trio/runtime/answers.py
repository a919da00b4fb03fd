"""An agent's answer schema, compiled into the check that `decide` asks."""

import json
from typing import Any

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.turn import AnswerCheck


def answer_check(schema: dict[str, Any] | None) -> AnswerCheck:
    """Return a check for answers: JSON that fits `schema` (draft 2020-12), or any text where there is none.

    Raises InvalidArgument for a schema that is none.
    """
    if schema is None:
        return lambda _answer: ""
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise InvalidArgument(f"the answer schema is not a JSON Schema: {error.message}") from error
    validator = Draft202012Validator(schema)

    def problem_with(answer: str) -> str:
        try:
            value = json.loads(answer)
        except json.JSONDecodeError as error:
            return f"it must be JSON and nothing else ({error})"
        errors = sorted(validator.iter_errors(value), key=lambda error: error.json_path)
        return "; ".join(f"{error.json_path}: {error.message}" for error in errors[:5])

    return problem_with
