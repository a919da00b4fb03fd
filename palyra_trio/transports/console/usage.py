"""What the visitor's runs used, day by day: tokens by model, tool calls by what came of them. Pictures, and the same as tables."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import attrs

from palyra_trio.core.messages import Usage
from palyra_trio.core.words import compact
from palyra_trio.journal.usage import ModelUsage, ToolUsage, Used
from palyra_trio.transports.console.plots import Column, Plot, stacked
from palyra_trio.transports.console.site import Answer, Site, Visit

RANGES = (7, 30, 90)
DAYS = 30
SERIES = 4  # of models in the picture; the rest is one more
OTHERS = "others"
WIDTHS = (1104.0, 332.0)  # for a wide page, and a narrow one
OUTCOMES = ("succeeded", "failed", "denied by the policies", "not approved", "without an outcome")


@attrs.frozen
class Day:
    """A day of this machine's clock, and what was used in it."""

    label: str
    used: Used


@attrs.frozen
class Picture:
    """A plot in each of its widths, and the names of its series."""

    plots: tuple[Plot, ...]
    series: tuple[str, ...]


def add(site: Site) -> None:
    site.navigation.append(("Usage", "/usage"))

    @site.page("/usage")
    async def usage(visit: Visit) -> Answer:
        days = int(asked) if (asked := visit.query.get("days", "")) in map(str, RANGES) else DAYS
        begins = days_until(datetime.fromtimestamp(site.gateway.health().now_ms / 1000), days)
        bounds = [int(each.timestamp() * 1000) for each in begins]
        principal = visit.context.principal
        found = await site.gateway.ask(lambda reader: reader.used_between(principal, bounds))
        by_day = [Day(f"{each:%b} {each.day}", used) for each, used in zip(begins, found, strict=False)]
        models, tools = by_model(found), by_tool(found)
        return site.render(
            "usage.html",
            visit,
            days=days,
            ranges=RANGES,
            by_day=by_day,
            models=models,
            tools=tools,
            runs=sum(each.runs for each in found),
            total=sum((each.usage for each in models), Usage()),
            turns=sum(each.turns for each in models),
            calls=sum(each.proposed for each in tools),
            tokens=tokens_by_day(by_day, models),
            outcomes=calls_by_day(by_day),
            names=OUTCOMES,
            outcomes_of=outcomes_of,
        )


def days_until(now: datetime, days: int) -> list[datetime]:
    """Return the beginnings of the last `days` days, today's among them, and of the next one: `days` + 1 moments."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return [today + timedelta(days=offset) for offset in range(1 - days, 2)]


def by_model(found: Iterable[Used]) -> list[ModelUsage]:
    """Return what each model used in all of it, the one with the most tokens first."""
    sums: dict[str, ModelUsage] = {}
    for each in (model for used in found for model in used.models):
        before = sums.get(each.model, ModelUsage(each.model))
        sums[each.model] = ModelUsage(each.model, before.turns + each.turns, before.usage + each.usage)
    return sorted(sums.values(), key=lambda each: (-tokens(each.usage), each.model))


def by_tool(found: Iterable[Used]) -> list[ToolUsage]:
    """Return what became of the calls of each tool in all of it, the most called first."""
    sums: dict[str, ToolUsage] = {}
    for each in (tool for used in found for tool in used.tools):
        before = attrs.asdict(sums.get(each.tool, ToolUsage(each.tool)))
        added = {name: before[name] + value for name, value in attrs.asdict(each).items() if name != "tool"}
        sums[each.tool] = ToolUsage(each.tool, **added)
    return sorted(sums.values(), key=lambda each: (-each.proposed, each.tool))


def outcomes_of(tool: ToolUsage) -> tuple[int, ...]:
    """Return how often what OUTCOMES names became of its calls. Those without one a limit cut off, or they go on."""
    told = (tool.succeeded, tool.failed, tool.denied_by_policy, tool.not_approved)
    return (*told, max(0, tool.proposed - sum(told)))


def tokens(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens


def tokens_by_day(days: Sequence[Day], models: Sequence[ModelUsage]) -> Picture:
    """Return the tokens of each day, by model."""
    named = [each.model for each in models[:SERIES]]
    series = (*named, *([OTHERS] if len(models) > SERIES else []))
    columns = []
    for day in days:
        of_model = {each.model: tokens(each.usage) for each in day.used.models}
        total = sum(of_model.values())
        parts = [of_model.get(name, 0) for name in named]
        columns.append(Column(day.label, f"{day.label}: {compact(total)} tokens", (*parts, total - sum(parts))))
    return _picture(columns, series)


def calls_by_day(days: Sequence[Day]) -> Picture:
    """Return what became of the tool calls of each day."""
    columns = []
    for day in days:
        parts = tuple(map(sum, zip(*map(outcomes_of, day.used.tools), strict=True))) or (0,) * len(OUTCOMES)
        columns.append(Column(day.label, f"{day.label}: {compact(sum(parts))} calls", parts))
    return _picture(columns, OUTCOMES)


def _picture(columns: Sequence[Column], series: tuple[str, ...]) -> Picture:
    return Picture(tuple(stacked(columns, width) for width in WIDTHS), series)
