"""Questions in lists: each says whose it is."""

from pathlib import Path

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.commands import DefineAgent, RenameSession
from palyra_trio.core.identity import Scope
from palyra_trio.core.messages import ToolCall
from palyra_trio.core.tape import ApprovalRequested
from palyra_trio.transports.console.approval_lines import approval_lines
from tests.fakes import ME, FakeProvider, says
from tests.transports.console.browsing import open_console


async def test_a_question_says_which_agent_asks_it_in_which_session_and_leads_to_its_run(tmp_path: Path) -> None:
    writes = FakeProvider(says("", ToolCall("c1", "files.write", {"path": "a.txt", "text": "x"})), says("ok"))
    async with open_console(tmp_path) as console:
        runtime, browser = console.runtime, console.visitor(scopes=frozenset({Scope.READ, Scope.APPROVE}))
        await runtime.do(DefineAgent(AgentSpec("scribe")))
        accepted = await runtime.start("a task", writes, agent="scribe", detached=True)
        request = await runtime.until(accepted.run_id, ApprovalRequested)
        await runtime.do(RenameSession(accepted.session_id, "<b>Spring</b>"))
        (found,) = await runtime.gateway.ask(
            lambda reader: approval_lines(reader, reader.approvals.listed(ME.principal, pending=True))
        )
        assert (found.agent, found.title, found.prompt) == ("scribe", "<b>Spring</b>", request.prompt)
        for path in ("/", "/approvals"):
            page = await browser.get(path)
            summary = page.text.partition('<details class="ask"')[2].partition("</summary>")[0]
            assert "scribe · &lt;b&gt;Spring&lt;/b&gt;" in summary
            assert f'href="/runs/{accepted.run_id}">Its run</a>' in page.text
        await browser.post(f"/approvals/{request.approval_id}/decide", {"answer": "once"})
        await runtime.ended(accepted.run_id)
        for path in ("/approvals", "/approvals/history"):
            assert "scribe · <b>Spring</b>" in await browser.get(path)
