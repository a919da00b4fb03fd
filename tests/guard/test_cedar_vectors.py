"""The engine decides the public integration vectors as Cedar's authors say. Their origin: cedar_vectors/README.md."""

import json
from pathlib import Path
from typing import Any

import cedarpy
import pytest

VECTORS = Path(__file__).with_name("cedar_vectors")
FILES = sorted(VECTORS.glob("tests/*/*.json"))


def load(file: Path) -> tuple[dict[str, Any], str, cedarpy.Schema, cedarpy.Entities]:
    case = json.loads(file.read_text("utf-8"))
    policies, schema, entities = (
        (VECTORS / case[each]).read_text("utf-8") for each in ("policies", "schema", "entities")
    )
    parsed = cedarpy.Schema.from_str(schema)
    return case, policies, parsed, cedarpy.Entities.from_json_str(entities, parsed)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_vector_is_decided_as_published(file: Path) -> None:
    case, policies, schema, entities = load(file)
    assert cedarpy.validate_policies(policies, schema).validation_passed == case["shouldValidate"]
    handle = cedarpy.PolicySet.from_str(policies)
    for request in case["requests"]:
        asked = {each: request[each] for each in ("principal", "action", "resource", "context")}
        found = cedarpy.is_authorized(asked, handle, entities, schema)
        assert (found.decision.value.lower(), sorted(found.diagnostics.reasons), len(found.diagnostics.errors)) == (
            request["decision"],
            sorted(request["reason"]),
            len(request["errors"]),
        ), request["description"]


def test_no_vector_is_missing() -> None:
    assert sum(len(load(file)[0]["requests"]) for file in FILES) == 74
