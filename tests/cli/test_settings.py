"""Where the configuration is found, how unreadable files are told, and when a project's file is believed."""

import os
from pathlib import Path

import pytest

from palyra_trio.cli.settings import (
    FILE_BYTES_MAX,
    Settings,
    find_project_file,
    find_state_dir,
    load_settings,
    read_project_file,
    set_trust,
    trusted_files,
)
from palyra_trio.core.config import Config
from palyra_trio.core.errors import ConfigInvalid


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home/.config/palyra-trio").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home)}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def accept(settings: Settings, folder: Path) -> None:
    project = read_project_file(folder)
    assert project is not None
    set_trust(settings.state_dir, project.path, project.digest)


def test_with_nothing_configured_the_defaults_hold_and_nothing_is_created(
    environ: dict[str, str], home: Path, workspace: Path
) -> None:
    settings = load_settings({}, environ, workspace)

    assert settings.config == Config()
    assert settings.state_dir == home / ".local/state/palyra-trio"
    assert not settings.state_dir.exists()
    assert (settings.files, settings.warnings) == ((), ())


def test_flag_beats_variable_beats_project_beats_user(environ: dict[str, str], home: Path, workspace: Path) -> None:
    user = write(
        home / ".config/palyra-trio/config.toml", "[limits]\nturns = 40\ntool_calls = 40\nactive_s = 40\ntool_s = 40"
    )
    project = write(workspace / "palyra.toml", "[limits]\nturns = 30\ntool_calls = 30\nactive_s = 30")
    environ |= {"PALYRA_LIMITS__TURNS": "20", "PALYRA_LIMITS__TOOL_CALLS": "20"}

    settings = load_settings({"limits.turns": 10, "model.name": None}, environ, workspace)

    assert settings.config.limits.turns == 10
    assert settings.config.limits.tool_calls == 20
    assert settings.config.limits.active_s == 30
    assert settings.config.limits.tool_s == 40
    assert settings.origins["limits.turns"] == "command line"
    assert settings.origins["limits.tool_calls"] == "PALYRA_LIMITS__TOOL_CALLS"
    assert settings.origins["limits.active_s"] == str(project)
    assert settings.origins["limits.tool_s"] == str(user)
    assert settings.files == (str(user), str(project))


def test_credentials_come_from_the_environment_and_do_not_print(environ: dict[str, str], workspace: Path) -> None:
    environ |= {
        "OPENAI_API_KEY": "hunter2",
        "OPENAI_BASE_URL": "http://a/v1",
        "ANTHROPIC_API_KEY": "hunter3",
        "OLLAMA_HOST": "h:1",
    }
    settings = load_settings({}, environ, workspace)

    assert settings.credentials.openai_api_key == "hunter2"
    assert settings.credentials.anthropic_api_key == "hunter3"
    assert (settings.credentials.openai_base_url, settings.credentials.ollama_host) == ("http://a/v1", "h:1")
    assert "hunter" not in repr(settings)


def test_xdg_folders_are_honoured_and_relative_ones_ignored(
    tmp_path: Path, environ: dict[str, str], workspace: Path
) -> None:
    (tmp_path / "conf/palyra-trio").mkdir(parents=True)
    user = write(tmp_path / "conf/palyra-trio/config.toml", "[limits]\nturns = 7")
    environ |= {"XDG_CONFIG_HOME": str(tmp_path / "conf"), "XDG_STATE_HOME": "relative"}
    settings = load_settings({}, environ, workspace)

    assert settings.origins["limits.turns"] == str(user)
    assert settings.state_dir == Path(environ["HOME"], ".local/state/palyra-trio")
    assert find_state_dir(environ | {"XDG_STATE_HOME": str(tmp_path)}, workspace) == tmp_path / "palyra-trio"
    assert find_state_dir(environ | {"PALYRA_STATE_DIR": "here"}, workspace) == workspace / "here"


def test_without_a_home_the_missing_variable_is_named(workspace: Path) -> None:
    with pytest.raises(ConfigInvalid, match="XDG_CONFIG_HOME nor HOME is set"):
        load_settings({}, {}, workspace)


