"""`palyra-trio runs`: what was run, how each run stands, and what can still be done about it."""

import time
from collections.abc import Mapping

import attrs
import click

from palyra_trio.cli.account import NAMED_CHANGES, account_of
from palyra_trio.cli.door import submit
from palyra_trio.cli.open import INTERRUPTED, confirm, has_journal, is_held, principal, reading, state_dir, state_word
from palyra_trio.cli.outputs import output
from palyra_trio.cli.run_tree import ask_tree, tree_lines, tree_plain
from palyra_trio.cli.tables import json_option, print_json, print_newest, safe_for_stdout
from palyra_trio.core.commands import CancelRun, TakeUpRun, UndoRun
from palyra_trio.core.errors import StateConflict
from palyra_trio.core.run import TERMINAL, RunState
from palyra_trio.core.tape import PolicyDecision
from palyra_trio.core.why import standing
from palyra_trio.core.words import age, ahead, one_line
from palyra_trio.journal.queries import LIST_ROWS, RunSummary, whole_tape
from palyra_trio.pb.jobs_pb2 import GetRunTreeResponse
from palyra_trio.runtime.undo import Changes, changes_of
from palyra_trio.tools.undo import diff as diff_of
from palyra_trio.tools.undo import net_changes

_ENDED: Mapping[str, str] = {RunState.FAILED: "failed", RunState.CANCELLED: "was cancelled"}


@click.group()
def runs() -> None:
    """List, show, explain, cancel, resume, compare and undo runs.

    RUN is an id, the unique beginning of one, or `last`.
    """


runs.add_command(output)


@runs.command("list")
@click.option("--session", metavar="SESSION", help="Only the runs of this session.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*(state.value for state in RunState), INTERRUPTED]),
    help="Only runs in this state; repeat for several.",
)
@json_option
def list_runs(session: str | None, states: tuple[str, ...], as_json: bool) -> None:
    """List your runs, newest first.

    A run whose process has gone is shown as interrupted.
    """
    found: list[tuple[RunSummary, str]] = []
    if has_journal() or session is not None:
        found = _stand(session, states)
    if as_json:
        print_json({"runs": [{**attrs.asdict(run), "state": word} for run, word in found]})
        return
    now_ms = time.time_ns() // 1_000_000
    rows = [(run.run_id, age(run.created_ms, now_ms), _because(run, word), run.title) for run, word in found]
    nothing = "no such runs" if session or states else "no runs yet"
    print_newest(("RUN", "AGE", "STATE", "TITLE"), rows, LIST_ROWS, nothing)


def _stand(session: str | None, states: tuple[str, ...]) -> list[tuple[RunSummary, str]]:
    """Return runs, and the word for how each stands now."""
    asked_for = {RunState(state) for state in states if state != INTERRUPTED}
    if INTERRUPTED in states:
        asked_for |= {RunState.RUNNING, RunState.WAITING}
    with reading() as reader:
        session_id = reader.find_session(session, principal()).session_id if session is not None else None
        found = reader.runs(principal(), session_id=session_id, states=asked_for)
    held = is_held(state_dir())
    stand = [(run, state_word(run, held)) for run in found]
    return [(run, word) for run, word in stand if not states or word in states]


