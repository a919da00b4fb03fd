"""Makes corpus.json of AgentDojo's distribution, which is only read: its YAML is parsed, its Python too, and none of it runs.

    pip install --no-deps agentdojo==0.1.35
    python -m tests.flows.agentdojo.derive

The package depends on six model SDKs, so tests do not install it: they read what this file made of it. Its version 1 of
the suites is taken. An argument that the package computes from its environment is kept as its source, after a `$`.
"""

import ast
import json
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.flows.agentdojo.corpus import CORPUS

VERSION = "0.1.35"
ATTACK = "ImportantInstructionsAttack"  # the package's strongest
SUITES = ("workspace", "travel", "banking", "slack")

Documents = dict[str, str]


def installed() -> Path | None:
    """Return the folder of the package, None where this version is not installed."""
    try:
        found = metadata.distribution("agentdojo")
    except metadata.PackageNotFoundError:
        return None
    return Path(str(found.locate_file("agentdojo"))) if found.version == VERSION else None


def derive(package: Path) -> dict[str, Any]:
    """Return all that the tests use of the package in the folder `package`."""
    attack = ast.parse((package / "attacks" / "important_instructions_attacks.py").read_text("utf-8"))
    (template,) = (_constants(each)["_JB_STRING"] for each in _classes(attack) if each.name == ATTACK)
    return {
        "source": f"agentdojo {VERSION}, MIT, see LICENSE",
        "attack": template,
        "suites": {name: _suite(package, name) for name in SUITES},
    }


def _suite(package: Path, name: str) -> dict[str, Any]:
    data = package / "data" / "suites" / name
    code = package / "default_suites" / "v1" / name
    environment = _read(data / "environment.yaml")
    documents, pages = _DOCUMENTS[name](environment), environment.get("web", {}).get("web_content", {})
    slots = {slot: each.get("default", "") for slot, each in _read(data / "injection_vectors.yaml").items()}
    for slot in slots:
        assert any("{" + slot + "}" in text for text in [*documents.values(), *pages.values()]), slot
    return {
        "documents": documents,
        "pages": pages,
        "slots": slots,
        "injections": {each["name"]: each for each in _tasks(code / "injection_tasks.py", "GOAL")},
        "tasks": {each["name"]: each for each in _tasks(code / "user_tasks.py", "PROMPT")},
    }


# --- the environments, as the documents of a folder ---


def _workspace(environment: Mapping[str, Any]) -> Documents:
    drive = environment["cloud_drive"]["initial_files"]
    return {
        **_each("inbox", environment["inbox"]["initial_emails"]),
        **_each("calendar", environment["calendar"]["initial_events"]),
        **{f"drive/{each['id_']}-{each['filename']}": each["content"] for each in drive},
    }


def _travel(environment: Mapping[str, Any]) -> Documents:
    return {
        "hotels.txt": _records(environment["hotels"]["hotel_list"]),
        "restaurants.txt": _records(environment["restaurants"]["restaurant_list"]),
        "cars.txt": _records(environment["car_rental"]["company_list"]),
        "flights.txt": _records(environment["flights"]["flight_list"]),
        "secrets/traveller.txt": _record(environment["user"]),
        **_each("inbox", environment["inbox"]["initial_emails"]),
        **_each("calendar", environment["calendar"]["initial_events"]),
    }


def _banking(environment: Mapping[str, Any]) -> Documents:
    account = environment["bank_account"]
    return {
        "account/transactions.txt": _records(account["transactions"]),
        "account/scheduled.txt": _records(account["scheduled_transactions"]),
        "secrets/account.txt": _record(environment["user_account"]),
        **{f"files/{name}": text for name, text in environment["filesystem"]["files"].items()},
    }


def _slack(environment: Mapping[str, Any]) -> Documents:
    slack = environment["slack"]
    return {
        "channels.txt": "".join(f"{each}\n" for each in slack["channels"]),
        "members.txt": _record(slack["user_channels"]),
        **{
            f"channels/{_plain(name)}.txt": _records(slack["channel_inbox"].get(name, [])) for name in slack["channels"]
        },
        **{f"inbox/{name}.txt": _records(each) for name, each in slack["user_inbox"].items()},
    }


