"""What comes with the program, and what the hash of a set is of."""

from importlib import metadata

import pytest

from palyra_trio.guard import presets
from palyra_trio.guard.cedar import CedarEngine
from palyra_trio.guard.policy_text import PolicySource
from palyra_trio.guard.presets import ENGINE, policy_hash


def test_the_engine_that_a_hash_names_is_the_one_that_is_installed() -> None:
    major, minor, _ = metadata.version("cedarpy").split(".")
    assert f"cedar {major}.{minor}" == ENGINE


def test_the_hash_is_of_names_and_texts_in_any_order() -> None:
    one, other = PolicySource("a", "// x"), PolicySource("b", "// y")
    assert policy_hash([one, other]) == policy_hash([other, one]) == CedarEngine([one, other]).hash
    variants = [
        [one],
        [one, PolicySource("c", "// y")],
        [one, PolicySource("b", "// z")],
        [PolicySource("ab", "// x// y")],
        [],
    ]
    assert len({policy_hash([one, other]), *map(policy_hash, variants)}) == len(variants) + 1


def test_the_hash_is_of_the_schema_and_the_engine_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = policy_hash([])
    monkeypatch.setattr(presets, "schema_text", lambda: "namespace Daemon {}")
    with_schema = policy_hash([])
    monkeypatch.setattr(presets, "ENGINE", "cedar 0.1")
    assert len({before, with_schema, policy_hash([])}) == 3
