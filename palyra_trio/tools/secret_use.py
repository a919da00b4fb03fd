"""A secret as a tool comes to it: named by an argument, looked at in the plan, and had only when it is sent.

What was set for which use, and whose it is, is decided by who hands this to the tool; policy says whether it may be used.
"""

from typing import Protocol

from palyra_trio.core.errors import NotFound
from palyra_trio.core.policy import SecretResource
from palyra_trio.core.references import SecretReference


class ToolSecrets(Protocol):
    """The secrets that a call can refer to. `host` and `port` are where one would go; "" and 0 for nowhere.

    Both raise NotFound for a name that is not there, ConfigInvalid while the vault is locked, and PolicyError where the
    secret was set for other tools or hosts.
    """

    def look(self, name: str, host: str, port: int) -> SecretResource:
        """Return what the gate is to judge."""

    def reveal(self, reference: SecretReference, host: str, port: int) -> str:
        """Return the value, after what stands before the reference. It belongs into nothing but what is sent."""


class _NoSecrets:
    def look(self, name: str, host: str, port: int) -> SecretResource:
        raise _missing(name)

    def reveal(self, reference: SecretReference, host: str, port: int) -> str:
        raise _missing(reference.name)


def _missing(name: str) -> NotFound:
    return NotFound(f"there is no secret {name}: this process has no vault")


NO_SECRETS: ToolSecrets = _NoSecrets()