def test_a_projects_file_that_is_nested_without_end_is_a_fault_in_it(environ: dict[str, str], workspace: Path) -> None:
    write(workspace / "palyra.toml", f"a = {'[' * 20_000}{']' * 20_000}")
    with pytest.raises(ConfigInvalid, match=r"palyra\.toml: is not TOML"):
        load_settings({}, environ, workspace)


def test_every_fault_of_every_place_is_told_at_once(environ: dict[str, str], home: Path, workspace: Path) -> None:
    user = write(home / ".config/palyra-trio/config.toml", "[limits]\nturns = 1\nturns = 2\n")
    project = write(workspace / "palyra.toml", "[model]\nnam = 'a/b'\n")
    environ |= {"PALYRA_LIMITS__TURNS": "x", "PALYRA_TURNS": "1"}

    with pytest.raises(ConfigInvalid) as caught:
        load_settings({"model.name": "gpt"}, environ, workspace)

    lines = str(caught.value).splitlines()
    assert lines[0] == "5 faults in the configuration:"
    assert lines[1].startswith(f"  {user}: is not TOML: ")
    assert "line 3" in lines[1]
    assert lines[2] == f"  {project}: model.nam: there is no such key; did you mean name?"
    assert lines[3].startswith("  PALYRA_LIMITS__TURNS: limits.turns: ")
    assert lines[4].startswith("  command line: model.name: expected provider/model")
    assert lines[5].startswith("  PALYRA_TURNS: there is no such variable")


def test_a_file_that_cannot_be_used_is_told_with_the_reason(
    environ: dict[str, str], home: Path, workspace: Path
) -> None:
    def fault() -> str:
        with pytest.raises(ConfigInvalid) as caught:
            load_settings({}, environ, workspace)
        return str(caught.value)

    user, project = home / ".config/palyra-trio/config.toml", workspace / "palyra.toml"
    user.write_bytes(b"[limits]\n# caf\xe9\n")
    assert f"{user}: line 2 is not UTF-8" in fault()
    user.unlink()
    user.mkdir()
    assert f"{user}: cannot be read: Is a directory" in fault()
    user.rmdir()
    os.mkfifo(project)
    assert f"{project}: is not a regular file" in fault()
    project.unlink()
    write(project, "#" * (FILE_BYTES_MAX + 1))
    assert f"{project}: is larger than" in fault()
    project.unlink()
    project.symlink_to(project)
    assert f"{project}: cannot be read: " in fault()


def test_the_project_file_is_the_nearest_up_to_the_root_of_the_work_tree(workspace: Path) -> None:
    deep = workspace / "a/b"
    deep.mkdir(parents=True)
    outer = write(workspace / "palyra.toml", "")
    assert find_project_file(deep) is None

    (workspace / ".git").mkdir()
    assert find_project_file(deep) == outer.resolve()

    inner = write(workspace / "a/palyra.toml", "")
    assert find_project_file(deep) == inner.resolve()

    (deep / ".git").touch()
    assert find_project_file(deep) is None


def test_an_unaccepted_file_only_narrows_and_what_was_ignored_is_told(environ: dict[str, str], workspace: Path) -> None:
    project = write(
        workspace / "palyra.toml",
        '[model]\nbase_url = "http://evil.example"\n[limits]\nturns = 3\ntool_s = 9999\n[policy]\nallow = ["*"]\ndeny = ["x"]',
    )
    settings = load_settings({}, environ, workspace)

    assert settings.config.model.base_url == ""
    assert settings.config.policy.allow == ()
    assert settings.config.policy.deny == ("x",)
    assert (settings.config.limits.turns, settings.config.limits.tool_s) == (3, 600)
    (warning,) = settings.warnings
    assert warning == (
        f"{project}: ignored model.base_url, limits.tool_s, policy.allow: the file is not trusted"
        f" (to look at it and accept it: palyra-trio trust {workspace})"
    )


def test_a_file_that_only_narrows_needs_no_trust_and_no_warning(environ: dict[str, str], workspace: Path) -> None:
    write(workspace / "palyra.toml", "[limits]\nturns = 3")

    assert load_settings({}, environ, workspace).warnings == ()


