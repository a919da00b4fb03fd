"""DBOS on SQLite: a workflow of two steps a turn, on threads, which on SQLite are faster than its async form."""

import sqlite3
import sys
import time
from typing import Any

if sqlite3.sqlite_version_info < (3, 42):  # DBOS needs unixepoch('subsec')
    import pysqlite3

    sys.modules["sqlite3"] = pysqlite3

from dbos import DBOS

from bench.contest import STEPS, Work, given_work


@DBOS.step()
def model(turn: int) -> dict[str, Any]:
    if turn == STEPS:
        return {"role": "assistant", "content": "done"}
    call = {"id": f"call_{turn}", "name": "clock", "arguments": {}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


@DBOS.step()
def tool(call: dict[str, Any]) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call["id"], "content": time.ctime()}


@DBOS.workflow()
def run(prompt: str) -> str:
    messages: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
    while "tool_calls" in (reply := model(len(messages) // 2)):
        messages += [reply, tool(reply["tool_calls"][0])]
    assert len(messages) == 2 * STEPS + 1
    return str(reply["content"])


def main(work: Work) -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{work.folder / 'dbos.sqlite3'}",
            "log_level": "WARNING",
            "run_admin_server": False,
        }
    )
    DBOS.launch()
    assert run("hello") == "done"
    with work.measured():
        for _ in range(work.runs_each):
            handles = [DBOS.start_workflow(run, "hello") for _ in range(work.workers)]
            for handle in handles:
                assert handle.get_result() == "done"
    DBOS.destroy()


if __name__ == "__main__":
    main(given_work())
