"""Approvals as lists show them: what is asked, and by which agent in which session."""

from collections.abc import Iterable

import attrs

from palyra_trio.core.approvals import Approval
from palyra_trio.journal.queries import Reader


@attrs.frozen
class ApprovalLine:
    """An approval in a list, its words, and whose it is: `title` is its session's. `prompt` is "" where that was erased."""

    approval: Approval
    prompt: str
    agent: str
    title: str


def approval_lines(reader: Reader, found: Iterable[Approval]) -> tuple[ApprovalLine, ...]:
    """Return approvals with what is asked and whose they are: three look-ups each, so pass no more than are shown."""
    return tuple(_line(reader, each) for each in found)


def _line(reader: Reader, approval: Approval) -> ApprovalLine:
    run, session = reader.run(approval.run_id), reader.session(approval.session_id)
    return ApprovalLine(
        approval,
        reader.approvals.prompt(approval),
        run.agent if run is not None else "",
        session.title if session is not None else "",
    )
