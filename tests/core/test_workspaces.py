"""The local user works anywhere; everybody else beneath a folder that is theirs by name, whole parts of it."""

import pytest

from palyra_trio.core.errors import WorkspaceRefused
from palyra_trio.core.identity import Principal, RequestContext
from palyra_trio.core.workspaces import check_workspace

ALICE = RequestContext(Principal("user:alice"), channel="cli")
ROOTS = ("/srv/alice", "/srv/shared")
STATE_DIR = "/srv/alice/.local/state/palyra-trio"


@pytest.mark.parametrize("folder", ["/srv/shared", "/srv/alice/deep/er", "/srv/alice/.local/state/palyra"])
def test_a_root_and_what_is_beneath_it_may_be_worked_in(folder: str) -> None:
    check_workspace(folder, ROOTS, STATE_DIR, ALICE)


@pytest.mark.parametrize("folder", ["/srv", "/", "/srv/alice2", "/srv/bob", "srv/alice", "", "."])
def test_a_folder_elsewhere_is_refused_with_those_that_are_not(folder: str) -> None:
    with pytest.raises(WorkspaceRefused, match="beneath none of the folders of user:alice") as caught:
        check_workspace(folder, ROOTS, STATE_DIR, ALICE)
    assert caught.value.remedy == "these are /srv/alice, /srv/shared"
    assert len(folder) < 2 or folder not in caught.value.message  # resolved: it would tell where a link leads


def test_without_a_folder_of_ones_own_every_folder_is_refused_with_what_to_configure() -> None:
    with pytest.raises(WorkspaceRefused, match="user:alice has no folder to work in") as caught:
        check_workspace("/srv/alice", (), STATE_DIR, ALICE)
    assert '[workspaces] roots = { "user:alice" = [' in caught.value.remedy


def test_the_local_user_may_work_in_any_folder_and_saying_so_is_not_enough() -> None:
    check_workspace("/anywhere", (), STATE_DIR, RequestContext(Principal("user:alice"), local=True))
    with pytest.raises(WorkspaceRefused):
        check_workspace("/anywhere", (), STATE_DIR, RequestContext(Principal("user:alice"), channel="cli"))


@pytest.mark.parametrize("folder", ["/srv/alice", "/srv/alice/.local", STATE_DIR, f"{STATE_DIR}/deep"])
def test_no_root_leads_to_the_daemons_own_state(folder: str) -> None:
    with pytest.raises(WorkspaceRefused, match="the daemon's own state"):
        check_workspace(folder, ROOTS, STATE_DIR, ALICE)
