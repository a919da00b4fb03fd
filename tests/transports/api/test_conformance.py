"""schemathesis over the published description against a served port: no 500, and nothing that the description does not say.

One of its checks is left out, `positive_data_acceptance`: that an id is ambiguous or a span of time too long is no schema's
to say.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.core.tape import ApprovalRequested
from palyra_trio.providers.choose import Choice
from tests.transports.api.test_approvals import CHANGE, changes
from tests.transports.api.test_asgi import Port, port, start

LEFT = ("waiting", "queued", "running")


async def conforms(at: Port, folder: Path, *options: str, within_s: float) -> None:
    command = [
        sys.executable, "-m", "schemathesis.cli", "--no-color", "run",
        f"http://127.0.0.1:{at.served.port}/api/v1/openapi.json",
        "--header", f"Authorization: Bearer {at.secret}",
        # An agent that took the place of one that came with the program leaves it to that one again: not 404.
        "--exclude-checks", "positive_data_acceptance,use_after_free", "--checks", "all",
        "--continue-on-failure", "--no-shrink", "--request-timeout", "1", "--warnings", "off", *options,
    ]  # fmt: skip
    with trio.fail_after(within_s):
        done = await trio.run_process(command, check=False, cwd=folder, capture_stdout=True, stderr=subprocess.STDOUT)
    said = done.stdout.decode()
    assert done.returncode == 0, said


async def seed(at: Port) -> None:
    """Leave a run that waits for an approval, and one that is done."""
    waits, done = [(await at.ask("POST", "/api/v1/runs", start(at))).said["run_id"] for _ in range(2)]
    await at.served.runtime.until(waits, ApprovalRequested)
    await at.served.runtime.ended(done)


@pytest.mark.parametrize(
    ("options", "within_s"),
    [
        pytest.param(("--max-examples", "5", "--seed", "7", "--max-time", "10"), 100, id="briefly"),
        pytest.param(("--max-examples", "200", "--max-time", "240"), 600, id="at length", marks=pytest.mark.slow),
    ],
)
async def test_what_is_served_is_what_is_described(tmp_path: Path, options: tuple[str, ...], within_s: float) -> None:
    provider = changes("x")

    async def choose(model: str, base_url: str) -> Choice:
        if model:
            raise ConfigInvalid(f"there is no model {model!r}")
        return Choice(provider, "model", "the test says so")

    async with port(tmp_path, choose=choose, tools=[CHANGE], left=LEFT) as at:
        await seed(at)
        await conforms(at, tmp_path, *options, within_s=within_s)
