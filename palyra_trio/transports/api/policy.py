"""Policy over the API: what was decided of a run's calls, by which policies and whom, and what would be of one that nobody made."""

import attrs

from palyra_trio.core.identity import Scope
from palyra_trio.core.policy import Approval, Outcome
from palyra_trio.guard.policy_places import Place, named, places_of
from palyra_trio.runtime.call_accounts import CallAccounts, call_accounts
from palyra_trio.runtime.hypothetical import Hypothetical
from palyra_trio.transports.api.reading import Said
from palyra_trio.transports.api.route import API, Ask, get, post


class CallsQuery(Said, frozen=True):
    """With `call_id`, that call only."""

    call_id: str = ""


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
    return await call_accounts(ask.gateway, run, query.call_id, ask.context)


@post(f"{API}/policy/explain", Scope.READ, refuses=("config_invalid",))
async def explain_call(ask: Ask, body: Hypothetical) -> Explained:
    """What would be decided of a call of yours that nobody has made."""
    explained, deciding = await ask.gateway.policies.explain(body, ask.context)
    places, decision = places_of(deciding), explained.decision
    passes = tuple(
        PolicyPass(approval, verdict.allowed, named(verdict.policies, places), tuple(verdict.errors))
        for approval, verdict in explained.passes
    )
    return Explained(decision.outcome, decision.reason, decision.standing, decision.policy_hash, passes)


ROUTES = (explain_calls, explain_call)
