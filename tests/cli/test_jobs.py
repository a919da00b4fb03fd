"""`palyra-trio jobs`: read from a journal that nobody holds, and with a daemon that is served, left, stopped and killed."""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from palyra_trio.core.chain import digest
from palyra_trio.core.session_events import JobEnded, JobOutput, JobStarted
from palyra_trio.core.tape import SESSION_STREAM
from palyra_trio.journal.store import entry
from palyra_trio.tools import processes
from tests.cli.conftest import RUN, SESSION, Home, Palyra
from tests.processes import PATIENCE_S, PROGRAM, Shell, shell_for_programs

JOB, OTHER_JOB = "01J00000000000000000000001", "01J00000000000000000000002"
STARTED = JobStarted(
    JOB, RUN, "c1", "/usr/bin/npm", ("npm", "run", "\x1b[2Jdev"), "/w", 4, "mark", 0, "npm can start any"
)
KEPT = b"the end: \x1b[2J\xc3\xa9\n"
ENDED = JobEnded(JOB, "stopped", None, "user:me", "", 3, 0, 12, digest(KEPT), 100)


def record(home: Home, *events: JobStarted | JobOutput | JobEnded) -> None:
    if not home.journal.exists():
        home.record_whole_run()
    home.record(*(entry(SESSION_STREAM + SESSION, each) for each in events), blobs=((digest(KEPT), KEPT),))


# --- a journal that nobody holds ---


