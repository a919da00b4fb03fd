"""The tools that come with this program."""

import trio

from palyra_trio.tools.ask_user import ASK_USER
from palyra_trio.tools.clock import CLOCK_NOW
from palyra_trio.tools.fetch import fetch_tools
from palyra_trio.tools.files_delete import delete_tool
from palyra_trio.tools.files_edit import edit_tool
from palyra_trio.tools.files_list import list_tool
from palyra_trio.tools.files_patch import patch_tool
from palyra_trio.tools.files_read import read_tool
from palyra_trio.tools.files_search import search_tool
from palyra_trio.tools.files_write import write_tool
from palyra_trio.tools.process_jobs import job_tools
from palyra_trio.tools.process_run import run_tool
from palyra_trio.tools.registry import Tool
from palyra_trio.tools.sandbox import NO_SANDBOX, Sandbox
from palyra_trio.tools.todo import TODO_WRITE

FILE_THREADS = 4  # files of one machine: more threads only queue at the disk


def builtin_tools(sandbox: Sandbox = NO_SANDBOX) -> tuple[Tool, ...]:
    """Return the built-in tools, which share one small pool of worker threads; programs run in `sandbox`."""
    threads = trio.CapacityLimiter(FILE_THREADS)
    files = (list_tool, read_tool, search_tool, write_tool, edit_tool, patch_tool, delete_tool)
    own = (CLOCK_NOW, TODO_WRITE, ASK_USER)
    return (
        *own,
        *fetch_tools(),
        run_tool(sandbox, threads),
        *job_tools(sandbox, threads),
        *(tool(threads) for tool in files),
    )
