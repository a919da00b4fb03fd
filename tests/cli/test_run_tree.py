"""The tree of a run as lines and as plain values; what a daemon answers is shown in tests/cli/test_jobs.py."""

from palyra_trio.cli.run_tree import tree_lines, tree_plain
from palyra_trio.pb import jobs_pb2 as pb
from tests.cli.conftest import RUN, SESSION, Home, Palyra


def process(pid: int, parent: int, *argv: str) -> pb.Process:
    return pb.Process(pid=pid, parent_pid=parent, argv=argv, state="S", rss_bytes=2_500_000, cpu_ms=40, age_ms=61_000)


TREE = pb.GetRunTreeResponse(
    run_id="R1",
    session_id="S1",
    turn=2,
    calls=[
        pb.CallProcesses(
            call_id="c1",
            tool="process.run",
            state="started",
            processes=[
                process(10, 1, "bwrap"),
                process(11, 10, "sh", "-c", "a\x1b[2J\nb"),
                process(12, 11),
                process(9, 2, "x"),
            ],
        ),
        pb.CallProcesses(call_id="c2", tool="ask_user", state="asked"),
    ],
    jobs=[
        pb.JobProcesses(
            job=pb.Job(job_id="J1", argv=["npm", "run"], sandbox_tier=4, deadline_ms=90_000),
            processes=[process(20, 1, "npm")],
        )
    ],
)


def test_each_process_stands_beneath_its_parent() -> None:
    used = "2.5 MB, 40 ms CPU, 61.0 s old"
    assert list(tree_lines(TREE, "running", 30_000)) == [
        "run R1 running, turn 2",
        "  call c1 process.run started",
        f"    10 S {used}: bwrap",
        f"      11 S {used}: sh -c a\\u001b[2J ⏎ b",
        f"        12 S {used}: (no arguments)",
        f"    9 S {used}: x",
        "  call c2 ask_user asked",
        "session S1",
        "  job J1 for 1 min more at most, sandbox tier 4: npm run",
        f"    20 S {used}: npm",
    ]


def test_a_program_gets_all_of_it() -> None:
    plain = tree_plain(TREE, "running")
    assert (plain["run_id"], plain["state"], plain["turn"]) == ("R1", "running", 2)
    assert plain["calls"][0]["processes"][2] == {
        "pid": 12,
        "parent_pid": 11,
        "state": "S",
        "rss_bytes": 2_500_000,
        "cpu_ms": 40,
        "age_ms": 61_000,
        "argv": [],
    }
    assert plain["jobs"][0]["job_id"] == "J1"


def test_where_no_process_holds_the_journal_nothing_is_alive(palyra: Palyra, home: Home) -> None:
    home.record_whole_run()
    result = palyra("runs", "show", "last", "--tree")
    assert result.stdout == f"run {RUN} done\nsession {SESSION}\n"
    assert "nothing of it is alive" in result.stderr
