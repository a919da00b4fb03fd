"""Which policies a command speaks of: those in force in the process that answers, else those on disk; or others, by name.

Whatever builds an engine here has its policies checked first, in a process of their own, wherever they came from.
"""

import os
from pathlib import Path

import attrs
import trio

from palyra_trio.cli.door import ask_process
from palyra_trio.cli.open import read_settings
from palyra_trio.cli.settings import current_folder
from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.policy import PolicyRules, Preset
from palyra_trio.core.text import name_to_text
from palyra_trio.guard.cedar import CedarEngine
from palyra_trio.guard.policy_files import load_engine, read_policy_files
from palyra_trio.guard.policy_set import sources
from palyra_trio.guard.policy_text import PolicySource
from palyra_trio.guard.presets import policy_hash
from palyra_trio.pb import policy_pb2
from palyra_trio.pb.policy_grpc import PolicyServiceStub
from palyra_trio.tools.builtin import builtin_tools
from palyra_trio.tools.registry import Registry

CURRENT = "current"


@attrs.frozen
class NamedSet:
    """The user's files, and what the configuration says of tools. `answered` tells whether a process has them in force."""

    files: tuple[PolicySource, ...]
    rules: PolicyRules
    answered: bool = False

    @property
    def hash(self) -> str:
        return policy_hash(self.files)

    @property
    def sources(self) -> tuple[PolicySource, ...]:
        return sources(self.files, self.rules)

    def engine(self) -> CedarEngine:
        """Return what decides. Raises ConfigInvalid that lists every fault."""
        return trio.run(load_engine, self.sources)


def in_force(workspace: str = "") -> NamedSet:
    """Return what decides on runs in a folder, or in the current one. Raises ConfigInvalid, and NoDaemon with `--daemon`."""
    workspace = workspace or current_workspace()
    answer = ask_process(PolicyServiceStub, "GetPolicies", policy_pb2.GetPoliciesRequest(workspace=workspace))
    if answer is None:
        settings = read_settings()
        return NamedSet(read_policy_files(settings.policies_dir), settings.sources.config_in(workspace).policy)
    files = tuple(PolicySource(each.name, each.text) for each in answer.files)
    rules = PolicyRules(Preset(answer.preset), tuple(answer.allow), tuple(answer.ask), tuple(answer.deny))
    return NamedSet(files, rules, answered=True)


def named(name: str) -> NamedSet:
    """Return `current`; or what would be in force with another preset; or with the files of another folder.

    Raises InvalidArgument when it is none of these, and ConfigInvalid.
    """
    current = in_force()
    if name == CURRENT:
        return current
    if name in list(Preset):
        return NamedSet(current.files, attrs.evolve(current.rules, preset=Preset(name)))
    if not Path(name).is_dir():
        raise InvalidArgument(
            f"{name!r} is no set of policies", remedy=f"say {CURRENT}, {', '.join(Preset)}, or a folder of .cedar files"
        )
    return NamedSet(read_policy_files(Path(name)), current.rules)


def current_workspace() -> str:
    """Return the current folder as the policies see it."""
    return name_to_text(os.fsencode(current_folder()))


def known_tools() -> Registry:
    return Registry(builtin_tools())
