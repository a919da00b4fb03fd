import os
from pathlib import Path

import pytest

from palyra_trio.core.errors import NotFound
from palyra_trio.tools.programs import is_opaque_name, look_up, why_opaque
from palyra_trio.tools.view import look


@pytest.mark.parametrize(
    "name",
    ["sh", "bash", "python3", "python3.11", "Python", "perl5.36.0", "env", "xargs", "find", "git", "ssh", "make", "tar",
     "node", "gcc-12", "x86_64-linux-gnu-gcc-12", "ld-linux-x86-64.so.2", "ld.so", "busybox", "awk", "vim.tiny"],
)  # fmt: skip
def test_a_shell_an_interpreter_or_a_wrapper_is_opaque(name: str) -> None:
    assert is_opaque_name(name)


@pytest.mark.parametrize(
    "name", ["ls", "cat", "grep", "wc", "true", "sha256sum", "diff", "head", "environment", "shred"]
)
def test_a_program_that_does_one_thing_is_not(name: str) -> None:
    assert not is_opaque_name(name)


def test_a_script_is_as_opaque_as_what_runs_it(tmp_path: Path) -> None:
    script = tmp_path / "harmless"
    script.write_text("#!/usr/bin/env -S python3 -I\n")
    assert why_opaque(str(script)) == "it is a script, run by /usr/bin/env -S python3 -I"


def test_another_name_does_not_help(tmp_path: Path) -> None:
    os.symlink("/bin/sh", tmp_path / "ls")
    assert "can start any other" in why_opaque(str(tmp_path / "ls"))


def test_neither_a_script_nor_a_binary_is_opaque(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("echo a shell would run this\n")
    assert why_opaque(str(tmp_path / "text")) == "it is neither a script nor a binary"


def test_what_lies_in_the_workspace_is_opaque_and_named_by_its_content(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_bytes(b"\x7fELF one")
    tool.chmod(0o755)
    one = look_up(look("/home/me"), "./tool", str(tmp_path), str(tmp_path))
    tool.write_bytes(b"\x7fELF two")
    two = look_up(look("/home/me"), "./tool", str(tmp_path), str(tmp_path))
    assert one.path == two.path == str(tool)
    assert one.why_opaque == "it lies in the workspace"
    assert one.digest != two.digest


def test_a_system_program_is_known_by_its_path(tmp_path: Path) -> None:
    found = look_up(look("/home/me"), "cat", str(tmp_path), str(tmp_path))
    assert (found.why_opaque, found.digest) == ("", "")
    assert os.path.isabs(found.path)


def test_what_the_sandbox_does_not_show_is_not_there(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    hidden = tmp_path / "python"
    hidden.write_bytes(b"\x7fELF")
    hidden.chmod(0o755)
    os.symlink(hidden, work / "python")
    with pytest.raises(NotFound, match=r"which the sandbox does not show .*sandbox\.read_only"):
        look_up(look("/home/me"), "./python", str(work), str(work))
    with pytest.raises(NotFound, match=r"no program 'nothing'.*sandbox\.path"):
        look_up(look("/home/me"), "nothing", str(work), str(work))
