"""The policies in force: replaced while runs are under way, and never by a set with a fault."""

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from palyra_trio.core.commands import DecideApproval
from palyra_trio.core.errors import ConfigInvalid, InvalidArgument, NotFound
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.policy import PolicyRules, Preset
from palyra_trio.core.system_events import PolicyLoaded
from palyra_trio.core.tape import SYSTEM_STREAM, ApprovalRequested, PolicyDecision, ToolStarted
from palyra_trio.guard.policy_set import PolicySet
from palyra_trio.guard.policy_text import PolicySource
from palyra_trio.guard.posture import FILE_NAME, Posture, posture_file
from palyra_trio.journal.store import entry
from palyra_trio.journal.writer import Ticket
from palyra_trio.runtime.hypothetical import Hypothetical
from palyra_trio.runtime.policies import change_postures, check_set, read_checked, removing, replace_policies, setting
from palyra_trio.tools.registry import Plan, ToolContext
from tests.fakes import (
    CONFIG,
    ME,
    OTHER,
    FakeArguments,
    FakeProvider,
    Runtime,
    echo,
    fake_tool,
    open_fake_runtime,
    says,
)
from tests.journal.tickets import read

FORBID = PolicySource("mine.cedar", '@id("mine") @reason("not today") forbid (principal, action, resource);')
FAULTY = (
    '@id("a")\npermit (principal, action, resource);\n\n@aproval("ask") @id("b")\nforbid (principal, action, resource);'
)
WRITES = fake_tool("fake.write", echo, read_only=False)
RULES = PolicyRules()


def _loaded(runtime: Runtime) -> list[PolicyLoaded]:
    with read(runtime.state_dir) as reader:
        return [event for row in reader.tape(SYSTEM_STREAM) if isinstance(event := row.event(), PolicyLoaded)]


def _write(runtime: Runtime, text: str, name: str = "mine.cedar") -> None:
    runtime.state.policies_dir.mkdir(exist_ok=True)
    (runtime.state.policies_dir / name).write_text(text)


# --- what is put in force ---


