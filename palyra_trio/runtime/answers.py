"""An agent's answer schema, compiled into the check that `decide` asks."""

import json
from typing import Any

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.turn import AnswerCheck

SHOWN_FAULTS = 5
SHOWN_CHARACTERS = 500  # a fault quotes what it found, which may be the whole answer


def answer_check(schema: dict[str, Any] | None) -> AnswerCheck:
    """Return a check for answers: JSON that fits `schema` (draft 2020-12), or any text where there is none.

    A schema stands by itself: a reference that leads out of it is never fetched, and no answer fits it. Raises
    InvalidArgument for a schema that is none.
    """
    if schema is None:
        return lambda _answer: ""
    from jsonschema import Draft202012Validator, SchemaError
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise InvalidArgument(f"the answer schema is not a JSON Schema: {error.message}") from error
    validator = Draft202012Validator(schema, registry=Registry())

    def problem_with(answer: str) -> str:
        try:
            value = json.loads(answer)
            errors = sorted(validator.iter_errors(value), key=lambda error: error.json_path)
        except Unresolvable as error:
            return f"the answer schema refers to what it does not hold: {error}"
        except RecursionError:
            return "it is nested too deeply"
        except ValueError as error:
            return f"it must be JSON and nothing else ({error})"
        return "; ".join(f"{each.json_path}: {each.message[:SHOWN_CHARACTERS]}" for each in errors[:SHOWN_FAULTS])

    return problem_with