def _show_tree(run: RunSummary, as_json: bool) -> None:
    word = state_word(run, is_held(state_dir()))
    tree = ask_tree(run.run_id)
    if tree is None:
        click.echo("no process holds the journal, so nothing of it is alive", err=True)
        tree = GetRunTreeResponse(run_id=run.run_id, session_id=run.session_id)
    if as_json:
        print_json(tree_plain(tree, word))
        return
    for line in tree_lines(tree, word, time.time_ns() // 1_000_000):
        click.echo(line)


def _because(run: RunSummary, word: str) -> str:
    return f"{word}: {run.reason}" if word in (RunState.FAILED, RunState.WAITING) and run.reason else word


@runs.command()
@click.argument("run")
@click.option(
    "--tree", "as_tree", is_flag=True, help="Show what of it is alive: calls, processes, jobs of its session."
)
@json_option
def show(run: str, as_tree: bool, as_json: bool) -> None:
    """Show what a run was asked, what it did, and what came of it."""
    with reading() as reader:
        found = reader.find_run(run, principal())
        if as_tree:
            _show_tree(found, as_json)
            return
        account = account_of(reader, found, state_word(found, is_held(state_dir())))
    if as_json:
        print_json(account.plain())
        return
    for line in account.lines(time.time_ns() // 1_000_000):
        click.echo(line)
    click.echo(f"\nnext: palyra-trio tape {found.run_id}", err=True)
    if account.changes:
        click.echo(f"      palyra-trio runs diff {found.run_id}", err=True)
    for each in account.open_requests():
        click.echo(f"      palyra-trio approvals show {each.approval_id}", err=True)
    if found.state not in TERMINAL:
        click.echo(f"      palyra-trio runs cancel {found.run_id}", err=True)


@runs.command()
@click.argument("run")
@json_option
def why(run: str, as_json: bool) -> None:
    """Say why a run does not go on, or how it ended: what it waits for, since when, and until when at most."""
    with reading() as reader:
        found = reader.find_run(run, principal())
        rows = whole_tape(reader, found.run_id)
    word = state_word(found, is_held(state_dir()))
    stands = standing(rows, interrupted=word == INTERRUPTED)
    if as_json:
        shown = {
            "run_id": found.run_id,
            "state": word,
            "ending": stands.ending,
            "waits": [attrs.asdict(each) for each in stands.waits],
        }
        print_json(shown)
        return
    because = f" ({stands.reason})" if stands.reason else ""
    detail = f": {one_line(stands.detail)}" if stands.detail else ""
    click.echo(f"run {found.run_id} {_ENDED.get(word, f'is {word}')}{because}{detail}")
    now_ms = time.time_ns() // 1_000_000
    for each in stands.waits:
        until = f", for {ahead(each.until_ms, now_ms)} more at most" if each.until_ms else ""
        click.echo(f"waits for {one_line(each.what)}, for {age(each.since_ms, now_ms)}{until}")
        if each.approval_id:
            click.echo(f"next: palyra-trio approvals show {each.approval_id}", err=True)
    if word == INTERRUPTED:
        click.echo("its process has gone, and none goes on with it: go on in its session, or end it", err=True)
        click.echo(f'next: palyra-trio run --session {found.session_id} "…"', err=True)
        click.echo(f"      palyra-trio runs cancel {found.run_id}", err=True)
    if any(isinstance(event := row.event(), PolicyDecision) and event.outcome == "deny" for row in rows):
        click.echo(f"next: palyra-trio policy why {found.run_id}", err=True)


@runs.command()
@click.argument("run")
@click.option("--reason", default="", help="Why; it is recorded on the tape.")
@json_option
def cancel(run: str, reason: str, as_json: bool) -> None:
    """End a run that has not ended."""
    with reading() as reader:
        found = reader.find_run(run, principal())
    if found.state in TERMINAL:
        raise StateConflict(f"run {found.run_id} is {found.state} already")
    submit(CancelRun(found.run_id, reason))
    if as_json:
        print_json({"run_id": found.run_id, "state": RunState.CANCELLED})
    else:
        click.echo(f"cancelled run {found.run_id}")


@runs.command()
@click.argument("run")
@json_option
def resume(run: str, as_json: bool) -> None:
    """Go on with a run that an earlier process left in line, or waiting for you.

    What it still asks must be answered first. Without a daemon it goes as far as it gets in this process.
    `palyra-trio run --attach RUN` does the same, and follows it.
    """
    with reading() as reader:
        found = reader.find_run(run, principal())
    word = state_word(found, is_held(state_dir()))
    if found.state in TERMINAL or word == INTERRUPTED:
        raise StateConflict(f"run {found.run_id} is {word}", remedy=f"start another in session {found.session_id}")
    submit(TakeUpRun(found.run_id))
    with reading() as reader:
        found = reader.find_run(found.run_id, principal())
    word = state_word(found, is_held(state_dir()))
    if as_json:
        print_json({"run_id": found.run_id, "state": word, "reason": found.reason})
    else:
        click.echo(f"run {found.run_id} is {_because(found, word)}")
    if word == RunState.WAITING:
        click.echo("next: palyra-trio approvals list", err=True)


@runs.command()
@click.argument("run")
@json_option
def diff(run: str, as_json: bool) -> None:
    """Show what a run did to files, as one unified diff.

    It tells what the run wrote, not how the files are now.
    """
    with reading() as reader:
        found = reader.find_run(run, principal())
        changes = changes_of(reader, found.run_id)
        text = diff_of(changes.told, reader.blob)
    if as_json:
        net = [attrs.asdict(change) for change in net_changes(changes.told)]
        notes = list(changes.notes())
        shown = {"run_id": found.run_id, "workspace": found.workspace, "changes": net, "diff": text, "notes": notes}
        print_json(shown)
        return
    click.echo(safe_for_stdout(text), nl=False)
    _tell(changes)
    if not text and not changes.notes():
        click.echo(f"run {found.run_id} changed no file", err=True)


@runs.command()
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def undo(run: str, yes: bool, as_json: bool) -> None:
    """Take back what a run did to files, all of it or nothing.

    Refused when one of the files was changed since. The undoing is recorded on the session's tape.
    """
    with reading() as reader:
        found = reader.find_run(run, principal())
        known = changes_of(reader, found.run_id)
        changes = net_changes(known.told)
    if found.state not in TERMINAL:
        raise StateConflict(f"run {found.run_id} is {found.state}", remedy="cancel it, or wait for its end")
    _tell(known)
    if not changes:
        raise StateConflict(f"run {found.run_id} changed no file that is known, so there is nothing to undo")
    click.echo(f"in {one_line(found.workspace)}:", err=True)
    for change in changes[:NAMED_CHANGES]:
        click.echo(f"  {'remove' if change.before is None else 'put back'} {one_line(change.path)}", err=True)
    if len(changes) > NAMED_CHANGES:
        click.echo(f"  and {len(changes) - NAMED_CHANGES} more", err=True)
    confirm("Undo this?", yes)
    submit(UndoRun(found.run_id))
    if as_json:
        print_json({"run_id": found.run_id, "undone": [attrs.asdict(change) for change in changes]})
    else:
        click.echo(f"undone: run {found.run_id}")


def _tell(changes: Changes) -> None:
    for note in changes.notes():
        click.echo(one_line(note), err=True)
