"""`palyra-trio approvals`: what runs ask of a person, the answers, and what stands allowed since.

An answer needs nobody to run the run: it is recorded, and the run finds it once somebody goes on with it.
"""

import time
from datetime import UTC, datetime

import attrs
import click

from palyra_trio.cli.door import submit
from palyra_trio.cli.open import has_journal, is_held, principal, reading, state_dir
from palyra_trio.cli.spans import span_option
from palyra_trio.cli.tables import json_option, print_json, print_newest
from palyra_trio.core.approvals import Approval, ApprovalState, Grant
from palyra_trio.core.commands import DecideApproval, RevokeGrant
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.policy import GrantScope
from palyra_trio.core.text import clean, visible
from palyra_trio.core.words import age, one_line
from palyra_trio.journal.queries import LIST_ROWS


@click.group()
def approvals() -> None:
    """List what runs ask you, answer, and take back what you allowed.

    ID is an approval's id, or the unique beginning of one. The first answer counts; a later one is told so, and fails.

    \b
    palyra-trio approvals list
    palyra-trio approvals show 01K3ZV
    palyra-trio approvals allow 01K3ZV --for 2h
    palyra-trio approvals deny 01K3ZV --reason "not in this folder"
    """


@approvals.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that were decided.")
@json_option
def list_approvals(everything: bool, as_json: bool) -> None:
    """List what waits for your answer, newest first."""
    found: tuple[Approval, ...] = ()
    if has_journal():
        with reading() as reader:
            found = reader.approvals.listed(principal(), pending=not everything, most=LIST_ROWS)
    if as_json:
        print_json({"approvals": [attrs.asdict(each) for each in found]})
        return
    now_ms = _now_ms()
    rows = [
        (each.approval_id, age(each.requested_ms, now_ms), _state(each, now_ms), each.run_id, _subject(each))
        for each in found
    ]
    nothing = "nothing was asked yet" if everything else "nothing waits for you"
    print_newest(("APPROVAL", "AGE", "STATE", "RUN", "ASKS"), rows, LIST_ROWS, nothing)


@approvals.command()
@click.argument("approval_id", metavar="ID")
@json_option
def show(approval_id: str, as_json: bool) -> None:
    """Show what you are asked: the very words that the run's tape holds."""
    with reading() as reader:
        found = reader.approvals.find(approval_id, principal())
        prompt = reader.approvals.prompt(found)
    if as_json:
        print_json({**attrs.asdict(found), "prompt": prompt})
        return
    now_ms = _now_ms()
    click.echo(f"approval  {found.approval_id}, {_state(found, now_ms)}")
    click.echo(f"run       {found.run_id}, asked {age(found.requested_ms, now_ms)} ago")
    if found.reason:
        click.echo(f"said      {one_line(found.reason)}")
    click.echo(f"\n{visible(prompt) or '(what was asked has been erased)'}")
    if found.state is ApprovalState.PENDING:
        answer = " --answer TEXT" if found.question else ""
        click.echo(f"\nnext: palyra-trio approvals allow {found.approval_id}{answer}", err=True)
        click.echo(f"      palyra-trio approvals deny {found.approval_id}", err=True)


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--session", "for_session", is_flag=True, help="Allow what the prompt's pattern covers in this session.")
@click.option(
    "--for", "for_ms", callback=span_option, metavar="TIME", help="The same in this folder for a time, such as 2h."
)
@click.option("--answer", default="", metavar="TEXT", help="The answer, where the agent asks a question.")
@json_option
def allow(approval_id: str, for_session: bool, for_ms: int, answer: str, as_json: bool) -> None:
    """Allow a call, once unless you say otherwise; or answer a question.

    \b
    palyra-trio approvals allow 01K3ZV
    palyra-trio approvals allow 01K3ZV --session
    palyra-trio approvals allow 01K3ZV --for 45min
    palyra-trio approvals allow 01K3ZV --answer "the blue one"
    """
    if for_session and for_ms:
        raise click.UsageError("--session and --for are two lengths: choose one")
    found = _find(approval_id)
    if found.question and not answer.strip():
        raise InvalidArgument("it asks a question", remedy="pass --answer TEXT, or decline it with `approvals deny`")
    if answer and not found.question:
        raise InvalidArgument("it asks for no answer", remedy="leave --answer out")
    scope: GrantScope = "session" if for_session else "time" if for_ms else "once"
    until_ms = _now_ms() + for_ms if for_ms else 0
    decision = DecideApproval(found.approval_id, True, answer, scope, until_ms)
    covered = found.tool if scope == "once" else found.pattern or found.tool
    done = "answered" if found.question else one_line(f"allowed {_length(scope, until_ms)}: {covered}")
    _decide(found, decision, done, as_json)


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--reason", default="", help="Why; the agent is told.")
@json_option
def deny(approval_id: str, reason: str, as_json: bool) -> None:
    """Refuse a call, or decline to answer a question.

    \b
    palyra-trio approvals deny 01K3ZV --reason "write to notes/ instead"
    """
    found = _find(approval_id)
    _decide(found, DecideApproval(found.approval_id, False, clean(reason)), f"denied: {one_line(found.tool)}", as_json)


