"""The PolicyService: the policies in force over gRPC, to look at, to ask, and to replace.

Who may ask is the door's part; what decides, and how that is changed, is `runtime.policies`'.
"""

import json
from collections.abc import Iterable, Mapping

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Caller
from palyra_trio.core.policy import Approval, Verdict
from palyra_trio.guard.policy_places import Place, named, places_of
from palyra_trio.guard.posture import Posture, PostureVerdict, Scope
from palyra_trio.pb import policy_pb2 as pb
from palyra_trio.pb.policy_grpc import PolicyServiceBase
from palyra_trio.runtime.call_accounts import CallAccount, call_accounts
from palyra_trio.runtime.hypothetical import described
from palyra_trio.transports.door import Service, unary

_VERDICTS: dict[PostureVerdict, pb.PostureVerdict] = {
    "allow": pb.POSTURE_VERDICT_ALLOW,
    "ask": pb.POSTURE_VERDICT_ASK,
    "disable": pb.POSTURE_VERDICT_DISABLE,
}
_SCOPES: dict[Scope, pb.PostureScope] = {
    "global": pb.POSTURE_SCOPE_GLOBAL,
    "workspace": pb.POSTURE_SCOPE_WORKSPACE,
    "agent": pb.POSTURE_SCOPE_AGENT,
    "session": pb.POSTURE_SCOPE_SESSION,
}


class PolicyService(Service, PolicyServiceBase):
    """The policies in force."""

    @unary
    async def GetPolicies(self, request: pb.GetPoliciesRequest, caller: Caller) -> pb.GetPoliciesResponse:
        policies = self.gateway.policies
        rules = await policies.rules_in(request.workspace, caller.context)
        return pb.GetPoliciesResponse(
            hash=policies.hash,
            files=[pb.PolicyFile(name=each.name, text=each.text) for each in policies.files],
            preset=rules.preset,
            allow=rules.allow,
            ask=rules.ask,
            deny=rules.deny,
        )

    @unary
    async def ReloadPolicies(self, request: pb.ReloadPoliciesRequest, caller: Caller) -> pb.ReloadPoliciesResponse:
        policies = self.gateway.policies
        changed = await policies.reload(caller.context.principal)
        return pb.ReloadPoliciesResponse(changed=changed, hash=policies.hash)

    @unary
    async def ExplainCall(self, request: pb.ExplainCallRequest, caller: Caller) -> pb.ExplainCallResponse:
        call = described({**_object(request.facts_json), "tool": request.tool})
        explained, deciding = await self.gateway.policies.explain(call, caller.context)
        places, decision = places_of(deciding), explained.decision
        return pb.ExplainCallResponse(
            outcome=decision.outcome,
            reason=decision.reason,
            standing=decision.standing,
            policy_hash=decision.policy_hash,
            passes=[_pass(approval, verdict, places) for approval, verdict in explained.passes],
        )

    @unary
    async def WhyCall(self, request: pb.WhyCallRequest, caller: Caller) -> pb.WhyCallResponse:
        found = await call_accounts(self.gateway, request.run_id, request.call_id, caller.context)
        return pb.WhyCallResponse(run_id=found.run_id, calls=map(_story, found.calls))

    @unary
    async def ListPostures(self, request: pb.ListPosturesRequest, caller: Caller) -> pb.ListPosturesResponse:
        return pb.ListPosturesResponse(postures=map(posture_message, self.gateway.policies.postures()))

    @unary
    async def SetPosture(self, request: pb.SetPostureRequest, caller: Caller) -> pb.SetPostureResponse:
        await self.gateway.policies.set_posture(posture(request.posture), caller.context.principal)
        return pb.SetPostureResponse()

    @unary
    async def RemovePosture(self, request: pb.RemovePostureRequest, caller: Caller) -> pb.RemovePostureResponse:
        await self.gateway.policies.remove_posture(
            request.tool, _scope(request.scope), request.name, caller.context.principal
        )
        return pb.RemovePostureResponse()


# --- postures ---


def posture_message(each: Posture) -> pb.Posture:
    return pb.Posture(
        tool=each.tool,
        verdict=_VERDICTS[each.verdict],
        scope=_SCOPES[each.scope],
        name=each.name,
        until_s=each.until_s or 0,
    )


def posture(message: pb.Posture) -> Posture:
    """Return the posture that a message says. Raises InvalidArgument."""
    verdict = next((name for name, number in _VERDICTS.items() if number == message.verdict), None)
    if verdict is None:
        raise InvalidArgument(f"{message.verdict} is no verdict on a tool", remedy="say allow, ask or disable")
    return Posture(message.tool, verdict, _scope(message.scope), message.name, message.until_s or None)


def scope_number(scope: Scope) -> pb.PostureScope:
    return _SCOPES[scope]


def _scope(number: pb.PostureScope) -> Scope:
    if number == pb.POSTURE_SCOPE_UNSPECIFIED:
        return "global"
    found = next((name for name, each in _SCOPES.items() if each == number), None)
    if found is None:
        raise InvalidArgument(f"{number} is no scope", remedy="say global, workspace, agent or session")
    return found


# --- why ---


def _pass(approval: Approval, verdict: Verdict, places: Mapping[str, Place]) -> pb.PolicyPass:
    deciding = _deciding(named(verdict.policies, places))
    return pb.PolicyPass(approval=approval, allowed=verdict.allowed, policies=deciding, errors=verdict.errors)


def _deciding(places: Iterable[Place]) -> list[pb.DecidingPolicy]:
    return [pb.DecidingPolicy(id=each.id, file=each.file, line=each.line, text=each.text) for each in places]


def _story(account: CallAccount) -> pb.CallStory:
    message = pb.CallStory(
        call_id=account.call_id,
        tool=account.tool,
        arguments_json=json.dumps(account.arguments),
        started=account.started,
        grant_id=account.grant_id,
        error=account.error,
    )
    for each in account.decisions:
        message.decisions.add(
            outcome=each.outcome,
            reason=each.reason,
            policies=_deciding(each.policies),
            policy_hash=each.policy_hash,
            changed_since=each.changed_since,
        )
    for answer in account.answers:
        message.answers.add(outcome=answer.outcome, by=answer.by, reason=answer.reason, scope=answer.scope)
    return message


def _object(text: str) -> dict[str, object]:
    """Return the object that a JSON text is; none for no text. Raises InvalidArgument."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"facts_json is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidArgument("facts_json is no JSON object")
    return value
