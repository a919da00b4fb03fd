"""A tool gets a secret by policy and by reference: whoever reads the journal, or is the model, sees its name and no more."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio
import trustme

from palyra_trio.core.codec import encode
from palyra_trio.core.commands import DecideApproval
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.tape import ApprovalRequested, PolicyDecision, ToolFinished
from palyra_trio.guard.vault import Scope
from palyra_trio.guard.vault_store import VaultStore
from palyra_trio.tools.fetch import fetch_tools
from tests.fakes import ME, FakeProvider, Runtime, Tape, open_fake_runtime, says
from tests.guard.test_vault_store import make_store
from tests.tools.fake_site import Names, Site, answer, egress_to

VALUE = "a-token-that-nobody-may-see"


@attrs.frozen
class Scene:
    """A runtime with a vault, whose model fetches from `site.example` (over TLS, on loopback) with the secret GITHUB."""

    runtime: Runtime
    site: Site
    vault: VaultStore
    model: FakeProvider

    def set(self, *hosts: str, value: str = VALUE) -> None:
        self.vault.change(lambda vault: vault.with_secret("GITHUB", value, Scope(ME.principal, (), hosts), 2))

    async def run(self, *, granted: bool = True) -> tuple[Tape, ApprovalRequested]:
        """Run it, and answer the question that comes."""
        with trio.fail_after(20):
            started = await self.runtime.start()
            asked = await self.runtime.until(started.run_id, ApprovalRequested)
            await self.runtime.do(DecideApproval(asked.approval_id, granted=granted))
            return await self.runtime.ended(started.run_id), asked


@asynccontextmanager
async def opened(folder: Path, nursery: trio.Nursery) -> AsyncGenerator[Scene, None]:
    ca = trustme.CA()
    serving, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    ca.issue_cert("site.example").configure_cert(serving)
    ca.configure_trust(trusting)
    site = await Site([answer(f"you sent Bearer {VALUE}".encode())], tls=serving).start(nursery)
    headers = {"authorization": "Bearer secret:GITHUB"}
    call = ToolCall("f", "fetch.get", {"url": f"https://site.example:{site.port}/", "headers": headers})
    model = FakeProvider(says("", call), says("done"))
    tools = fetch_tools(egress_to(Names(site_example=[("127.0.0.1",)])), lambda: trusting)
    vault = make_store(folder / "vault")
    async with open_fake_runtime(folder, model, tools=tools, vault=vault) as runtime:
        yield Scene(runtime, site, vault, model)


def _holds(folder: Path, value: str) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and value.encode() in path.read_bytes()]


async def test_it_is_asked_for_by_name_and_host_sent_and_seen_by_nobody(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with opened(tmp_path, nursery) as here:
        here.set("site.example")  # after the start of the process, as `secrets set` in another terminal does
        tape, asked = await here.run()
        port = here.site.port
        assert f"  secret     GITHUB, sent to site.example:{port}\n" in asked.prompt
        assert '{"authorization": "Bearer secret:GITHUB"}' in asked.prompt
        assert asked.pattern is None  # nothing that holds for longer than this call
        assert f"authorization: Bearer {VALUE}".encode() in here.site.requests[0]
        told = tape.one(ToolFinished).text
        assert "you sent Bearer [redacted:vault:" in told
        assert all(VALUE.encode() not in encode(event) for event in tape.events)
        assert VALUE not in repr(here.model.requests)
    assert _holds(tmp_path, VALUE) == []


async def test_who_says_no_has_nothing_sent(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with opened(tmp_path, nursery) as here:
        here.set("site.example")
        await here.run(granted=False)
        assert here.site.requests == []


async def test_a_secret_that_is_changed_while_the_question_is_open_is_sent_as_it_is_then(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    async with opened(tmp_path, nursery) as here:
        here.set("site.example", value="the value of yesterday")
        with trio.fail_after(20):
            started = await here.runtime.start()
            asked = await here.runtime.until(started.run_id, ApprovalRequested)
            here.set("site.example")
            await here.runtime.do(DecideApproval(asked.approval_id, granted=True))
            await here.runtime.ended(started.run_id)
        assert f"authorization: Bearer {VALUE}".encode() in here.site.requests[0]


async def test_a_secret_that_was_narrowed_while_the_question_was_open_is_not_sent(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    async with opened(tmp_path, nursery) as here:
        here.set("site.example")
        with trio.fail_after(20):
            started = await here.runtime.start()
            asked = await here.runtime.until(started.run_id, ApprovalRequested)
            here.set("elsewhere.example")
            await here.runtime.do(DecideApproval(asked.approval_id, granted=True))
            tape = await here.runtime.ended(started.run_id)
        assert "was set for elsewhere.example, not for site.example" in tape.of(PolicyDecision)[-1].reason
        assert here.site.requests == []


async def test_what_was_set_for_no_host_or_another_or_is_not_there_is_refused_and_nobody_is_asked(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    async with opened(tmp_path, nursery) as here:
        refusals = []
        for hosts in (None, (), ("elsewhere.example",)):
            if hosts is not None:
                here.set(*hosts)
            here.model.requests.clear()  # it plays its turns anew
            with trio.fail_after(20):
                tape = await here.runtime.run()
            assert not tape.of(ApprovalRequested)
            (decision,) = tape.of(PolicyDecision)
            refusals.append((decision.outcome, decision.reason))
        assert here.site.requests == []
    assert refusals[0] == ("deny", "there is no secret GITHUB (palyra-trio secrets set GITHUB)")
    assert refusals[1] == ("deny", "no policy allows it")
    assert refusals[2][1].startswith("the secret GITHUB was set for elsewhere.example, not for site.example")
