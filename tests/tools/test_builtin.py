import attrs
import pytest

from palyra_trio.tools.builtin import builtin_tools

LOCAL = {"ask_user", "clock.now", "todo.write"}
FETCHES = {"fetch.get", "fetch.post"}
READS = {"files.list", "files.read", "files.search", "fetch.get"} | LOCAL
WRITES = {"files.apply_patch", "files.edit", "files.write"}
PROGRAMS = {"process.run"}
JOBS = {"process.start", "process.input", "process.output", "process.stop"}
CHANGES = WRITES | PROGRAMS | {"files.delete", "process.start", "process.input", "process.stop"}


async def test_the_tools_have_the_names_that_the_documents_give_them() -> None:
    assert {tool.spec.name for tool in builtin_tools()} == READS | CHANGES | FETCHES | JOBS


async def test_what_changes_files_says_so() -> None:
    specs = {tool.spec.name: tool.spec for tool in builtin_tools()}

    assert {name for name, spec in specs.items() if spec.read_only} == READS | {"process.output"}
    assert {name for name, spec in specs.items() if spec.capability == "fs.write"} == WRITES
    assert {name for name, spec in specs.items() if spec.capability == "run.local"} == LOCAL | {
        "process.output",
        "process.stop",
    }
    assert {name for name, spec in specs.items() if spec.capability == "process.exec"} == PROGRAMS | {
        "process.start",
        "process.input",
    }
    assert {name for name, spec in specs.items() if spec.capability == "net.fetch"} == FETCHES
    assert {name for name, spec in specs.items() if spec.untrusted_output} == FETCHES | PROGRAMS | {"process.output"}
    assert specs["files.delete"].capability == "fs.delete"
    assert all(spec.idempotent for spec in specs.values() if spec.read_only)


@pytest.mark.parametrize("name", sorted(READS | CHANGES | FETCHES | JOBS))
async def test_every_argument_is_described_to_the_model(name: str) -> None:
    (spec,) = [tool.spec for tool in builtin_tools() if tool.spec.name == name]
    schema = spec.definition().parameters

    assert spec.description
    assert set(schema["properties"]) == {field.name for field in attrs.fields(spec.arguments)}
    assert all("description" in str(each) for each in schema["properties"].values())
    assert "$ref" not in str(schema)
