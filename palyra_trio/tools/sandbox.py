"""The sandbox: the tier in force, found out by canaries before the first program, and programs run in it or not at all.

It is never weaker than was decided: a call that was judged for a higher tier than there is now is refused.
"""

import os
import pwd
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import attrs
import trio

from palyra_trio.core.errors import ConfigInvalid, PolicyError
from palyra_trio.tools import bubblewrap, canaries, cgroups, landlock, overlay, sandbox_report, seccomp
from palyra_trio.tools.bare import Bare
from palyra_trio.tools.canaries import Aviary, Finding
from palyra_trio.tools.cgroups import Cgroup
from palyra_trio.tools.confined import Confinement, Spawner
from palyra_trio.tools.job import Bounds, Job, Outcome, Take
from palyra_trio.tools.overlay import Layers
from palyra_trio.tools.process_tree import Killed, Launcher, Room, carry_out
from palyra_trio.tools.sandbox_report import Host, SandboxReport, TierReport
from palyra_trio.tools.view import View, look


class SandboxTooWeak(PolicyError):
    """The sandbox is weaker than the one that the call was judged for."""

    code = "sandbox_too_weak"


@attrs.frozen
class SandboxSettings:
    """What is configured. `read_only` are absolute folders that programs may read besides, `path` where they are found.

    `user` names whom programs run as when the daemon is root; `bare` allows tier 1.
    """

    read_only: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    user: str = ""
    bare: bool = False
    bounds: Bounds = Bounds()


@attrs.frozen
class Proof:
    """What was found out: the report of the canaries, and what `Sandbox` says of the rest."""

    report: SandboxReport
    launchers: Mapping[int, Launcher]
    layers: Layers | str


@attrs.define(eq=False)
class Sandbox:
    """What programs run in. Made by `open_sandbox`; `launchers` are the tiers that can be tried here, proven or not.

    `layers` make what programs change at tier 4 something that can be undone, or say why they cannot. Until it was proven
    there is no tier.
    """

    report: SandboxReport
    view: View
    bounds: Bounds
    launchers: Mapping[int, Launcher]
    layers: Layers | str = overlay.NOT_ASKED_FOR
    _find_out: Callable[[], Awaitable[Proof]] | None = None
    _proving: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    async def prove(self) -> SandboxReport:
        """Let the canaries loose, unless that was done, and return what they found. Several callers wait for one."""
        async with self._proving:
            if not self.report.known and self._find_out is not None:
                proof = await self._find_out()
                self.report, self.launchers, self.layers = proof.report, proof.launchers, proof.layers
        return self.report

    @property
    def tier(self) -> int:
        return self.report.tier

    def uncaptured(self, workspace: str) -> str:
        """Return why what a program changes in a workspace is not captured, "" where it is. Blocks."""
        if self.tier < 4:
            return f"in sandbox tier {self.tier} programs work in the workspace itself"
        return self.layers if isinstance(self.layers, str) else self.layers.unfit(workspace)

    def check(self, tier: int) -> None:
        """Raise SandboxTooWeak unless the tier in force is `tier` or a higher one."""
        if not 0 < tier <= self.tier:
            raise SandboxTooWeak(
                f"the call was judged for sandbox tier {tier}, and there is only {self.tier} now",
                remedy="`palyra-trio doctor` tells why",
            )

    async def run(
        self,
        job: Job,
        tier: int,
        take: Take,
        killed: Killed,
        stdin: int | None = None,
        room: Room = trio.lowlevel.checkpoint,
    ) -> Outcome:
        """Run a job in the tier in force, which must be `tier` or a higher one; see `carry_out` for what becomes of it.

        Raises SandboxTooWeak; SandboxFailed where the sandbox cannot be made (any more).
        """
        self.check(tier)
        return await carry_out(self.launchers[self.tier], job, take, killed, stdin, room)


NO_SANDBOX = Sandbox(sandbox_report.not_opened(), View((), (), (), (), (), ""), Bounds(), {})
"""Where none was opened: no program can be run. For those who want to know which tools there are."""


@asynccontextmanager
async def open_sandbox(
    settings: SandboxSettings,
    home: Path,
    *,
    abi: int | None = None,
    bwrap: Path | None = None,
    layers_in: Sequence[Path] = (),
    proven: bool = True,
) -> AsyncGenerator[Sandbox]:
    """Give the sandbox of this machine, `proven` or still to be. `home` is hidden from programs.

    `abi` and `bwrap` stand in for what this machine has; `layers_in` are folders where layers may be kept. Raises ConfigInvalid
    for a user that does not exist. All jobs must have ended at the end of the block.
    """
    user = _user(settings.user)
    with ExitStack() as held:
        view = look(str(home), settings.read_only, settings.path)

        async def find_out() -> Proof:
            cgroup = cgroups.make()
            if cgroup is not None:
                held.callback(cgroup.close)
            spawner = held.enter_context(closing(Spawner(user)))
            layers = await _layers([bwrap] if bwrap else list(bubblewrap.candidates()), layers_in, user)
            if isinstance(layers, Layers):
                held.callback(layers.close)
            found = layers.bwrap if isinstance(layers, Layers) else bwrap or bubblewrap.find()
            parts = _Parts(
                view,
                cgroup,
                spawner,
                found,
                landlock.kernel_abi() if abi is None else abi,
                layered=not isinstance(layers, str),
            )
            report = await _probe(settings, user, parts)
            spawner.close()  # it is started again if it is needed
            return Proof(report, parts.launchers(user), layers)

        sandbox = Sandbox(sandbox_report.not_probed(), view, settings.bounds, {}, find_out=find_out)
        if proven:
            await sandbox.prove()
        yield sandbox


