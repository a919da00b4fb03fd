"""The daemon over the API: how it stands, whether it takes new runs, and what was used."""

import attrs

from palyra_trio import __version__
from palyra_trio.core.commands import PauseAdmission, ResumeAdmission
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.identity import Scope
from palyra_trio.core.system_events import AdmissionPaused
from palyra_trio.journal.usage import Used
from palyra_trio.transports.api.approvals import Nothing
from palyra_trio.transports.api.reading import Number, Reason, Said
from palyra_trio.transports.api.route import API, Ask, get, post
from palyra_trio.transports.gateway_service import USAGE_SPAN_MS


class Span(Said, frozen=True):
    """From `from_ms` up to `to_ms`, exclusive; 0 for now. Both are Unix times in milliseconds."""

    from_ms: Number = 0
    to_ms: Number = 0


@attrs.frozen
class Paused:
    """Who lets no new runs in, and why."""

    by: str
    reason: str


@attrs.frozen
class Admission:
    """Whether new runs are taken: `paused` is null while they are."""

    paused: Paused | None


@attrs.frozen
class Status:
    """How this process stands. `journal_g` is the newest row that it wrote, `sandbox_tier` 0 while no program can be run."""

    version: str
    boot_id: str
    now_ms: int
    journal_g: int
    live_runs: int
    draining: bool
    paused: Paused | None
    policy_preset: str
    policy_hash: str
    sandbox_tier: int
    sandbox_report: tuple[str, ...]


@attrs.frozen
class UsageSummary:
    """What your runs used in a span of time."""

    principal: str
    from_ms: int
    to_ms: int
    used: Used


@get(f"{API}/status")
async def get_status(ask: Ask) -> Status:
    """How the daemon stands."""
    health = ask.gateway.health()
    return Status(
        __version__,
        health.boot_id,
        health.now_ms,
        health.g,
        health.live_runs,
        health.draining,
        _paused(health.paused),
        health.policy_preset,
        health.policy_hash,
        health.sandbox.tier,
        health.sandbox.lines(),
    )


@get(f"{API}/usage")
async def get_usage(ask: Ask, query: Span) -> UsageSummary:
    """What your runs used in a span of at most 366 days; without a `from_ms`, in the last 30 days."""
    to_ms = query.to_ms or ask.gateway.health().now_ms
    from_ms = query.from_ms or max(0, to_ms - USAGE_DEFAULT_MS)
    if not 0 <= to_ms - from_ms <= USAGE_SPAN_MS:
        raise InvalidArgument("the span of time is empty or too long", remedy="ask for 366 days at most")
    principal = ask.context.principal
    return UsageSummary(
        principal, from_ms, to_ms, await ask.gateway.ask(lambda reader: reader.used(principal, from_ms, to_ms))
    )


@post(f"{API}/admission/pause", Scope.ADMIN)
async def pause_admission(ask: Ask, body: Reason) -> Admission:
    """Take no new runs from now on. Those that were accepted go on."""
    await ask.gateway.submit(PauseAdmission(body.reason), ask.context)
    return Admission(_paused(ask.gateway.health().paused))


@post(f"{API}/admission/resume", Scope.ADMIN)
async def resume_admission(ask: Ask, body: Nothing) -> Admission:
    """Take new runs again."""
    await ask.gateway.submit(ResumeAdmission(), ask.context)
    return Admission(_paused(ask.gateway.health().paused))


def _paused(event: AdmissionPaused | None) -> Paused | None:
    return None if event is None else Paused(event.by, event.reason)


USAGE_DEFAULT_MS = 30 * 24 * 3600 * 1000
ROUTES = (get_status, get_usage, pause_admission, resume_admission)
