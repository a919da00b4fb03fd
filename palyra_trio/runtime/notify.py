"""Telling a person who is elsewhere that a run waits for them: one notification for what a run asks at once.

Follows the journal, not the runs: what waits is read from it when there is room to tell of it, so nothing is queued
here, and what was answered meanwhile is not told of. A notification is tried once and recorded nowhere: one that fails
is logged, and what waits since an earlier process is not told of again.
"""

import hmac
import logging
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs
import msgspec
import trio

from palyra_trio.core.approvals import Approval
from palyra_trio.core.config import NotifyConfig
from palyra_trio.core.errors import PeerError
from palyra_trio.core.tape import ApprovalRequested
from palyra_trio.journal.queries import Reader
from palyra_trio.runtime.state import RuntimeState

if TYPE_CHECKING:
    import httpx2

_log = logging.getLogger(__name__)

Tell = Callable[[bytes], Awaitable[None]]

PATIENCE_S = 10.0  # for one command or request
AT_A_TIME = 4
PROMPT_CHARACTERS = 4000  # a long diff is for `approvals show`
SIGNATURE = "x-palyra-signature"
_HANDED_DOWN = (
    *("PATH", "HOME", "USER", "LANG", "TZ"),
    *("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY"),  # a desktop's notifications
)


@attrs.frozen
class Notification:
    """What a run asked for at one moment and waits for: each approval, with its prompt."""

    title: str
    waiting: tuple[tuple[Approval, str], ...]

    @property
    def run_id(self) -> str:
        return self.waiting[0][0].run_id

    def body(self) -> bytes:
        """Return the JSON object that a command and a webhook are told."""
        first = self.waiting[0][0]
        return msgspec.json.encode(
            {
                "run_id": first.run_id,
                "session_id": first.session_id,
                "principal": first.principal,
                "title": self.title,
                "workspace": first.workspace,
                "waiting": [_plain(approval, prompt) for approval, prompt in self.waiting],
            }
        )


def _plain(approval: Approval, prompt: str) -> dict[str, object]:
    if (left := len(prompt) - PROMPT_CHARACTERS) > 0:
        rest = f"{left} more characters: palyra-trio approvals show {approval.approval_id}"
        prompt = f"{prompt[:PROMPT_CHARACTERS]}\n[… {rest}]"
    return {
        "what": "question" if approval.question else "approval",
        "approval_id": approval.approval_id,
        "tool": approval.tool,
        "prompt": prompt,
        "expires_at_ms": approval.expires_ms,
    }


async def notify(state: RuntimeState, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Tell, for ever, of what is asked for from the moment on at which `task_status` says started.

    Acts by the configuration of the time: while it names no way, what is asked for is left until it does. A cancel kills
    the commands that still run.
    """
    feed, place = state.journal.feed, await state.readers.ask(lambda reader: reader.approvals.newest_place())
    room, seen = trio.Semaphore(AT_A_TIME), feed.g
    task_status.started()
    async with trio.open_nursery() as nursery:
        while True:
            await feed.wait_for_kind(ApprovalRequested.kind, seen)
            seen = feed.g
            while (ways := [*_ways(state.config.notify, state.environ)]) and (found := await _next(state, place)):
                place, notification = found
                for name, tell in ways:
                    await room.acquire()
                    nursery.start_soon(_attempt, name, tell, notification, room)


async def _next(state: RuntimeState, place: int) -> tuple[int, Notification] | None:
    """Return what waits next after a place, and the place behind it; None when nothing waits, or cannot be read."""

    def read(reader: Reader) -> tuple[int, Notification] | None:
        behind, asked = reader.approvals.asked_after(place)
        if not asked:
            return None
        run = reader.run(asked[0].run_id)
        prompts = tuple((each, reader.approvals.prompt(each)) for each in asked)
        return behind, Notification(run.title if run is not None else "", prompts)

    try:
        return await state.readers.ask(read)
    except Exception:
        _log.exception("what waits for a person could not be read")
        return None


async def _attempt(name: str, tell: Tell, notification: Notification, room: trio.Semaphore) -> None:
    why = ""
    try:
        with trio.move_on_after(PATIENCE_S) as patience:
            await tell(notification.body())
        if patience.cancelled_caught:
            why = f"it took longer than {PATIENCE_S:g} s"
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    finally:
        room.release()
    if why:
        _log.warning("notifying failed", extra={"way": name, "run_id": notification.run_id, "why": why})


# --- the ways ---


def _ways(config: NotifyConfig, environ: Mapping[str, str]) -> Iterator[tuple[str, Tell]]:
    if config.command:
        yield f"command {config.command[0]}", partial(_run, config.command, environ)
    if config.webhook_url:
        yield f"webhook at {urlsplit(config.webhook_url).hostname}", partial(_post, config, environ)


async def _run(command: tuple[str, ...], environ: Mapping[str, str], body: bytes) -> None:
    """Run a command with `body` on its stdin. Raises PeerError and OSError; a cancel kills it and what it started."""
    done = await trio.run_process(
        command,
        stdin=body,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        env={name: environ[name] for name in _HANDED_DOWN if name in environ},
        cwd="/",
        start_new_session=True,
        deliver_cancel=_kill,
    )
    if done.returncode:
        raise PeerError(f"it ended with status {done.returncode}")


async def _kill(process: trio.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await trio.lowlevel.checkpoint_if_cancelled()


async def _post(config: NotifyConfig, environ: Mapping[str, str], body: bytes) -> None:
    """POST `body`, signed with HMAC-SHA-256 (RFC 2104) in hex where a key is named. Raises PeerError and httpx2's errors.

    Redirects are not followed, and what is answered is not read.
    """
    headers = {"content-type": "application/json"}
    if config.webhook_secret_env:
        key = os.fsencode(environ.get(config.webhook_secret_env, ""))
        if not key:
            raise PeerError(f"{config.webhook_secret_env} is not set, and nothing is sent unsigned then")
        headers[SIGNATURE] = f"sha256={hmac.digest(key, body, 'sha256').hex()}"
    async with (
        await trio.to_thread.run_sync(_client, config.webhook_url) as client,
        client.stream("POST", config.webhook_url, content=body, headers=headers) as response,
    ):
        if not response.is_success:
            raise PeerError(f"it answered with status {response.status_code}")


def _client(url: str) -> "httpx2.AsyncClient":
    """Return a client, which takes a moment to make. To this machine none goes through a proxy."""
    import httpx2

    return httpx2.AsyncClient(timeout=None, trust_env=url.startswith("https:"))
