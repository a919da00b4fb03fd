"""What was decided of each call of a run, by which of the policies that are in force now, who was asked, and what came of it."""

from collections.abc import Mapping
from typing import Any

import attrs

from palyra_trio.core.identity import RequestContext
from palyra_trio.core.tape import ApprovalDecided, PolicyDecision, ToolFinished, ToolStarted
from palyra_trio.guard.policy_places import Place, ids_in, named, places_of
from palyra_trio.guard.policy_set import sources
from palyra_trio.journal.queries import Reader, whole_tape
from palyra_trio.runtime.call_stories import Story, call_stories
from palyra_trio.runtime.gateway import Gateway


@attrs.frozen
class Decided:
    """What policy decided, by which policies. `changed_since` says that other policies are in force now."""

    at_ms: int
    outcome: str
    reason: str
    policies: tuple[Place, ...]
    policy_hash: str
    changed_since: bool


@attrs.frozen
class Answer:
    """What a person answered."""

    at_ms: int
    outcome: str
    by: str
    reason: str
    scope: str


@attrs.frozen
class CallAccount:
    """A call of a run, and what became of it. `grant_id` is what it was started under, `error` how it failed, if it did."""

    call_id: str
    tool: str
    arguments: Any
    decisions: tuple[Decided, ...]
    answers: tuple[Answer, ...]
    started: bool
    grant_id: str
    error: str


@attrs.frozen
class CallAccounts:
    run_id: str
    calls: tuple[CallAccount, ...]


async def call_accounts(gateway: Gateway, run: str, call_id: str, context: RequestContext) -> CallAccounts:
    """Return the accounts of a run's calls, or that of one call. Raises NotFound and ConfigInvalid."""

    def read(reader: Reader) -> tuple[str, str, tuple[Story, ...]]:
        found = reader.find_run(run, context.principal)
        return found.run_id, found.workspace, call_stories(whole_tape(reader, found.run_id), call_id)

    run_id, workspace, stories = await gateway.ask(read)
    rules = await gateway.policies.rules_in(workspace, context)
    places, now = places_of(sources(gateway.policies.files, rules)), gateway.policies.hash_under(rules)
    return CallAccounts(run_id, tuple(_account(each, places, now) for each in stories))


def _account(story: Story, places: Mapping[str, Place], now: str) -> CallAccount:
    decisions, answers = list[Decided](), list[Answer]()
    started, grant_id, failed = False, "", ""
    for step in story.steps:
        match step.event:
            case PolicyDecision(outcome=outcome, reason=reason, rule=rule, policy_hash=hash):
                deciding, changed = named(ids_in(rule, places), places), hash not in ("", now)
                decisions.append(Decided(step.at_ms, outcome, reason, deciding, hash, changed))
            case ApprovalDecided(outcome=outcome, by=by, reason=reason, scope=scope):
                answers.append(Answer(step.at_ms, outcome, by, reason, scope))
            case ToolStarted(grant=grant):
                started, grant_id = True, grant
            case ToolFinished(error=error):
                failed = error
    call = story.call
    return CallAccount(
        call.call_id, call.tool, call.arguments, tuple(decisions), tuple(answers), started, grant_id, failed
    )