async def test_the_files_are_put_in_force_as_they_are_and_that_is_on_the_tape(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        policies, before = runtime.gateway.policies, runtime.gateway.policies.hash
        _write(runtime, FORBID.text)
        assert await policies.reload("user:me")
        assert policies.files == (FORBID,)
        assert policies.hash == PolicySet([FORBID]).hash != before
        assert not await policies.reload("user:me")
        assert _loaded(runtime) == [
            PolicyLoaded(before, (), "boot"),
            PolicyLoaded(policies.hash, ("mine.cedar",), "user:me"),
        ]
        assert runtime.gateway.health().policy_hash == policies.hash
        assert runtime.gateway.health().policy_preset == "default"


async def test_a_faulty_file_is_refused_with_every_fault_and_the_old_set_stays(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        _write(runtime, FORBID.text)
        await runtime.gateway.policies.reload("user:me")
        before = runtime.gateway.policies.hash
        _write(runtime, FAULTY)
        _write(runtime, "permit (", "other.cedar")
        with pytest.raises(ConfigInvalid) as refused:
            await runtime.gateway.policies.reload("user:me")
        assert "mine.cedar:4: unknown annotation @aproval" in refused.value.message
        assert "other.cedar:1: " in refused.value.message
        assert (runtime.gateway.policies.hash, runtime.gateway.policies.files) == (before, (FORBID,))
        assert len(_loaded(runtime)) == 2


async def test_a_process_does_not_begin_with_a_faulty_file(tmp_path: Path) -> None:
    (tmp_path / "mine.cedar").write_text(FAULTY)
    with pytest.raises(ConfigInvalid, match=r"mine\.cedar:4"):
        await read_checked(tmp_path, RULES)
    (tmp_path / "mine.cedar").write_text(FORBID.text)
    assert await read_checked(tmp_path, RULES) == (FORBID,)
    assert await read_checked(tmp_path / "none", RULES) == ()


async def test_a_file_may_not_take_an_id_of_the_preset(tmp_path: Path) -> None:
    taken = PolicySource("mine.cedar", '@id("strict-once") permit (principal, action, resource);')
    await check_set([taken], RULES)
    with pytest.raises(ConfigInvalid, match="'strict-once' is taken by preset strict"):
        await check_set([taken], PolicyRules(Preset.STRICT))


async def test_a_process_says_which_policies_it_began_with_unless_they_are_those_of_the_one_before(
    tmp_path: Path,
) -> None:
    for policies, said in ((PolicySet(), 1), (PolicySet(), 1), (PolicySet([FORBID]), 2), (PolicySet(), 3)):
        async with open_fake_runtime(tmp_path, policies=policies) as runtime:
            loaded = _loaded(runtime)
            assert len(loaded) == said
            assert (loaded[-1].hash, loaded[-1].by) == (policies.hash, "boot")


# --- runs under way ---


async def test_a_reload_reaches_a_call_that_waits_for_a_person(tmp_path: Path) -> None:
    provider = FakeProvider(says("", ToolCall("w", "fake.write", {"value": "x"})), says("done"))
    async with open_fake_runtime(tmp_path, provider, tools=[WRITES]) as runtime:
        accepted = await runtime.start()
        asked = await runtime.until(accepted.run_id, ApprovalRequested)
        await replace_policies(runtime.state, [FORBID], "user:me")
        await runtime.do(DecideApproval(asked.approval_id, granted=True))
        tape = await runtime.ended(accepted.run_id)
    assert [(each.outcome, each.rule) for each in tape.of(PolicyDecision)] == [
        ("ask", "write-in-workspace"),
        ("deny", "mine"),
    ]
    assert tape.of(PolicyDecision)[1].reason == "not today"
    assert tape.of(ToolStarted) == []
    assert "not today" in provider.requests[1].messages[-1].text


async def test_a_call_that_was_judged_by_the_old_policies_is_judged_anew_before_it_starts(tmp_path: Path) -> None:
    plans = 0
    provider = FakeProvider(says("", ToolCall("r", "fake.read", {"value": "x"})), says("done"))

    async def plan(arguments: FakeArguments, _context: ToolContext) -> Plan:
        """Let other policies be on their way to the journal when the call is judged, before its intent is."""
        nonlocal plans
        plans += 1
        await trio.lowlevel.checkpoint()
        if plans == 1:
            loaded = PolicyLoaded(PolicySet([FORBID]).hash, ("mine.cedar",), "user:me")
            swap = Ticket((entry(SYSTEM_STREAM, loaded),), on_commit=lambda _: runtime.state.policies.replace([FORBID]))
            runtime.state.journal.submit(swap)
        return Plan()

    judged_twice = attrs.evolve(fake_tool("fake.read", echo), plan=plan)
    async with open_fake_runtime(tmp_path, provider, tools=[judged_twice]) as runtime:
        tape = await runtime.run()
    assert plans == 2
    (decision,) = tape.of(PolicyDecision)
    assert (decision.outcome, decision.rule) == ("deny", "mine")
    assert tape.of(ToolStarted) == []


# --- postures ---


async def test_a_posture_holds_at_once_and_until_its_time(tmp_path: Path) -> None:
    now_s = 1_000_000.0
    writes = says("", ToolCall("w", "fake.write", {"value": "x"}))

    def provider() -> FakeProvider:
        return FakeProvider(writes, says("done"))

    async def outcome(**fields: Any) -> str:
        return (await runtime.run(provider=provider(), attended=False, **fields)).of(PolicyDecision)[0].outcome

    async with open_fake_runtime(tmp_path, tools=[WRITES], now_s=lambda: now_s) as runtime:
        policies = runtime.gateway.policies
        assert await outcome() == "ask"
        allowed = Posture("fake.*", "allow", until_s=1_000_060)
        await policies.set_posture(allowed, "user:me")
        assert (tmp_path / "policies" / FILE_NAME).read_text() == posture_file([allowed]).text
        assert policies.postures() == (allowed,)
        assert await outcome() == "allow"
        now_s += 60
        assert policies.postures() == ()
        assert await outcome() == "ask"
        await policies.set_posture(Posture("fake.write", "disable"), "user:me")
        assert policies.postures() == (Posture("fake.write", "disable"),)
        assert "fake.*" not in (tmp_path / "policies" / FILE_NAME).read_text()
        assert await outcome() == "deny"
        await policies.remove_posture("fake.write", "global", "", "user:me")
        assert await outcome() == "ask"


async def test_a_posture_for_a_tool_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        for tool in ("files.writ", "fake.*"):
            with pytest.raises(NotFound, match="there is no tool"):
                await runtime.gateway.policies.set_posture(Posture(tool, "disable"), "user:me")
        with pytest.raises(NotFound, match=r"nothing was said of 'files.write' \(agent main\)"):
            await runtime.gateway.policies.remove_posture("files.write", "agent", "main", "user:me")
        assert not runtime.state.policies_dir.exists() or not list(runtime.state.policies_dir.iterdir())


async def test_a_posture_is_not_written_beside_a_faulty_file(tmp_path: Path) -> None:
    (tmp_path / "mine.cedar").write_text(FAULTY)
    with pytest.raises(ConfigInvalid, match=r"mine\.cedar:4"):
        await change_postures(tmp_path, RULES, setting(Posture("a", "ask"), ["a"]), 0)
    assert not (tmp_path / FILE_NAME).exists()


async def test_a_managed_file_that_was_changed_by_hand_is_left_alone(tmp_path: Path) -> None:
    text = posture_file([Posture("a", "ask")]).text + FORBID.text
    (tmp_path / FILE_NAME).write_text(text)
    for edit in (setting(Posture("a", "allow"), ["a"]), removing("a", "global", "")):
        with pytest.raises(ConfigInvalid, match="was changed by hand"):
            await change_postures(tmp_path, RULES, edit, 0)
    assert (tmp_path / FILE_NAME).read_text() == text


async def test_postures_set_at_once_are_all_in_force(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        policies = runtime.gateway.policies
        tools = ["files.write", "files.edit", "files.read"]
        async with trio.open_nursery() as nursery:
            for tool in tools:
                nursery.start_soon(policies.set_posture, Posture(tool, "disable"), "user:me")
        assert {each.tool for each in policies.postures()} == set(tools)


async def test_a_change_that_began_later_is_in_force_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checking, go_on, done = trio.Event(), trio.Event(), trio.Event()

    async def check(*_: Any) -> None:
        if not checking.is_set():
            checking.set()
            await go_on.wait()
        await trio.lowlevel.checkpoint()

    async with open_fake_runtime(tmp_path) as runtime, trio.open_nursery() as nursery:
        monkeypatch.setattr("palyra_trio.runtime.policies.check_set", check)
        _write(runtime, FORBID.text)
        policies = runtime.gateway.policies

        async def say() -> None:
            await policies.set_posture(Posture("files.read", "disable"), "user:me")
            done.set()

        nursery.start_soon(policies.reload, "user:me")
        await checking.wait()
        nursery.start_soon(say)
        with trio.move_on_after(0.2):
            await done.wait()
        go_on.set()
        await done.wait()
    assert [each.name for each in policies.files] == ["mine.cedar", FILE_NAME]


# --- explaining ---


async def test_an_explanation_is_for_who_asks_under_the_rules_of_the_folder(tmp_path: Path) -> None:
    write = Hypothetical("files.write", path="a", user="user:another")
    strict = attrs.evolve(CONFIG, policy=PolicyRules(Preset.STRICT))
    async with open_fake_runtime(tmp_path) as runtime:
        runtime.gateway.reload(CONFIG, lambda _folder: strict)
        policies = runtime.gateway.policies
        await replace_policies(
            runtime.state,
            [PolicySource("m.cedar", '@id("me") forbid (principal in Daemon::User::"user:me", action, resource);')],
            "user:me",
        )
        found, deciding = await policies.explain(write, ME)
        assert found.decision.policies == ("me",)
        assert [each.name for each in deciding] == ["preset default", "config", "m.cedar"]
        other = attrs.evolve(OTHER, local=True)
        assert (await policies.explain(write, other))[0].decision.standing
        in_folder = attrs.evolve(write, workspace="/somewhere")
        assert not (await policies.explain(in_folder, other))[0].decision.standing
        stranger = attrs.evolve(OTHER, local=False)
        assert (await policies.explain(in_folder, stranger))[0].decision.standing, "only the local user's files count"
        with pytest.raises(InvalidArgument):
            await policies.explain(Hypothetical("files.write"), ME)
