"""In which folders a principal's runs may work. Decides by names; what they lead to is the caller's to look up."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from palyra_trio.core.errors import WorkspaceRefused
from palyra_trio.core.identity import RequestContext


def check_workspace(folder: str, roots: Sequence[str], state_dir: str, context: RequestContext) -> None:
    """Raise WorkspaceRefused when a run of this caller may not work in `folder`.

    The local user chooses any folder. Everybody else needs one of the principal's `roots`, or a folder beneath one, and
    never one from which the state directory, with its journal and its token, can be reached. All of these are
    absolute and resolved: no symbolic link is left in them. So a refusal does not repeat `folder`: it would tell where
    the links of this machine lead.
    """
    if context.local:
        return
    path, private = PurePosixPath(folder), PurePosixPath(state_dir)
    if any(path.is_relative_to(root) for root in roots):
        if path.is_relative_to(private) or private.is_relative_to(path):
            raise WorkspaceRefused(
                "the workspace holds the daemon's own state, or is part of it", remedy="name another"
            )
        return
    if roots:
        raise WorkspaceRefused(
            f"the workspace is beneath none of the folders of {context.principal}",
            remedy=f"these are {', '.join(roots)}",
        )
    raise WorkspaceRefused(
        f"{context.principal} has no folder to work in",
        remedy=f'let the daemon\'s configuration name some: [workspaces] roots = {{ "{context.principal}" = ["/…"] }}',
    )
