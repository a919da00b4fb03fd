"""Limits only narrow."""

from palyra_trio.core.agents import DEFAULT_AGENT, Limits


def test_narrowing_takes_the_smaller_of_each_limit() -> None:
    one = Limits(turns=1, tool_calls=20, active_s=3, tool_s=40)
    other = Limits(turns=10, tool_calls=2, active_s=30, tool_s=4)
    assert one.narrowed(other) == other.narrowed(one) == Limits(turns=1, tool_calls=2, active_s=3, tool_s=4)


def test_the_default_agent_may_use_every_tool_within_the_default_limits() -> None:
    assert DEFAULT_AGENT.tools is None
    assert DEFAULT_AGENT.limits == Limits(turns=50, tool_calls=200, active_s=1800, tool_s=600)
