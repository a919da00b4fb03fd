"""What decides in a process: the preset, the configuration's rules and the user's files, replaced as a whole."""

import attrs

from palyra_trio.core.policy import PolicyRules, Preset
from palyra_trio.guard.policy_set import ENGINES_KEPT, PolicySet, sources
from palyra_trio.guard.policy_text import PolicySource
from palyra_trio.guard.presets import policy_hash
from tests.guard.calls import INSIDE, SUBJECT, call

NO_CLOCK = PolicySource(
    "mine.cedar", '@id("no-clock") forbid (principal, action == Daemon::Action::"run.local", resource);'
)
DEFAULT = PolicyRules()


def test_all_that_decides_is_the_preset_then_the_configuration_then_the_files() -> None:
    found = sources([NO_CLOCK], PolicyRules(Preset.STRICT, deny=("fetch",)))
    assert [each.name for each in found] == ["preset strict", "config", "mine.cedar"]
    assert "fetch" in found[1].text


def test_a_set_decides_by_its_files_beside_what_comes_with_the_program() -> None:
    facts = call("run.local")
    (resource,) = facts.resources
    assert PolicySet().engine(DEFAULT).evaluate(SUBJECT, facts, resource, "none").allowed
    verdict = PolicySet([NO_CLOCK]).engine(DEFAULT).evaluate(SUBJECT, facts, resource, "standing")
    assert (verdict.allowed, verdict.policies) == (False, ("no-clock",))


def test_each_configuration_has_an_engine_of_its_own_that_is_kept() -> None:
    policies = PolicySet()
    allowing = PolicyRules(allow=("files.*",))
    facts = call("fs.write")
    assert policies.engine(allowing).evaluate(SUBJECT, facts, INSIDE, "none").allowed
    assert not policies.engine(DEFAULT).evaluate(SUBJECT, facts, INSIDE, "none").allowed
    assert policies.engine(allowing) is policies.engine(PolicyRules(allow=("files.*",)))


def test_the_presets_differ() -> None:
    policies, facts = PolicySet(), call("fs.write")
    free = {
        preset: policies.engine(PolicyRules(preset)).evaluate(SUBJECT, facts, INSIDE, "none").allowed
        for preset in Preset
    }
    assert free == {Preset.DEFAULT: False, Preset.STRICT: False, Preset.TRUSTED_WORKSPACE: True}
    standing = {
        preset: policies.engine(PolicyRules(preset)).evaluate(SUBJECT, facts, INSIDE, "standing").allowed
        for preset in Preset
    }
    assert standing == {Preset.DEFAULT: True, Preset.STRICT: False, Preset.TRUSTED_WORKSPACE: True}


def test_a_replaced_set_forgets_its_engines_and_has_another_name() -> None:
    policies, facts = PolicySet(), call("run.local")
    (resource,) = facts.resources
    old_engine, old_hash = policies.engine(DEFAULT), policies.hash
    policies.replace([NO_CLOCK])
    assert policies.files == (NO_CLOCK,)
    assert policies.hash == PolicySet([NO_CLOCK]).hash == policy_hash([NO_CLOCK]) != old_hash
    assert not policies.engine(DEFAULT).evaluate(SUBJECT, facts, resource, "none").allowed
    assert old_engine.evaluate(SUBJECT, facts, resource, "none").allowed
    policies.replace([])
    assert policies.hash == old_hash


def test_the_name_of_a_set_is_of_its_files_alone_and_an_engine_has_one_of_all() -> None:
    policies = PolicySet([NO_CLOCK])
    strict = PolicyRules(Preset.STRICT)
    before = policies.hash
    assert policies.engine(strict).hash != policies.engine(DEFAULT).hash
    assert policies.hash == before
    assert PolicySet([attrs.evolve(NO_CLOCK, name="other.cedar")]).hash != before


def test_no_more_engines_are_kept_than_is_said() -> None:
    policies = PolicySet()
    first = policies.engine(PolicyRules(allow=("tool0",)))
    for number in range(ENGINES_KEPT):
        policies.engine(PolicyRules(allow=(f"tool{number}",)))
    assert policies.engine(PolicyRules(allow=("tool0",))) is first
    policies.engine(PolicyRules(allow=("one.more",)))
    assert policies.engine(PolicyRules(allow=("tool0",))) is not first
