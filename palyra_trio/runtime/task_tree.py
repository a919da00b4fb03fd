"""The tree of this process's Trio tasks, for whoever wants to know what a daemon is doing: which tasks, and where each stands.

It names functions, files and lines of code, and no value: what runs work on does not show.
"""

from collections.abc import Iterator

import trio


def task_tree(root: trio.lowlevel.Task) -> Iterator[str]:
    """Yield a line a task, children below their parent, with the innermost line of code that each waits in."""
    waiting: list[tuple[trio.lowlevel.Task, int]] = [(root, 0)]
    while waiting:
        task, depth = waiting.pop()
        yield f"{'  ' * depth}{task.name.removeprefix('palyra_trio.')}{_place(task)}"
        children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        waiting += [(child, depth + 1) for child in sorted(children, key=lambda each: each.name, reverse=True)]


def _place(task: trio.lowlevel.Task) -> str:
    innermost = None
    for frame, line in task.iter_await_frames():
        if frame.f_globals.get("__name__", "").startswith("palyra_trio."):
            innermost = (frame.f_globals["__name__"].removeprefix("palyra_trio."), frame.f_code.co_qualname, line)
    if innermost is None:
        return ""
    module, function, line = innermost
    return f"  in {module}.{function}:{line}"
