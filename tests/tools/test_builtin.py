import attrs
import pytest

from palyra_trio.tools.builtin import builtin_tools

READS = {"clock.now", "files.list", "files.read", "files.search"}
CHANGES = {"files.edit", "files.write"}


async def test_the_tools_have_the_names_that_the_documents_give_them() -> None:
    assert {tool.spec.name for tool in builtin_tools()} == READS | CHANGES


async def test_what_changes_files_says_so() -> None:
    specs = {tool.spec.name: tool.spec for tool in builtin_tools()}

    assert {name for name, spec in specs.items() if spec.read_only} == READS
    assert {name for name, spec in specs.items() if spec.capability == "fs.write"} == CHANGES
    assert all(spec.idempotent for spec in specs.values() if spec.read_only)


@pytest.mark.parametrize("name", sorted(READS | CHANGES))
async def test_every_argument_is_described_to_the_model(name: str) -> None:
    (spec,) = [tool.spec for tool in builtin_tools() if tool.spec.name == name]
    schema = spec.definition().parameters

    assert spec.description
    assert set(schema["properties"]) == {field.name for field in attrs.fields(spec.arguments)}
    assert all(each.get("description") for each in schema["properties"].values())
