"""clock.now: what time it is, here and in UTC."""

from datetime import UTC, datetime

import attrs
import trio

from palyra_trio.tools.registry import Plan, Tool, ToolContext, ToolResult, ToolSpec


@attrs.frozen
class NowArguments:
    """clock.now takes nothing."""


async def _plan(arguments: NowArguments, context: ToolContext) -> Plan:
    await trio.lowlevel.checkpoint_if_cancelled()
    return Plan()


async def _run(arguments: NowArguments, context: ToolContext, plan: Plan) -> ToolResult:
    await trio.lowlevel.checkpoint_if_cancelled()
    utc = datetime.fromtimestamp(context.now(), UTC).replace(microsecond=0)
    local = utc.astimezone()
    return ToolResult(f"{utc.isoformat()} in UTC\n{local.isoformat()} here ({local.tzname()})")


CLOCK_NOW = Tool(
    ToolSpec(
        name="clock.now",
        description="Tell the date and time now, in UTC and in the local time zone (ISO 8601).",
        arguments=NowArguments,
        capability="run.local",
        risk="low",
        read_only=True,
        idempotent=True,
    ),
    _plan,
    _run,
)
