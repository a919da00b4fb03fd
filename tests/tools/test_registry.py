import json

import pytest

from palyra_trio.core.errors import InvalidArgument, NotFound
from palyra_trio.tools.registry import Registry, catalogue_digest

TOOLS = (
    *("ask_user", "clock.now", "fetch.get", "fetch.post", "files.apply_patch", "files.delete", "files.edit"),
    *("files.list", "files.read", "files.search", "files.write"),
    *("process.input", "process.output", "process.run", "process.start", "process.stop", "todo.write"),
)


def test_the_built_in_tools_are_offered_in_order_of_name(registry: Registry) -> None:
    assert registry.names() == TOOLS
    assert tuple(each.name for each in registry.definitions()) == TOOLS
    allowed = registry.definitions(("files.read", "clock.now", "none"))
    assert [each.name for each in allowed] == ["clock.now", "files.read"]
    assert catalogue_digest(allowed) != catalogue_digest(registry.definitions())


@pytest.mark.parametrize("name", TOOLS)
def test_a_schema_is_one_closed_object_whose_every_field_is_described(registry: Registry, name: str) -> None:
    (definition,) = registry.definitions((name,))
    assert definition.description
    schema = definition.parameters
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert "$ref" not in json.dumps(schema)
    assert all("description" in json.dumps(field) for field in schema["properties"].values())


def test_only_the_file_writers_write(registry: Registry) -> None:
    writers = {name for name in TOOLS if not registry.get(name).spec.read_only}
    processes = {"process.input", "process.run", "process.start", "process.stop"}
    files = {"files.apply_patch", "files.delete", "files.edit", "files.write"}
    assert writers == {"fetch.post", *files, *processes}
    changes = {name for name in TOOLS if registry.get(name).spec.capability in {"fs.write", "fs.delete"}}
    assert changes == files
    assert not any(registry.get(name).spec.idempotent for name in writers)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "path"),
        ({"path": 1}, "path"),
        ({"path": "f", "start_line": 0}, "start_line"),
        ({"path": "f", "start_line": "1"}, "start_line"),
        ({"path": "f", "start_line": True}, "start_line"),
        ({"path": "f", "max_lines": 1.5}, "max_lines"),
        ({"path": "f", "lines": 1, "offset": 2}, "'lines', 'offset'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(
    registry: Registry, arguments: dict[str, object], why: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        registry.get("files.read").spec.parse(arguments)
    assert why in str(refused.value)


def test_a_tool_that_does_not_exist_is_answered_with_those_that_do(registry: Registry) -> None:
    with pytest.raises(NotFound) as missing:
        registry.get("shell")
    assert "files.read" in str(missing.value)
