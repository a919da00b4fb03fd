"""A form's answer to a question, and what comes of it."""

from pathlib import Path

import pytest

from palyra_trio.core.commands import DecideApproval
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.messages import ModelReply, ToolCall
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import ApprovalDecided, ApprovalRequested
from palyra_trio.transports.console.deciding import SAID_NO, decision_of
from tests.fakes import FakeProvider, says
from tests.transports.console.browsing import open_console

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("form", "decision"),
    [
        ({"choice": "2", "reason": ""}, DecideApproval("a", True, "2")),
        ({"answer": "once"}, DecideApproval("a", True)),
        ({"answer": "once", "reason": " blue "}, DecideApproval("a", True, "blue")),
        ({"answer": "session"}, DecideApproval("a", True, scope="session")),
        ({"answer": "time", "span": "1h"}, DecideApproval("a", True, scope="time", until_ms=5 + HOUR_MS)),
        ({"answer": "deny"}, DecideApproval("a", False, SAID_NO)),
        ({"answer": "deny", "reason": "not now"}, DecideApproval("a", False, "not now")),
    ],
)
def test_each_button_decides_one_thing(form: dict[str, str], decision: DecideApproval) -> None:
    assert decision_of("a", form, 5) == decision


@pytest.mark.parametrize(
    "form",
    [{}, {"choice": ""}, {"answer": ""}, {"answer": "always"}, {"answer": "time"}, {"answer": "time", "span": "9y"}],
)
def test_a_form_that_decides_nothing_is_refused(form: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        decision_of("a", form, 5)


async def test_enter_in_a_field_decides_nothing(tmp_path: Path) -> None:
    """The default button of a form, which Enter presses, is its first one; nothing is sent where that is disabled."""
    call = ToolCall("c1", "files.write", {"path": "a.txt", "text": "x"})
    async with open_console(tmp_path, FakeProvider([ModelReply("", (call,), "tool_calls")], says("done"))) as console:
        accepted, browser = await console.runtime.start(), console.visitor()
        asked = await console.runtime.until(accepted.run_id, ApprovalRequested)
        page = (await browser.get("/approvals")).text
        form = page.partition(f'action="/approvals/{asked.approval_id}/decide"')[2].partition("</form>")[0]
        assert 'name="reason"' in form
        assert form.partition("<button")[2].partition(">")[0].split() == ["hidden", "disabled"]
        await browser.post(f"/approvals/{asked.approval_id}/decide", {"answer": "deny"})
        await console.runtime.ended(accepted.run_id)


@pytest.mark.parametrize(("answer", "outcome"), [("once", "granted"), ("deny", "denied")])
async def test_an_answer_goes_to_the_run_once(tmp_path: Path, answer: str, outcome: str) -> None:
    call = ToolCall("c1", "files.write", {"path": "a.txt", "text": "x"})
    async with open_console(tmp_path, FakeProvider([ModelReply("", (call,), "tool_calls")], says("done"))) as console:
        accepted, browser = await console.runtime.start(), console.visitor()
        asked = await console.runtime.until(accepted.run_id, ApprovalRequested)
        path = f"/approvals/{asked.approval_id}/decide"
        assert (await browser.post(path, {"answer": answer})).status == 303
        tape = await console.runtime.ended(accepted.run_id)
        assert tape.one(ApprovalDecided).outcome == outcome
        assert tape.end[0] is RunState.DONE
        again = await browser.post(path, {"answer": "once"})
        assert again.status == 409
