"""A program that is allowed a host and a secret: one question that names both, and a tape that tells what came of it."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio

from palyra_trio.core.codec import encode
from palyra_trio.core.commands import DecideApproval
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.tape import ApprovalRequested, HostContacted, PolicyDecision, ToolFinished, ToolStarted
from palyra_trio.guard.vault import Scope
from palyra_trio.tools.process_run import run_tool
from palyra_trio.tools.sandbox import Sandbox, SandboxSettings, open_sandbox
from tests.fakes import ME, FakeProvider, open_fake_runtime, says
from tests.guard.test_vault_store import make_store
from tests.tools.fake_site import Names, Site, answer, egress_to
from tests.tools.zoo import NOBODY

VALUE = "a-token-that-nobody-may-see"
SCRIPT = 'curl -sS -H "authorization: Bearer $API_TOKEN" "$0"; echo "sent $API_TOKEN"; curl -sS http://evil.example/'


@pytest.fixture
async def sandbox() -> AsyncGenerator[Sandbox, None]:
    async with open_sandbox(SandboxSettings(user=str(NOBODY)), Path("/home/me")) as sandbox:
        await sandbox.prove()
        if sandbox.tier < 4:
            pytest.skip("unavailable: there is no tier 4 here")
        yield sandbox


def _opened_to_nobody(work: Path) -> None:
    """Let the user whom programs run as, where that is another, into the workspace."""
    if os.geteuid() == 0:
        work.mkdir()
        os.chown(work, NOBODY, NOBODY)
        for each in work.parents[:4]:
            if each.stat().st_uid == 0 and each != Path("/"):
                each.chmod(each.stat().st_mode | 0o011)


async def test_a_program_is_asked_about_once_with_its_host_and_its_secret_and_what_it_did_is_told(
    tmp_path: Path, sandbox: Sandbox, nursery: trio.Nursery
) -> None:
    _opened_to_nobody(tmp_path / "work")
    site = await Site([answer(b"from outside\n")]).start(nursery)
    host = f"site.example:{site.port}"
    names = Names(site_example=[("127.0.0.1",)])
    vault = make_store(tmp_path / "vault")
    vault.change(lambda v: v.with_secret("TOKEN", VALUE, Scope(ME.principal, (), ("site.example",)), 2))
    arguments = {
        "argv": ["sh", "-c", SCRIPT, f"http://{host}/"],
        "network": [host],
        "env": {"API_TOKEN": "secret:TOKEN"},
    }
    model = FakeProvider(says("", ToolCall("p", "process.run", arguments)), says("done"))
    tools = [run_tool(sandbox, trio.CapacityLimiter(2), egress_to(names))]
    async with open_fake_runtime(tmp_path, model, tools=tools, vault=vault) as runtime:
        with trio.fail_after(30):
            started = await runtime.start()
            asked = await runtime.until(started.run_id, ApprovalRequested)
            await runtime.do(DecideApproval(asked.approval_id, granted=True))
            tape = await runtime.ended(started.run_id)
        assert f"  network    {host} (public address), for whatever the program says there\n" in asked.prompt
        assert f"  secret     TOKEN, given to the program, which may send it to {host}\n" in asked.prompt
        assert asked.pattern is None
        (_, decision) = tape.of(PolicyDecision)
        assert decision.facts is not None
        assert [each["kind"] for each in decision.facts["resources"]] == ["tool", "host", "secret"]
        assert f"authorization: Bearer {VALUE}".encode() in site.requests[0]
        told = tape.one(ToolFinished).text
        assert "from outside" in told
        assert "sent [redacted:vault:" in told
        assert "palyra-trio refused this: evil.example:80 is none of the hosts" in told
        reached, refused = tape.of(HostContacted)
        assert (reached.host, reached.port, reached.allowed, reached.connections) == (
            "site.example",
            site.port,
            True,
            1,
        )
        assert (refused.host, refused.port, refused.allowed) == ("evil.example", 80, False)
        assert all(VALUE.encode() not in encode(event) for event in tape.events)
        assert VALUE not in repr(model.requests)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and VALUE.encode() in path.read_bytes()]


async def test_what_is_allowed_with_the_run_is_the_program_and_not_its_network(
    tmp_path: Path, sandbox: Sandbox, nursery: trio.Nursery
) -> None:
    _opened_to_nobody(tmp_path / "work")
    arguments = {"argv": ["ls"], "network": ["site.example:8443"]}
    model = FakeProvider(says("", ToolCall("p", "process.run", arguments)), says("done"))
    tools = [run_tool(sandbox, trio.CapacityLimiter(2), egress_to(Names(site_example=[("127.0.0.1",)])))]
    async with open_fake_runtime(tmp_path, model, tools=tools) as runtime:
        with trio.fail_after(30):
            tape = await runtime.run(attended=False, allowed_tools=("process.run",))
    assert tape.of(ToolStarted) == []
    assert tape.end[1] == "approval_expired"
