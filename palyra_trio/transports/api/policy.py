"""Policy over the API: what was decided of a run's calls, by which policies and whom, and what would be of one that nobody made."""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from palyra_trio.core.identity import Scope
from palyra_trio.core.policy import Approval, Outcome
from palyra_trio.core.tape import ApprovalDecided, PolicyDecision, ToolFinished, ToolStarted
from palyra_trio.guard.policy_places import Place, ids_in, places_of
from palyra_trio.guard.policy_set import sources
from palyra_trio.journal.queries import Reader, whole_tape
from palyra_trio.runtime.call_stories import Story, call_stories
from palyra_trio.runtime.hypothetical import Hypothetical
from palyra_trio.transports.api.reading import Said
from palyra_trio.transports.api.route import API, Ask, get, post


class CallsQuery(Said, frozen=True):
    """With `call_id`, that call only."""

    call_id: str = ""


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


@attrs.frozen
class PolicyPass:
    """What the policies say of a call if nobody, or somebody, has approved it."""

    approval: Approval
    allowed: bool
    policies: tuple[Place, ...]
    errors: tuple[str, ...]


@attrs.frozen
class Explained:
    """What would be decided. `standing`: a person could allow it for longer than once."""

    outcome: Outcome
    reason: str
    standing: bool
    policy_hash: str
    passes: tuple[PolicyPass, ...]


@get(f"{API}/runs/{{run}}/calls", refuses=("config_invalid",))
async def explain_calls(ask: Ask, run: str, query: CallsQuery) -> CallAccounts:
    """The tool calls of a run: what was decided of each and why, who was asked, and what came of it."""

    def read(reader: Reader) -> tuple[str, str, tuple[Story, ...]]:
        found = reader.find_run(run, ask.context.principal)
        return found.run_id, found.workspace, call_stories(whole_tape(reader, found.run_id), query.call_id)

    policies = ask.gateway.policies
    run_id, workspace, stories = await ask.gateway.ask(read)
    rules = await policies.rules_in(workspace, ask.context)
    places, now = places_of(sources(policies.files, rules)), policies.hash_under(rules)
    return CallAccounts(run_id, tuple(_account(each, places, now) for each in stories))


@post(f"{API}/policy/explain", Scope.READ, refuses=("config_invalid",))
async def explain_call(ask: Ask, body: Hypothetical) -> Explained:
    """What would be decided of a call of yours that nobody has made."""
    explained, deciding = await ask.gateway.policies.explain(body, ask.context)
    places, decision = places_of(deciding), explained.decision
    passes = tuple(
        PolicyPass(approval, verdict.allowed, _placed(verdict.policies, places), tuple(verdict.errors))
        for approval, verdict in explained.passes
    )
    return Explained(decision.outcome, decision.reason, decision.standing, decision.policy_hash, passes)


def _account(story: Story, places: Mapping[str, Place], now: str) -> CallAccount:
    decisions, answers = list[Decided](), list[Answer]()
    started, grant_id, failed = False, "", ""
    for step in story.steps:
        match step.event:
            case PolicyDecision(outcome=outcome, reason=reason, rule=rule, policy_hash=hash):
                changed = hash not in ("", now)
                named = _placed(ids_in(rule, places), places)
                decisions.append(Decided(step.at_ms, outcome, reason, named, hash, changed))
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


def _placed(ids: Iterable[str], places: Mapping[str, Place]) -> tuple[Place, ...]:
    return tuple(places.get(each, Place(each, "", 0, "")) for each in ids)


ROUTES = (explain_calls, explain_call)