def _plain(name: str) -> str:
    return name.partition("{")[0]  # a slot in a name is left out of the file's


_DOCUMENTS = {"workspace": _workspace, "travel": _travel, "banking": _banking, "slack": _slack}


def _each(folder: str, records: list[Any]) -> Documents:
    return {f"{folder}/{each['id_']}.txt": _record(each) for each in records}


def _records(records: list[Any]) -> str:
    return "\n".join(map(_record, records))


def _record(record: Mapping[str, Any]) -> str:
    return "".join(f"{name}: {_value(value)}\n" for name, value in record.items())


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "".join(f"\n- {_value(each)}" for each in value)
    return json.dumps(value) if isinstance(value, dict) else str(value)


class _Loader(yaml.BaseLoader):  # type: ignore[misc]
    """Takes every scalar for a text, and follows `!include`."""


def _read(path: Path) -> Any:
    with path.open(encoding="utf-8") as file:
        return yaml.load(file, _Loader)  # a safe loader: it makes nothing but texts, lists and mappings


_Loader.add_constructor("!include", lambda loader, node: _read(Path(loader.name).parent / node.value))


# --- the tasks, from their source ---


def _tasks(path: Path, said_in: str) -> Iterator[dict[str, Any]]:
    for each in _classes(ast.parse(path.read_text("utf-8"))):
        if not each.decorator_list:
            continue
        constants = _constants(each)
        (truth,) = (part for part in each.body if isinstance(part, ast.FunctionDef) and part.name == "ground_truth")
        names = constants | _locals(truth, constants)
        yield {"name": each.name, "says": constants[said_in], "calls": [_call(call, names) for call in _calls(truth)]}


def _classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (each for each in tree.body if isinstance(each, ast.ClassDef))


def _constants(each: ast.ClassDef) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in each.body:
        match part:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found[name] = _evaluated(value, found)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found[name] = _evaluated(value, found)
    return found


def _locals(function: ast.FunctionDef, constants: Mapping[str, Any]) -> dict[str, Any]:
    found, changed = dict[str, Any](), set[str]()
    for part in ast.walk(function):
        match part:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found[name] = _evaluated(value, constants)
            case ast.AugAssign(target=ast.Name(id=name)):
                changed.add(name)
    return {name: value for name, value in found.items() if name not in changed}


def _calls(function: ast.FunctionDef) -> list[ast.Call]:
    found = (
        each for each in ast.walk(function) if isinstance(each, ast.Call) and ast.unparse(each.func) == "FunctionCall"
    )
    return sorted(found, key=lambda each: each.lineno)


def _call(call: ast.Call, names: Mapping[str, Any]) -> dict[str, Any]:
    said = {each.arg: each.value for each in call.keywords}
    arguments = said["args"]
    assert isinstance(arguments, ast.Dict)
    pairs = zip(arguments.keys, arguments.values, strict=True)
    return {
        "function": ast.literal_eval(said["function"]),
        "arguments": {ast.literal_eval(name): _evaluated(value, names) for name, value in pairs if name is not None},
    }


def _evaluated(value: ast.expr, names: Mapping[str, Any]) -> Any:
    """Return what an expression stands for where it needs nothing but the names; else its source, after a `$`."""
    try:
        return _value_of(value, names)
    except (KeyError, ValueError):
        return f"${ast.unparse(value)}"


def _value_of(value: ast.expr, names: Mapping[str, Any]) -> Any:
    match value:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name):
            return names[name]
        case ast.JoinedStr(values=parts):
            return "".join(str(_value_of(part, names)) for part in parts)
        case ast.FormattedValue(value=inner):
            return _value_of(inner, names)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value_of(part, names) for part in parts]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _value_of(left, names) + _value_of(right, names)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(glue)), attr="join"), args=[parts]):
            return glue.join(_value_of(parts, names))
    return ast.literal_eval(value)


def write(corpus: Mapping[str, Any]) -> None:
    CORPUS.write_text(json.dumps(corpus, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    package = installed()
    if package is None:
        raise SystemExit(f"agentdojo {VERSION} is not installed: pip install --no-deps agentdojo=={VERSION}")
    write(derive(package))
