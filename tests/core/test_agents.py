"""Limits only narrow, and what an agent does not set is the configured one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.agents import AS_CONFIGURED, DEFAULT_AGENT, AgentSpec, Limits, check_agent
from palyra_trio.core.errors import InvalidArgument

CONFIGURED = Limits(turns=10, tool_calls=2, active_s=30, tool_s=4)


def test_narrowing_takes_the_smaller_of_each_limit() -> None:
    one = Limits(turns=1, tool_calls=20, active_s=3, tool_s=40)
    assert one.narrowed(CONFIGURED) == CONFIGURED.narrowed(one) == Limits(turns=1, tool_calls=2, active_s=3, tool_s=4)


@given(st.builds(Limits, *[st.integers(1, 10**9)] * 4))
def test_what_is_not_set_is_what_is_configured_whatever_that_is(configured: Limits) -> None:
    assert AS_CONFIGURED.narrowed(configured) == configured


def test_the_default_agent_may_use_every_tool_within_the_configured_limits() -> None:
    assert DEFAULT_AGENT.tools is None
    assert DEFAULT_AGENT.limits == AS_CONFIGURED


def test_a_limit_below_nothing_is_refused() -> None:
    check_agent(AgentSpec("a", limits=AS_CONFIGURED), ())
    with pytest.raises(InvalidArgument, match="no less than 0, and tool_s is"):
        check_agent(AgentSpec("a", limits=Limits(tool_s=-1)), ())
