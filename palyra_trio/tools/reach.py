"""What a program is given beyond the workspace: hosts that it may talk to, and secrets in its environment.

A call names them all beforehand: so there is one question, about one thing that can be judged as a whole (this secret, to
these hosts, by this program), and no program waits for a person in the middle of its work. What was not named is refused,
and the model is told to name it. How the hosts are reached is `proxy`'s.
"""

import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import attrs

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.policy import HostResource, Resource
from palyra_trio.core.references import SecretReference, secret_in
from palyra_trio.tools.egress import Egress, Place, Way, parse_authority
from palyra_trio.tools.job import MARK, Door, HostUse
from palyra_trio.tools.sandbox import Sandbox, SandboxTooWeak
from palyra_trio.tools.secret_use import ToolSecrets

MAX_HOSTS, MAX_VARIABLES = 16, 16
NETWORK_TIER = 4

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_OURS = re.compile(rf"PATH|HOME|PWD|LANG|TERM|TMPDIR|{MARK}|LD_.*|(HTTP|HTTPS|ALL|NO)_PROXY", re.IGNORECASE)


@attrs.frozen
class Reach:
    """The hosts, the variables that secrets fill, and all of it as the gate judges it. `lines` are for a person."""

    ways: tuple[Way, ...] = ()
    variables: Mapping[str, SecretReference] = attrs.Factory(dict)
    resources: tuple[Resource, ...] = ()
    lines: tuple[str, ...] = ()

    def environment(self, vault: ToolSecrets) -> dict[str, str]:
        """Return the variables with their values. Raises what `vault` raises, and InvalidArgument for a value that cannot be one."""
        filled = {name: self._value(reference, vault) for name, reference in self.variables.items()}
        for name, value in filled.items():
            if "\0" in value:
                raise InvalidArgument(f"the secret for {name} holds a zero byte, which no variable can")
        return filled

    def _value(self, reference: SecretReference, vault: ToolSecrets) -> str:
        values = [vault.reveal(reference, host, port) for host, port in _destinations(self.ways)]  # it may go to each
        return values[0]


async def plan_reach(
    network: Sequence[str], env: Mapping[str, str], sandbox: Sandbox, egress: Egress, vault: ToolSecrets
) -> Reach:
    """Look at what a call asks for: names are resolved once, and secrets looked up, but not had.

    Raises InvalidArgument and PolicyError for what cannot be had, SandboxTooWeak where no tier can hold a program to its
    hosts, and what `egress` and `vault` raise.
    """
    if network and sandbox.tier < NETWORK_TIER:
        raise SandboxTooWeak(
            f"a program gets a network in sandbox tier {NETWORK_TIER} only, and this is tier {sandbox.tier}: what holds it "
            "there knows ports and not hosts",
            remedy="`palyra-trio doctor` tells what tier 4 needs",
        )
    variables = {name: _reference(name, text) for name, text in env.items()}
    places = tuple(dict.fromkeys(map(parse_authority, network)))
    ways = tuple([Way(place.host, place.port, await egress.check(place)) for place in places])
    names = dict.fromkeys(each.name for each in variables.values())
    secrets = tuple(vault.look(name, host, port) for name in names for host, port in _destinations(ways))
    return Reach(ways, variables, (*map(_host, ways), *secrets), (*map(_line, places), *_named(variables)))


@attrs.frozen
class Given:
    """What a job gets for its reach: its environment, the door to the proxy, and what went through that so far."""

    env: Mapping[str, str] = attrs.field(repr=False)
    door: Door | None = None
    uses: Callable[[], tuple[HostUse, ...]] = tuple


@asynccontextmanager
async def opened(reach: Reach, vault: ToolSecrets, used: Callable[[HostUse], None]) -> AsyncGenerator[Given]:
    """Give a job its reach for the length of the block; `used` is told of each host at the end, however that comes.

    Raises what `Reach.environment` raises.
    """
    env = reach.environment(vault)
    if not reach.ways:
        yield Given(env)
        return
    from palyra_trio.tools import proxy  # an HTTP parser: only when a program gets a network

    async with proxy.open_proxy(reach.ways) as way_out:
        try:
            door = Door(proxy.PORT, way_out.listen)
            yield Given(env | proxy.environment(), door, lambda: way_out.uses)
        finally:
            for use in way_out.uses:
                used(use)


def told(use: HostUse) -> str:
    """Return what became of a job's connections to a host, in a line."""
    host = f"{use.host}:{use.port}" if use.port else use.host or "other hosts"
    if not use.allowed:
        return (
            f"[network] {host}: refused, because the call does not name it in `network` (attempts: {use.connections})"
        )
    return (
        f"[network] {host}: {use.sent_bytes} bytes sent, {use.received_bytes} received (connections: {use.connections})"
    )


def _reference(variable: str, text: str) -> SecretReference:
    if not _VARIABLE.fullmatch(variable) or _OURS.fullmatch(variable):
        raise InvalidArgument(f"the variable {variable!r} cannot be set", remedy="name it like API_TOKEN")
    reference = secret_in(text)
    if reference is None:
        raise InvalidArgument(
            f"env.{variable} is no reference to a secret", remedy="write secret:NAME; other variables cannot be set"
        )
    return reference


def _destinations(ways: Sequence[Way]) -> list[tuple[str, int]]:
    """Return where a secret could go: to each host, or to none."""
    return [(way.host, way.port) for way in ways] or [("", 0)]


def _host(way: Way) -> HostResource:
    return HostResource(way.host, way.port, "tcp", "CONNECT", "public")


def _line(place: Place) -> str:
    written = f" ({place.written} in its own script)" if place.written else ""
    return f"may talk to {place.host}:{place.port}{written}"


def _named(variables: Mapping[str, SecretReference]) -> list[str]:
    return [f"${name} is {each.before}the secret {each.name}" for name, each in variables.items()]
