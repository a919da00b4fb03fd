"""`palyra-trio sessions`: conversations, each a line of runs in which the later ones know the earlier."""

import time
from collections.abc import Iterator

import attrs
import click

from palyra_trio.cli.door import submit
from palyra_trio.cli.jobs import job_rows, plain
from palyra_trio.cli.open import has_journal, is_held, principal, reading, state_dir, state_word
from palyra_trio.cli.tables import json_option, print_json, print_newest, print_table
from palyra_trio.core.commands import ArchiveSession, RenameSession
from palyra_trio.core.session import Session
from palyra_trio.core.words import age, one_line
from palyra_trio.journal.queries import LIST_ROWS
from palyra_trio.journal.search import Hit


@click.group()
def sessions() -> None:
    """List, show, search, rename and archive sessions.

    SESSION is an id, the unique beginning of one, a session's key, or `last`.
    """


@sessions.command("list")
@click.option("--archived", is_flag=True, help="Also those that were archived.")
@json_option
def list_sessions(archived: bool, as_json: bool) -> None:
    """List your sessions, newest first."""
    found: tuple[Session, ...] = ()
    if has_journal():
        with reading() as reader:
            found = reader.sessions(principal(), archived=archived)
    if as_json:
        print_json({"sessions": [attrs.asdict(session) for session in found]})
        return
    now_ms = time.time_ns() // 1_000_000
    rows = [
        (each.session_id, age(each.created_ms, now_ms), each.key or "", _archived(each.archived_ms) + each.title)
        for each in found
    ]
    print_newest(("SESSION", "AGE", "KEY", "TITLE"), rows, LIST_ROWS, "no sessions yet")


@sessions.command()
@click.argument("session")
@json_option
def show(session: str, as_json: bool) -> None:
    """Show a session, its runs and its jobs, newest first."""
    with reading() as reader:
        found = reader.find_session(session, principal())
        runs = reader.runs(principal(), session_id=found.session_id)
        jobs = reader.jobs.listed(principal(), session_id=found.session_id, ended=True, most=LIST_ROWS)
    held = is_held(state_dir())
    if as_json:
        listed = [{**attrs.asdict(run), "state": state_word(run, held)} for run in runs]
        print_json({"session": attrs.asdict(found), "runs": listed, "jobs": [plain(each, held) for each in jobs]})
        return
    now_ms = time.time_ns() // 1_000_000
    click.echo(f"session  {found.session_id}{' (archived)' if found.archived_ms is not None else ''}")
    click.echo(f"title    {one_line(found.title)}")
    if found.key is not None:
        click.echo(f"key      {one_line(found.key)}")
    click.echo(f"opened   {age(found.created_ms, now_ms)} ago\n")
    rows = [(run.run_id, age(run.created_ms, now_ms), state_word(run, held), run.title) for run in runs]
    print_table(("RUN", "AGE", "STATE", "TITLE"), rows)
    if jobs:
        click.echo()
    print_table(("JOB", "AGE", "STATE", "COMMAND"), [(*row[:3], row[4]) for row in job_rows(jobs, held)])
    if found.archived_ms is None:
        click.echo(f'next: palyra-trio run --session {found.session_id} "…"', err=True)


@sessions.command()
@click.argument("session")
@click.argument("words", nargs=-1, required=True)
@json_option
def search(session: str, words: tuple[str, ...], as_json: bool) -> None:
    """Find what was said in a session, newest first: prompts, answers, calls of tools and their results.

    A text is found that has all WORDS, each anywhere in it and in any case. `palyra-trio tape RUN` shows what led to it.
    """
    found = [*_hits(session, " ".join(words))]
    if as_json:
        print_json({"hits": [attrs.asdict(hit) for hit in found]})
        return
    now_ms = time.time_ns() // 1_000_000
    rows = [
        (hit.run_id, str(hit.seq), age(hit.at_ms, now_ms), f"{hit.part} {hit.tool}".strip(), _excerpt(hit))
        for hit in found
    ]
    print_newest(("RUN", "SEQ", "AGE", "WHAT", "TEXT"), rows, LIST_ROWS, "nobody said that")


@sessions.command()
@click.argument("session")
@click.argument("title")
@json_option
def rename(session: str, title: str, as_json: bool) -> None:
    """Give a session another title: the first line of TITLE."""
    with reading() as reader:
        found = reader.find_session(session, principal())
    submit(RenameSession(found.session_id, title))
    with reading() as reader:
        renamed = reader.find_session(found.session_id, principal())
    if as_json:
        print_json({"session": attrs.asdict(renamed)})
    else:
        click.echo(f"session {renamed.session_id} is called {one_line(renamed.title)}")


@sessions.command()
@click.argument("session")
@json_option
def archive(session: str, as_json: bool) -> None:
    """Close a session: it takes no more runs, and its key is free again."""
    with reading() as reader:
        found = reader.find_session(session, principal())
    submit(ArchiveSession(found.session_id))
    if as_json:
        print_json({"session_id": found.session_id, "archived": True})
    else:
        click.echo(f"archived session {found.session_id}")


def _hits(session: str, text: str) -> Iterator[Hit]:
    """Yield all hits, page by page, or the newest LIST_ROWS."""
    left, before = LIST_ROWS, ""
    with reading() as reader:
        while left:
            page = reader.search(session, principal(), text, before, left)
            yield from page.hits
            left, before = left - len(page.hits), page.before
            if not before:
                return


def _excerpt(hit: Hit) -> str:
    return " ".join("".join(piece.text for piece in hit.excerpt).split())


def _archived(archived_ms: int | None) -> str:
    return "" if archived_ms is None else "(archived) "