def test_a_list_of_nothing_is_an_answer(palyra: Palyra) -> None:
    result = palyra("jobs", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no job runs\n")
    assert palyra("jobs", "list", "--all").stderr == "no jobs yet\n"
    assert json.loads(palyra("jobs", "list", "--json").stdout) == {"jobs": []}


def test_a_job_whose_process_has_gone_is_lost(palyra: Palyra, home: Home) -> None:
    record(home, STARTED, JobOutput(JOB, "stdout", "begun\n"))
    row = palyra("jobs", "list").stdout.splitlines()[1].split("\t")
    assert (row[0], *row[2:]) == (
        JOB,
        "lost: the process that held it has gone",
        SESSION,
        "npm run \\u001b[2Jdev",
    )
    assert palyra("jobs", "output", "last").stdout == "begun\n"
    assert json.loads(palyra("jobs", "show", JOB, "--json").stdout)["state"] == "lost"


def test_a_job_that_is_over_is_shown_with_its_receipt_and_the_end_of_its_output(palyra: Palyra, home: Home) -> None:
    record(home, STARTED, ENDED, attrs.evolve(STARTED, job_id=OTHER_JOB))
    assert [line.split("\t")[0] for line in palyra("jobs", "list", "--all").stdout.splitlines()] == [
        "JOB",
        OTHER_JOB,
        JOB,
    ]
    shown = palyra("jobs", "show", JOB.lower())
    assert "state    stopped by user:me (3 processes killed in 12 ms)\n" in shown.stdout
    assert "program  /usr/bin/npm (opaque: npm can start any)\n" in shown.stdout
    assert "argv[2]  \\u001b[2Jdev\n" in shown.stdout
    assert "wrote    100 bytes\n" in shown.stdout
    output = palyra("jobs", "output", JOB)
    assert output.stdout_bytes == KEPT
    assert output.stderr == "[bytes 0 to 84 are not kept any more]\n"
    assert palyra("jobs", "output", JOB, "--tail", "3").stdout_bytes == KEPT[-3:]
    assert palyra("jobs", "output", JOB, "--since", "97").stdout_bytes == KEPT[-3:]
    followed = palyra("jobs", "output", "-f", JOB, "--tail", "1")
    assert followed.stderr == f"job {JOB} stopped by user:me (3 processes killed in 12 ms)\n"


def test_one_that_is_over_cannot_be_stopped(palyra: Palyra, home: Home) -> None:
    record(home, STARTED, ENDED)
    result = palyra("jobs", "stop", JOB)
    assert result.exit_code == 1
    assert "is over" in result.stderr


def test_a_session_is_shown_with_its_jobs(palyra: Palyra, home: Home) -> None:
    record(home, STARTED, ENDED)
    lines = palyra("sessions", "show", SESSION).stdout.splitlines()
    assert lines[-2].split("\t") == ["JOB", "AGE", "STATE", "COMMAND"]
    assert lines[-1].split("\t")[0] == JOB
    (job,) = json.loads(palyra("sessions", "show", SESSION, "--json").stdout)["jobs"]
    assert (job["job_id"], job["state"], job["pids_seen"]) == (JOB, "stopped", 3)


def test_a_place_in_the_output_is_said_in_one_way(palyra: Palyra, home: Home) -> None:
    record(home, STARTED)
    assert palyra("jobs", "output", JOB, "--since", "1", "--tail", "1").exit_code == 2


# --- with a daemon ---

SERVER = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("serving", flush=True)
for line in sys.stdin: print("heard", line.strip(), flush=True)
time.sleep(60)
"""


@attrs.frozen
class Serving:
    """A daemon, and a session with a job that ignores SIGTERM, started by a run that is done."""

    shell: Shell
    daemon: "subprocess.Popen[str]"
    address: str
    job: dict[str, Any]
    mark: str

    def alive(self) -> int:
        return len(processes.marked(self.mark))

    def until_dead(self) -> None:
        """Wait for those that are alive to die. Fails when they do not."""
        end = time.monotonic() + PATIENCE_S
        while live := processes.marked(self.mark):
            assert time.monotonic() < end
            for each in live:
                try:
                    fd = os.pidfd_open(each.pid)
                except ProcessLookupError:
                    continue
                select.select([fd], [], [], 5)
                os.close(fd)


def start(shell: Shell) -> dict[str, Any]:
    """Let a run start the job, allow it, follow the run to its end, and return the job."""
    shell.folder.joinpath("server.py").write_text(SERVER)
    call = {"tool": "process.start", "arguments": {"argv": ["python3", "server.py"], "deadline_s": 50}}
    model = shell.script({"calls": [call]}, {"text": "it serves"})
    left = shell.run("run", "--detach", "--model", model, "serve it")
    assert left.returncode == 0, left.stderr
    shell.until_waiting("last")
    approval = shell.bodies("ApprovalRequested")[0]["approval_id"]
    assert shell.run("approvals", "allow", approval).returncode == 0
    assert shell.run("run", "--attach", "last").returncode == 0
    (job,) = listed(shell)
    return job


def listed(shell: Shell, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(shell.run("jobs", "list", "--json", *options).stdout)["jobs"]
    return found


@contextmanager
def serving() -> Generator[Serving]:
    with shell_for_programs() as shell, shell.process("serve", "--port", "0") as daemon:
        assert daemon.stdout is not None
        address = daemon.stdout.readline().split()[-1]
        job = start(shell)
        tree = json.loads(shell.run("runs", "show", "last", "--tree", "--json").stdout)
        pids = [each["pid"] for each in tree["jobs"][0]["processes"]]
        environ = dict(
            each.partition("=")[::2] for each in Path(f"/proc/{pids[0]}/environ").read_text().split("\0") if each
        )
        yield Serving(shell, daemon, address, job, environ["PALYRA_TRIO_JOB"])


def test_a_job_outlives_its_run_is_followed_by_two_and_stopped() -> None:
    with serving() as here:
        shell, job_id = here.shell, here.job["job_id"]
        assert (here.job["state"], here.job["argv"]) == ("running", ["python3", "server.py"])
        assert shell.runs()[-1].state == "done"
        follow = [*PROGRAM, "jobs", "output", "-f", job_id]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": shell.folder, "env": shell.environment()}
        with (
            subprocess.Popen(follow, **pipes) as one,  # type: ignore[call-overload]
            subprocess.Popen(follow, **pipes) as two,  # type: ignore[call-overload]
        ):
            for each in (one, two):
                assert each.stdout.readline() == b"serving\n"
            tree = shell.run("runs", "show", "last", "--tree").stdout
            assert f"  job {job_id} for " in tree
            assert "/server.py" in tree or "server.py\n" in tree
            stopped = shell.run("jobs", "stop", job_id)
            assert stopped.stdout.startswith(f"job {job_id} stopped by user:")
            assert here.alive() == 0
            for each in (one, two):
                rest, said = each.communicate(timeout=PATIENCE_S)
                assert (rest, each.returncode) == (b"", 0)
                assert said.startswith(f"job {job_id} stopped by user:".encode())
        assert listed(shell) == []
        assert [each["state"] for each in listed(shell, "--all")] == ["stopped"]


def test_a_daemon_elsewhere_is_asked_the_same() -> None:
    with serving() as here:
        shell, token = here.shell, (here.shell.state_dir / "token").read_bytes()
        connected = shell.run("connect", here.address, "--name", "home", "--token-file", "-", "--yes", stdin=token)
        assert connected.returncode == 0, connected.stderr
        there = ("--daemon", "home")
        (job,) = json.loads(shell.run(*there, "jobs", "list", "--json").stdout)["jobs"]
        assert job == here.job
        assert shell.run(*there, "jobs", "output", "last").stdout == "serving\n"
        tree = json.loads(shell.run(*there, "runs", "show", "last", "--tree", "--json").stdout)
        assert [each["job_id"] for each in tree["jobs"]] == [job["job_id"]]
        assert shell.run(*there, "jobs", "stop", "last").returncode == 0
        assert here.alive() == 0
        (job,) = json.loads(shell.run(*there, "sessions", "show", "last", "--json").stdout)["jobs"]
        assert job["state"] == "stopped"


def test_a_daemon_that_is_told_to_end_kills_its_jobs_and_records_it() -> None:
    with serving() as here:
        assert here.alive()
        here.daemon.send_signal(signal.SIGTERM)
        assert here.daemon.wait(PATIENCE_S) == 0
        assert here.alive() == 0
        (job,) = listed(here.shell, "--all")
        assert (job["state"], job["survivors"]) == ("shutdown", 0)
        assert job["pids_seen"] > 0
        here.shell.assert_verifies()


def test_no_job_outlives_a_daemon_that_is_killed_and_the_next_one_records_that() -> None:
    with serving() as here:
        assert here.alive()
        here.daemon.kill()
        here.daemon.wait()
        here.until_dead()
        assert [each["state"] for each in listed(here.shell, "--all")] == ["lost"]
        assert here.shell.run("jobs", "output", "last").stdout == "serving\n"
        with here.shell.process("serve", "--port", "0") as daemon:
            assert daemon.stdout is not None
            assert daemon.stdout.readline().startswith("ready")
            (job,) = listed(here.shell, "--all")
            assert (job["state"], job["survivors"]) == ("lost", 0)
            assert job["ended_ms"] is not None
            assert here.shell.run("jobs", "output", "-f", "last").stdout == "serving\n"


def test_an_archived_session_has_no_job_left() -> None:
    with serving() as here:
        assert here.shell.run("sessions", "archive", here.job["session_id"]).returncode == 0
        assert here.alive() == 0
        assert [each["state"] for each in listed(here.shell, "--all")] == ["session_archived"]


def test_a_job_of_a_run_without_a_daemon_ends_with_it_and_that_is_said() -> None:
    with shell_for_programs() as shell:
        call = {"tool": "process.start", "arguments": {"argv": ["sleep", "60"]}}
        model = shell.script({"calls": [call]}, {"text": "it sleeps"})
        ran = shell.run("run", "--yes-to", "process.start", "--model", model, "sleep")
        assert ran.returncode == 0, ran.stderr
        assert "stopping 1 long job" in ran.stderr
        assert "`palyra-trio serve` keeps them" in ran.stderr
        (job,) = listed(shell, "--all")
        assert (job["state"], job["survivors"]) == ("shutdown", 0)
        assert not processes.marked(job["job_id"])
