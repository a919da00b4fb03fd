"""Which rule wins over which, for every combination of the rules that fit a call."""

from itertools import product

import pytest

from palyra_trio.core.policy import CallFacts, Outcome, PolicyRules, decide_tool_call

TOOL = "files.write"


def first_that_holds(deny: bool, sensitive: bool, for_run: bool, ask: bool, allow: bool, read_only: bool) -> str:
    """The order of the rules, written out once more."""
    if deny:
        return f"policy.deny={TOOL}"
    if sensitive:
        return "sensitive"
    if for_run:
        return f"yes-to={TOOL}"
    if ask:
        return f"policy.ask={TOOL}"
    if allow:
        return f"policy.allow={TOOL}"
    return "read-only" if read_only else "default"


OUTCOMES: dict[str, Outcome] = {
    f"policy.deny={TOOL}": "deny",
    "sensitive": "ask",
    f"yes-to={TOOL}": "allow",
    f"policy.ask={TOOL}": "ask",
    f"policy.allow={TOOL}": "allow",
    "read-only": "allow",
    "default": "ask",
}


@pytest.mark.parametrize(
    "held", list(product([False, True], repeat=6)), ids=lambda held: "".join("01"[x] for x in held)
)
def test_the_first_rule_that_holds_decides(held: tuple[bool, bool, bool, bool, bool, bool]) -> None:
    deny, sensitive, for_run, ask, allow, read_only = held

    def if_held(holds: bool) -> tuple[str, ...]:
        return (TOOL,) if holds else ()

    decision = decide_tool_call(
        CallFacts(TOOL, read_only, "it is a key file" if sensitive else ""),
        PolicyRules(if_held(allow), if_held(ask), if_held(deny)),
        if_held(for_run),
    )
    rule = first_that_holds(*held)
    assert (decision.rule, decision.outcome) == (rule, OUTCOMES[rule])
    assert decision.reason


def test_what_is_sensitive_is_asked_for_whatever_was_allowed() -> None:
    facts = CallFacts("files.read", read_only=True, sensitive="`.env` may hold secrets")
    decision = decide_tool_call(facts, PolicyRules(allow=("*",)), ("*",))
    assert (decision.outcome, decision.reason) == ("ask", "`.env` may hold secrets")


def test_denied_beats_all() -> None:
    rules = PolicyRules(allow=("*",), ask=("*",), deny=("files.*",))
    decision = decide_tool_call(CallFacts("files.read", True, "a key file"), rules, ("*",))
    assert (decision.outcome, decision.rule) == ("deny", "policy.deny=files.*")


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("files.*", True),
        ("*", True),
        ("files.write", True),
        ("Files.Write", False),
        ("files", False),
        ("files.wri", False),
        ("write", False),
    ],
)
def test_a_pattern_fits_the_whole_name_and_minds_its_case(pattern: str, fits: bool) -> None:
    decision = decide_tool_call(CallFacts(TOOL, read_only=False), PolicyRules(allow=(pattern,)))
    assert (decision.outcome == "allow") == fits
