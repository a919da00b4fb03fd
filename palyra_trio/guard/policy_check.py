"""The program that looks for faults in policies, in a process of its own because the engine's parser can crash.

`python -m palyra_trio.guard.policy_check` reads sources as a JSON list of [name, text] from its input and writes lines
of JSON: the place [name, line] of each policy before it is touched, and at the end an object with all `faults`. When
the last object is missing, the last place says which policy was too much. The check runs on a stack much smaller than
the daemon's, so what survives here survives there. It decides nothing and keeps nothing.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cedarpy

from palyra_trio.guard.policy_text import ID_CHARACTERS, Fault, PolicySource, Statement, statements
from palyra_trio.guard.presets import schema_text

ANNOTATIONS = frozenset(("id", "reason", "prompt"))
CLAUSES_MAX = 32  # the engine evaluates some hundred, then fails every call
STACK_BYTES = 1024 * 1024  # the main thread of a process has 8 MiB

Place = tuple[str, int]


def find_faults(sources: Iterable[PolicySource], begin: Callable[[Place], None]) -> tuple[Fault, ...]:
    """Return all faults of `sources`, in order. `begin` is told the place of each policy before it is looked at."""
    schema = cedarpy.Schema.from_str(schema_text())
    faults: list[Fault] = []
    seen: dict[str, Place] = {}
    for source in sources:
        ids: list[str] = []
        for statement in statements(source.text):
            begin((source.name, statement.line))
            for reason in _faults_of(statement, schema, source.name, seen, ids):
                faults.append(Fault(source.name, statement.line, reason))
        if not any(fault.source == source.name for fault in faults) and ids != _ids_together(source.text):
            faults.append(Fault(source.name, 1, "its policies read one by one are not those of the whole file"))
    return tuple(faults)


def _faults_of(
    statement: Statement, schema: cedarpy.Schema, name: str, seen: dict[str, Place], ids: list[str]
) -> Iterator[str]:
    """Yield what is wrong with one policy; note its id in `seen` and `ids`."""
    try:
        parsed = cedarpy.policies_to_pst(statement.text)
    except ValueError as error:
        yield str(error)
        return
    if len(parsed.static_policies) != 1:
        yield "a template (?principal, ?resource) permits nothing by itself; write the policy out"
        return
    (policy,) = parsed.static_policies.values()
    for unknown in sorted(policy.annotations.keys() - ANNOTATIONS):
        yield f"unknown annotation @{unknown}; there are @id, @prompt and @reason"
    identity = policy.annotations.get("id", "")
    if not identity:
        yield 'it has no @id("...")'
    elif len(identity) > ID_CHARACTERS or not identity.isprintable():
        yield f"its @id must be at most {ID_CHARACTERS} visible characters"
    elif identity in seen:
        yield f"@id {identity!r} is taken by {seen[identity][0]}:{seen[identity][1]}"
    else:
        seen[identity] = (name, statement.line)
    if len(policy.clauses) > CLAUSES_MAX:
        yield f"it has more than {CLAUSES_MAX} when and unless clauses"
    ids.append(identity)
    for found in cedarpy.validate_policies(statement.text, schema).errors:
        yield found.error.removeprefix(f"for policy `{found.policy_id}`, ")


def _ids_together(text: str) -> list[str]:
    whole = cedarpy.policies_to_pst(text).static_policies
    return [whole[f"policy{index}"].annotations.get("id", "") for index in range(len(whole))]


def main() -> None:
    """Check what the input holds, on a small stack."""
    sources = [PolicySource(name, text) for name, text in json.load(sys.stdin)]
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=_report, args=(sources,))
    thread.start()
    thread.join()


def _report(sources: list[PolicySource]) -> None:
    faults = find_faults(sources, _write)
    _write({"faults": [[fault.source, fault.line, fault.reason] for fault in faults]})


def _write(line: Any) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
