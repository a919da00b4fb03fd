"""The systemd unit of the daemon, as text: hardened as far as the sandbox of its tools allows, and no further.

What would hide parts of /proc or forbid namespaces (ProtectKernelTunables, ProtectProc, RestrictNamespaces and their like)
is left out: bubblewrap could not make a sandbox inside, and programs would run in a lower tier than by hand.
"""

import math

from palyra_trio.core.text import visible

WATCHDOG_S = 30
MARGIN_S = 15  # for the last rows and the journal, once the drain is over

_EVERYWHERE = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "LimitCORE=0",
    "LimitNOFILE=8192",
    "UMask=0077",
)
_OF_THE_SYSTEM = (
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectSystem=full",
)


def unit_text(command: tuple[str, ...], drain_s: float, *, run_as: str = "", path: str = "") -> str:
    """Return a unit that runs `command`, of the system and as user `run_as` where that is given, else of a user's own manager.

    `path` is the PATH that the daemon sees. Stopping waits for the drain. Directives: systemd.service(5), systemd.exec(5).
    """
    stop_s = math.ceil(drain_s) + MARGIN_S
    service = [
        "Type=notify",
        f"ExecStart={' '.join(map(_quoted, command))}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=on-failure",
        "RestartSec=2",
        "RestartPreventExitStatus=2 78",  # a usage or configuration error does not go away by trying again
        f"WatchdogSec={WATCHDOG_S}",
        f"TimeoutStopSec={stop_s}",
        "KillMode=mixed",
        "Delegate=yes",  # cgroups of its own, for the programs that its tools run
        *([f"Environment={_quoted(f'PATH={path}')}"] if path else []),
    ]
    if run_as:
        service += [
            f"User={run_as}",
            "StateDirectory=palyra-trio",
            "StateDirectoryMode=0700",
            "ConfigurationDirectory=palyra-trio",
            "Environment=PALYRA_STATE_DIR=%S/palyra-trio XDG_CONFIG_HOME=/etc",
            *_OF_THE_SYSTEM,
        ]
    unit = ["Description=palyra-trio, a daemon that runs AI agents", "After=network.target"]
    install = [f"WantedBy={'multi-user' if run_as else 'default'}.target"]
    sections = (("Unit", unit), ("Service", [*service, *_EVERYWHERE]), ("Install", install))
    return "\n\n".join("\n".join((f"[{name}]", *lines)) for name, lines in sections) + "\n"


def _quoted(word: str) -> str:
    r"""Return a word as systemd reads it back: `%` and `$` doubled, in quotes. Raises ValueError for a control character."""
    if visible(word) != word or "\n" in word:
        raise ValueError(f"{word!r} cannot stand in a unit")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
