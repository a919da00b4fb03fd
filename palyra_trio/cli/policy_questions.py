"""`palyra-trio policy why|diff|explain`: what was decided and by what, and what would be.

Everything is read off tapes, or judged anew here; nothing is changed.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

import attrs
import click

from palyra_trio.cli.open import principal, reading
from palyra_trio.cli.policy_sets import current_workspace, in_force, known_tools, named
from palyra_trio.cli.tables import json_option, print_json, print_table
from palyra_trio.core.policy import CallFacts, IpClass, Risk
from palyra_trio.core.tape import ApprovalDecided, PolicyDecision, ToolFinished, ToolStarted
from palyra_trio.core.text import visible
from palyra_trio.core.words import IF_APPROVED, one_line
from palyra_trio.guard.policy_diff import Change, Difference, compare, outcome_words, recorded_calls
from palyra_trio.guard.policy_places import Place, ids_in, places_of
from palyra_trio.journal.queries import LIST_ROWS, whole_tape
from palyra_trio.runtime.call_stories import Story, call_stories, in_words
from palyra_trio.runtime.hypothetical import Explanation, described
from palyra_trio.runtime.hypothetical import explain as explained

# --- why ---


@click.command()
@click.argument("call", metavar="RUN[/CALL]")
@json_option
def why(call: str, as_json: bool) -> None:
    """Say what was decided of the calls of a run, by which policies, why, and who was asked.

    RUN is an id, the unique beginning of one, or `last`; CALL is the id of one call, as `palyra-trio tape` shows it.
    """
    run, _, call_id = call.partition("/")
    with reading() as reader:
        found = reader.find_run(run, principal())
        stories = call_stories(whole_tape(reader, found.run_id), call_id)
    current = in_force(found.workspace)
    places, now = places_of(current.sources), current.engine().hash
    if as_json:
        print_json({"run_id": found.run_id, "calls": [_plain(each, places, now) for each in stories]})
        return
    for index, story in enumerate(stories):
        if index:
            click.echo()
        for line in _told(story, places, now):
            click.echo(line)
    if not stories:
        click.echo(f"run {found.run_id} made no call", err=True)


def _told(story: Story, places: Mapping[str, Place], now: str) -> Iterator[str]:
    arguments = story.call.malformed or json.dumps(story.call.arguments, ensure_ascii=False)
    yield f"{story.call.call_id}: {story.call.tool} {one_line(arguments)}"
    shown = set[str]()
    for step in story.steps:
        yield f"  {one_line(in_words(step.event))}"
        if isinstance(decision := step.event, PolicyDecision):
            ids = ids_in(decision.rule, places)
            yield from _policies([each for each in ids if each not in shown], places)
            shown |= {*ids}
            if decision.policy_hash not in ("", now):
                yield f"    (decided by the policies {decision.policy_hash[:12]}; now {now[:12]} are in force)"


def _policies(ids: Iterable[str], places: Mapping[str, Place]) -> Iterator[str]:
    for each in ids:
        if (place := places.get(each)) is None:
            yield f"    {one_line(each)}"
            continue
        yield f"    {one_line(each)}, in {one_line(str(place))}"
        yield from (f"      {line}" for line in visible(place.text).splitlines())


def _plain(story: Story, places: Mapping[str, Place], now: str) -> dict[str, Any]:
    decisions = [
        {
            "outcome": decision.outcome,
            "reason": decision.reason,
            "policies": [
                attrs.asdict(places[each]) if each in places else {"id": each} for each in ids_in(decision.rule, places)
            ],
            "policy_hash": decision.policy_hash,
            "changed_since": decision.policy_hash not in ("", now),
        }
        for decision in story.decisions
    ]
    answers = [
        {"outcome": event.outcome, "by": event.by, "reason": event.reason, "scope": event.scope}
        for event in (step.event for step in story.steps)
        if isinstance(event, ApprovalDecided)
    ]
    started = [step.event.grant for step in story.steps if isinstance(step.event, ToolStarted)]
    finished = [step.event.error for step in story.steps if isinstance(step.event, ToolFinished)]
    return {
        "call_id": story.call.call_id,
        "tool": story.call.tool,
        "arguments": story.call.arguments,
        "decisions": decisions,
        "answers": answers,
        "started": bool(started),
        "grant": started[0] if started else "",
        "error": finished[0] if finished else "",
    }


# --- diff ---


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--runs", "runs", metavar="RUN", multiple=True, help="Only the calls of this run; repeat for several.")
@json_option
def diff(old: str, new: str, runs: tuple[str, ...], as_json: bool) -> None:
    """List the recorded calls that the policies NEW would decide otherwise than OLD.

    Each is `current`; a preset (default, strict, trusted-workspace), which then takes the place of yours; or a folder,
    whose files then take the place of yours. Calls are judged by what was recorded of them, as they were first proposed.
    """
    sets = [named(each) for each in (old, new)]
    with reading() as reader:
        found = [reader.find_run(run, principal()) for run in runs] or list(reader.runs(principal()))
        calls = [call for run in found for call in recorded_calls(run.run_id, whole_tape(reader, run.run_id))]
    difference = compare(calls, *(each.engine() for each in sets))
    if as_json:
        print_json(_plain_difference(difference))
        return
    rows = [
        (
            change.call.run_id,
            change.call.call_id,
            change.call.facts.tool,
            on(change.call.facts),
            outcome_words(change.old),
            outcome_words(change.new),
            f"{change.new.reason} ({', '.join(change.new.policies) or 'no policy'})",
        )
        for change in difference.changes
    ]
    print_table(("RUN", "CALL", "TOOL", "ON", "OLD", "NEW", "BECAUSE"), rows)
    for (before, after), count in sorted(difference.counts().items()):
        click.echo(f"{count} {before} -> {after}", err=True)
    click.echo(
        f"{len(rows)} of {difference.judged} recorded calls would be decided otherwise (runs looked at: {len(found)})",
        err=True,
    )
    if not runs and len(found) == LIST_ROWS:
        click.echo(f"these are your newest {LIST_ROWS} runs; --runs names others", err=True)


def _plain_difference(difference: Difference) -> dict[str, Any]:
    def plain(change: Change) -> dict[str, Any]:
        return {
            "run_id": change.call.run_id,
            "call_id": change.call.call_id,
            "tool": change.call.facts.tool,
            "on": on(change.call.facts),
            "old": {"outcome": outcome_words(change.old), "policies": change.old.policies, "reason": change.old.reason},
            "new": {"outcome": outcome_words(change.new), "policies": change.new.policies, "reason": change.new.reason},
        }

    counts = [{"old": old, "new": new, "calls": count} for (old, new), count in sorted(difference.counts().items())]
    return {"judged": difference.judged, "changes": [plain(each) for each in difference.changes], "counts": counts}


def on(facts: CallFacts) -> str:
    """Return what a call is on, in one line."""
    return ", ".join(each.name for each in facts.resources)


# --- explain ---


@click.command()
@click.argument("tool")
@click.option("--path", metavar="PATH", help="The file or folder, relative to the workspace or absolute.")
@click.option("--host", metavar="HOST[:PORT]", help="The host. Without a port: 443.")
@click.option("--secret", metavar="NAME", help="The secret, which would go to HOST.")
@click.option("--for-tool", "for_tools", metavar="TOOL", multiple=True, help="It was set for this tool.")
@click.option("--for-host", "for_hosts", metavar="HOST", multiple=True, help="It was set for this host.")
@click.option("--program", metavar="PATH", help="The program.")
@click.option("--exists", is_flag=True, help="There is such a file.")
@click.option("--method", metavar="METHOD", help="How the host is asked. Without: GET.")
@click.option("--scheme", metavar="SCHEME", help="Without: https.")
@click.option("--ip-class", type=click.Choice(get_args(IpClass)), help="What addresses the host has. Without: public.")
@click.option("--opaque", is_flag=True, help="The program is a shell, an interpreter or a wrapper.")
@click.option("--tier", "sandbox_tier", type=click.IntRange(0, 4), help="The sandbox tier. Without: 0.")
@click.option("--tainted", is_flag=True, help="The session has read content from strangers.")
@click.option("--user", metavar="KIND:NAME", help="Whose session it is. Without: yours.")
@click.option("--agent", metavar="NAME", help="Without: default.")
@click.option("--session", metavar="ID", help="The session's id.")
@click.option("--workspace", metavar="FOLDER", help="Without: the current folder.")
@click.option("--action", metavar="ACTION", help="For a tool that does not exist (yet): fs.read, net.fetch and so on.")
@click.option("--risk", type=click.Choice(get_args(Risk)), help="For a tool that does not exist (yet).")
@json_option
def explain(tool: str, as_json: bool, **given: Any) -> None:
    """Say what would be decided of a call of TOOL that nobody made, and by which policies.

    Nothing is looked up: whether PATH exists, and what HOST's addresses are, is as you say.
    """
    plain = {key: value for key, value in given.items() if value not in (None, False, ())}
    host, colon, port = plain.get("host", "").rpartition(":")
    if colon and port.isdigit():
        plain |= {"host": host, "port": int(port)}
    workspace = plain.setdefault("workspace", current_workspace())
    current = in_force(workspace)
    call = described({"user": principal(), "now_s": int(time.time()), **plain, "tool": tool})
    found, places = explained(call, known_tools(), current.engine()), places_of(current.sources)
    if as_json:
        print_json(_plain_explanation(found, places))
        return
    for line in _explained(found, places):
        click.echo(line)


def _explained(found: Explanation, places: Mapping[str, Place]) -> Iterator[str]:
    facts, decision = found.facts, found.decision
    yield f"{one_line(facts.tool)} on {one_line(on(facts))} ({facts.action}, risk {facts.risk})"
    yield f"{outcome_words(decision)}: {one_line(decision.reason)}"
    for approval, verdict in found.passes:
        yield f"  {IF_APPROVED[approval]}: {'allowed' if verdict.allowed else 'not allowed'}"
        yield from (f"    error: {one_line(each)}" for each in verdict.errors)
        if not verdict.policies and not verdict.errors:
            yield "    no policy permits it"
        yield from (f"    {one_line(each)}, in {one_line(str(places[each]))}" for each in verdict.policies)


def _plain_explanation(found: Explanation, places: Mapping[str, Place]) -> dict[str, Any]:
    decision = found.decision
    passes = [
        {
            "approval": approval,
            "allowed": verdict.allowed,
            "policies": [attrs.asdict(places[each]) for each in verdict.policies],
            "errors": verdict.errors,
        }
        for approval, verdict in found.passes
    ]
    plain = {"outcome": decision.outcome, "standing": decision.standing, "reason": decision.reason}
    return {**plain, "policy_hash": decision.policy_hash, "passes": passes}
