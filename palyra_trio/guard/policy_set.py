"""The policies in force in a process: the user's files over a preset, and what a workspace's configuration adds.

Files are checked before they come here (`policy_files`). Engines are built once for each configuration and kept.
"""

from collections.abc import Iterable

from palyra_trio.core.policy import PolicyEngine, PolicyRules
from palyra_trio.guard.policy_files import build_engine
from palyra_trio.guard.policy_text import PolicySource
from palyra_trio.guard.posture import config_policies
from palyra_trio.guard.presets import policy_hash, preset

ENGINES_KEPT = 64  # one for each set of rules that a workspace's configuration has; they are rebuilt in a millisecond


class PolicySet:
    """What decides, until it is replaced as a whole. `hash` names the user's files, whatever a workspace adds to them."""

    def __init__(self, files: Iterable[PolicySource] = ()) -> None:
        self._engines: dict[PolicyRules, PolicyEngine] = {}
        self.replace(files)

    def replace(self, files: Iterable[PolicySource]) -> None:
        """Put these files, in which no fault was found, in the place of those in force."""
        self.files = tuple(files)
        self.hash = policy_hash(self.files)
        self._engines.clear()

    def engine(self, rules: PolicyRules) -> PolicyEngine:
        """Return what decides where the configuration says `rules`."""
        if (engine := self._engines.get(rules)) is None:
            if len(self._engines) >= ENGINES_KEPT:
                self._engines.clear()
            engine = self._engines[rules] = build_engine(sources(self.files, rules))
        return engine


def sources(files: Iterable[PolicySource], rules: PolicyRules) -> tuple[PolicySource, ...]:
    """Return all that decides: the preset, the configuration's rules, the user's files."""
    return (preset(rules.preset), config_policies(rules), *files)