@attrs.frozen
class _Parts:
    """What the tiers are made of on this machine."""

    view: View
    cgroup: Cgroup | None
    spawner: Spawner
    bwrap: Path | None
    abi: int
    layered: bool = False

    def launchers(self, user: int | None) -> dict[int, Launcher]:
        """Return how each tier starts a job, of those that can be tried here at all."""
        tiers: dict[int, Launcher] = {}
        if self.bwrap is not None and seccomp.is_known():
            tiers[4] = bubblewrap.Isolation(self.bwrap, self.view, user, self.cgroup)
        if self.abi >= landlock.ABI_NEEDED and seccomp.is_known():
            tiers[3] = Confinement(self.spawner, self.view, self.abi, cgroup=self.cgroup)
        tiers[2] = Confinement(self.spawner, self.view, self.abi, confined=False, cgroup=self.cgroup)
        tiers[1] = Bare(self.view, user)
        return tiers


async def _layers(bubblewraps: Sequence[Path], folders: Sequence[Path], user: int | None) -> Layers | str:
    if not folders:
        return overlay.NOT_ASKED_FOR
    if os.geteuid() == 0 and user is None:
        return "no program is run as root"
    return await trio.to_thread.run_sync(overlay.prove, bubblewraps, folders, user)


async def _probe(settings: SandboxSettings, user: int | None, parts: _Parts) -> SandboxReport:
    if os.geteuid() == 0 and user is None:
        return SandboxReport(tuple(sandbox_report.as_root(tier) for tier in (4, 3, 2, 1)))
    python, folders = canaries.interpreter()
    view = attrs.evolve(parts.view, read_only=(*parts.view.read_only, *folders))
    launchers = attrs.evolve(parts, view=view).launchers(user)
    findings: dict[int, Finding] = {}
    with canaries.aviary(user) as aviary:
        async with trio.open_nursery() as nursery:
            for tier, launcher in launchers.items():
                if tier > 1 or settings.bare:
                    nursery.start_soon(_ask, findings, tier, launcher, aviary, python)
    return SandboxReport(tuple(_judged(tier, findings.get(tier), parts) for tier in (4, 3, 2, 1)))


async def _ask(findings: dict[int, Finding], tier: int, launcher: Launcher, aviary: Aviary, python: str) -> None:
    findings[tier] = await canaries.let_loose(launcher, aviary, python)


def _judged(tier: int, finding: Finding | None, parts: _Parts) -> TierReport:
    if finding is None:
        return _missing(tier, parts)
    if finding.failure:
        if tier == 4:
            return sandbox_report.not_isolated(str(parts.bwrap), finding.said or finding.failure, _host())
        words = "; ".join(filter(None, (finding.failure, finding.said)))
        return TierReport(tier, False, reason=f"its canary could not be run: {words}", remedy="see the reason")
    holes = finding.allowed if tier >= 3 else ()
    if tier > 1 and not finding.held:
        holes += ("outlive a kill",)
    return sandbox_report.escaped(tier, holes) if holes else TierReport(tier, True, _mechanisms(tier, parts))


def _missing(tier: int, parts: _Parts) -> TierReport:
    if tier == 1:
        return sandbox_report.switched_off()
    if not seccomp.is_known():
        return sandbox_report.unknown_machine(tier, os.uname().machine)
    return sandbox_report.no_bubblewrap() if tier == 4 else sandbox_report.too_old_landlock(parts.abi)


def _mechanisms(tier: int, parts: _Parts) -> tuple[str, ...]:
    bound = "cgroup" if parts.cgroup is not None else "rlimits"
    fence = f"Landlock ABI {parts.abi}" if parts.abi >= landlock.ABI_NEEDED else "no fence for signals"
    match tier:
        case 4:
            assert parts.bwrap is not None
            return (
                f"bubblewrap {bubblewrap.version(parts.bwrap)}",
                "all namespaces",
                "seccomp",
                "no capabilities",
                bound,
                "changes captured" if parts.layered else "changes not captured",
            )
        case 3:
            return (fence, "seccomp", "no new privileges", "subreaper", bound)
        case 2:
            return ("no new privileges", "subreaper", fence, bound)
    return ("session",)


def _host() -> Host:
    namespaces = Path("/proc/sys/user/max_user_namespaces")
    clone = Path("/proc/sys/kernel/unprivileged_userns_clone")
    apparmor = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    return Host(
        apparmor.exists() and apparmor.read_text().strip() == "1",
        int(namespaces.read_text()) if namespaces.exists() else None,
        int(clone.read_text()) if clone.exists() else None,
        any(Path(each).exists() for each in ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")),
        "\nSeccomp:\t2" in Path("/proc/self/status").read_text(),
    )


def _user(name: str) -> int | None:
    """Return the id of whom programs run as, None for the daemon's own user."""
    if not name or os.geteuid() != 0:
        return None
    try:
        user = int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigInvalid(f"sandbox.user: there is no user {name!r}", remedy=f"useradd --system {name}") from None
    if user == 0:
        raise ConfigInvalid("sandbox.user: programs are not run as root", remedy="name another user")
    return user