def test_an_accepted_file_holds_until_it_changes(environ: dict[str, str], workspace: Path) -> None:
    project = write(workspace / "palyra.toml", '[policy]\nallow = ["files.write"]')
    accept(load_settings({}, environ, workspace), workspace)
    trusted = load_settings({}, environ, workspace)

    assert trusted.config.policy.allow == ("files.write",)
    assert trusted.warnings == ()

    write(project, '[policy]\nallow = ["files.*"]')
    changed = load_settings({}, environ, workspace)

    assert changed.config.policy.allow == ()
    assert "has changed since it was trusted" in changed.warnings[0]


def test_an_accepted_file_is_not_believed_elsewhere(environ: dict[str, str], workspace: Path, tmp_path: Path) -> None:
    text = '[policy]\nallow = ["files.write"]'
    write(workspace / "palyra.toml", text)
    accept(load_settings({}, environ, workspace), workspace)
    (tmp_path / "clone").mkdir()
    write(tmp_path / "clone/palyra.toml", text)

    assert load_settings({}, environ, tmp_path / "clone").config.policy.allow == ()


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_write_is_not_believed_even_when_accepted(
    environ: dict[str, str], workspace: Path, mode: int
) -> None:
    project = write(workspace / "palyra.toml", '[policy]\nallow = ["files.write"]')
    accept(load_settings({}, environ, workspace), workspace)
    project.chmod(mode)
    settings = load_settings({}, environ, workspace)

    assert settings.config.policy.allow == ()
    assert "others may write to it" in settings.warnings[0]


def test_a_symbolic_link_is_not_believed_even_when_accepted(
    environ: dict[str, str], workspace: Path, tmp_path: Path
) -> None:
    project = write(workspace / "palyra.toml", '[policy]\nallow = ["files.write"]')
    accept(load_settings({}, environ, workspace), workspace)
    project.rename(tmp_path / "elsewhere.toml")
    project.symlink_to(tmp_path / "elsewhere.toml")
    settings = load_settings({}, environ, workspace)

    assert settings.config.policy.allow == ()
    assert "it is a symbolic link" in settings.warnings[0]


def test_a_file_of_another_user_is_not_believed_even_when_accepted(
    environ: dict[str, str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(workspace / "palyra.toml", '[policy]\nallow = ["files.write"]')
    project = read_project_file(workspace)
    assert project is not None
    assert project.unsafe == ""

    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    foreign = read_project_file(workspace)

    assert foreign is not None
    assert foreign.unsafe == "it belongs to another user"


def test_the_list_of_trusted_files_is_private_and_survives_removal_of_one(tmp_path: Path) -> None:
    state = tmp_path / "state"
    set_trust(state, Path("/a/palyra.toml"), "1")
    set_trust(state, Path(os.fsdecode(b"/\xff/palyra.toml")), "2")

    assert (state.stat().st_mode & 0o777, (state / "trusted.json").stat().st_mode & 0o777) == (0o700, 0o600)
    assert set_trust(state, Path("/a/palyra.toml"), None)
    assert not set_trust(state, Path("/a/palyra.toml"), None)
    assert trusted_files(state) == {os.fsdecode(b"/\xff/palyra.toml"): "2"}
    assert [path.name for path in state.iterdir()] == ["trusted.json"]


def test_a_damaged_or_writable_list_of_trusted_files_is_refused(tmp_path: Path) -> None:
    store = write(tmp_path / "trusted.json", "[]", 0o600)
    with pytest.raises(ConfigInvalid, match="is damaged"):
        trusted_files(tmp_path)

    write(store, "{}", 0o666)
    with pytest.raises(ConfigInvalid, match="is not safe: others may write"):
        trusted_files(tmp_path)


def test_a_workspace_whose_name_is_not_utf8_can_be_configured(environ: dict[str, str], workspace: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(workspace) + b"/caf\xe9"))
    folder.mkdir()
    write(folder / "palyra.toml", '[model]\nname = "a/b"')
    settings = load_settings({}, environ, folder)
    settings.warnings[0].encode()
    accept(settings, folder)

    assert load_settings({}, environ, folder).config.model.name == "a/b"