@approvals.command()
@click.option("--all", "everything", is_flag=True, help="Also those that have ended or were revoked.")
@json_option
def grants(everything: bool, as_json: bool) -> None:
    """List what you allowed and what still holds, newest first."""
    found: tuple[Grant, ...] = ()
    if has_journal():
        with reading() as reader:
            found = reader.approvals.grants(principal(), _now_ms(), ended=everything, most=LIST_ROWS)
    if as_json:
        print_json({"grants": [attrs.asdict(each) for each in found]})
        return
    now_ms = _now_ms()
    rows = [
        (each.grant_id, age(each.made_ms, now_ms), _holds(each, now_ms), _covers(each), each.workspace)
        for each in found
    ]
    nothing = "no grants yet" if everything else "nothing stands allowed"
    print_newest(("GRANT", "AGE", "HOLDS", "COVERS", "IN"), rows, LIST_ROWS, nothing)


@approvals.command()
@click.argument("grant_id", metavar="GRANT")
@json_option
def revoke(grant_id: str, as_json: bool) -> None:
    """Take back what you allowed: what has not started under it will not, and what runs under it is stopped.

    \b
    palyra-trio approvals revoke 01K3ZV
    """
    submit(RevokeGrant(grant_id))
    if as_json:
        print_json({"grant_id": grant_id, "revoked": True})
    else:
        click.echo(f"revoked grant {grant_id}")


def _find(approval_id: str) -> Approval:
    with reading() as reader:
        return reader.approvals.find(approval_id, principal())


def _decide(approval: Approval, decision: DecideApproval, done: str, as_json: bool) -> None:
    held = is_held(state_dir())
    submit(decision)
    if as_json:
        state = ApprovalState.GRANTED if decision.granted else ApprovalState.DENIED
        print_json({**attrs.asdict(decision), "run_id": approval.run_id, "state": state})
    else:
        click.echo(done)
    if not held:
        click.echo(
            "nobody runs the run now: it goes on when `palyra-trio serve` runs, or with"
            f" `palyra-trio run --attach {approval.run_id}`",
            err=True,
        )


def _subject(approval: Approval) -> str:
    return "a question" if approval.question else one_line(str(approval.pattern or approval.tool))


def _state(approval: Approval, now_ms: int) -> str:
    if approval.state is ApprovalState.PENDING:
        if not approval.expires_ms:
            return "pending"
        return f"pending, expires in {age(now_ms, approval.expires_ms)}" if approval.expires_ms > now_ms else "expired"
    return f"{approval.state} by {approval.decided_by}"


def _covers(grant: Grant) -> str:
    return one_line(f"one call of {grant.pattern.tool}" if grant.scope == "once" else str(grant.pattern))


def _holds(grant: Grant, now_ms: int) -> str:
    length = _length(grant.scope, grant.until_ms)
    if grant.scope == "session":
        length = f"for session {grant.session_id}"
    if grant.used_ms and not grant.ended_ms:
        return "once, used"
    return f"{length}, over" if grant.over(now_ms) else length


def _length(scope: GrantScope, until_ms: int) -> str:
    if scope == "time":
        return f"until {datetime.fromtimestamp(until_ms / 1000, UTC):%Y-%m-%d %H:%MZ}"
    return "once" if scope == "once" else "for the session"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
