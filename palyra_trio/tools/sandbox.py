"""The sandbox: the tier in force, found out at start by canaries, and programs run in it or not at all.

It is never weaker than was decided: a call that was judged for a higher tier than there is now is refused.
"""

import os
import pwd
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import attrs
import trio

from palyra_trio.core.errors import ConfigInvalid, PolicyError
from palyra_trio.tools import bubblewrap, canaries, cgroups, landlock, sandbox_report, seccomp
from palyra_trio.tools.bare import Bare
from palyra_trio.tools.canaries import Aviary, Finding
from palyra_trio.tools.cgroups import Cgroup
from palyra_trio.tools.confined import Confinement, Spawner
from palyra_trio.tools.job import Bounds, Job, Outcome, Take
from palyra_trio.tools.process_tree import Killed, Launcher, carry_out
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
class Sandbox:
    """What programs run in. Made by `open_sandbox`; `launchers` are the tiers that can be tried here, proven or not."""

    report: SandboxReport
    view: View
    bounds: Bounds
    launchers: Mapping[int, Launcher]

    @property
    def tier(self) -> int:
        return self.report.tier

    async def run(self, job: Job, tier: int, take: Take, killed: Killed) -> Outcome:
        """Run a job in the tier in force, which must be `tier` or a higher one; see `carry_out` for what becomes of it.

        Raises SandboxTooWeak; SandboxFailed where the sandbox cannot be made (any more).
        """
        if not 0 < tier <= self.tier:
            raise SandboxTooWeak(
                f"the call was judged for sandbox tier {tier}, and there is only {self.tier} now",
                remedy="`palyra-trio doctor` tells why",
            )
        return await carry_out(self.launchers[self.tier], job, take, killed)


NO_SANDBOX = Sandbox(sandbox_report.not_opened(), View((), (), (), (), (), ""), Bounds(), {})
"""Where none was opened: no program can be run. For those who want to know which tools there are."""


@asynccontextmanager
async def open_sandbox(
    settings: SandboxSettings, home: Path, *, abi: int | None = None, bwrap: Path | None = None
) -> AsyncGenerator[Sandbox]:
    """Find out what there is, prove each tier by its canary, and give the sandbox. `home` is hidden from programs.

    `abi` and `bwrap` stand in for what this machine has. Raises ConfigInvalid for a user that does not exist. All jobs
    must have ended at the end of the block.
    """
    user = _user(settings.user)
    with ExitStack() as held:
        cgroup = cgroups.make()
        if cgroup is not None:
            held.callback(cgroup.close)
        view = look(str(home), settings.read_only, settings.path)
        spawner = held.enter_context(closing(Spawner(user)))
        bwrap = bwrap or bubblewrap.find()
        abi = landlock.kernel_abi() if abi is None else abi
        parts = _Parts(view, cgroup, spawner, bwrap, abi)
        report = await _probe(settings, user, parts)
        spawner.close()  # it is started again if it is needed
        yield Sandbox(report, view, settings.bounds, parts.launchers(user))


@attrs.frozen
class _Parts:
    """What the tiers are made of on this machine."""

    view: View
    cgroup: Cgroup | None
    spawner: Spawner
    bwrap: Path | None
    abi: int

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
        Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
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
