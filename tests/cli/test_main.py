import json
import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner

from palyra_trio import __version__
from palyra_trio.cli.main import COMMANDS, LazyGroup, innermost, main
from palyra_trio.core.errors import DiskLow, JournalStopped, PalyraError
from palyra_trio.core.tape import ModelDelta
from tests.cli.conftest import STARTED, Home

HELP = """
import sys
from click.testing import CliRunner
from palyra_trio.cli.main import main
result = CliRunner().invoke(main, ["--help"])
assert result.exit_code == 0
print(*sorted({"trio", "rich", "httpx2", "msgspec", "attrs", "sqlite3"} & sys.modules.keys()))
"""

Fail = Callable[..., tuple[int, str, str]]
raised: list[BaseException] = []


@click.command()
@click.option("--json", "as_json", is_flag=True)
def failing(as_json: bool) -> None:
    raise raised.pop()


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Add the command `failing`, which raises what it is given."""
    monkeypatch.setitem(COMMANDS, "failing", ("tests.cli.test_main:failing", "It fails."))

    def call(error: BaseException, *arguments: str, before: tuple[str, ...] = ()) -> tuple[int, str, str]:
        raised.append(error)
        result = CliRunner().invoke(main, [*before, "failing", *arguments])
        return result.exit_code, result.stdout, result.stderr

    return call


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    loaded = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
    help_text = CliRunner().invoke(main, ["--help"]).stdout
    assert all(f"  {name} " in help_text and text in help_text for name, (_, text) in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_is(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    commands = [command, *command.commands.values()] if isinstance(command, click.Group) else [command]
    for each in commands:
        assert each.help, each.name
        for parameter in each.params:
            assert not isinstance(parameter, click.Option) or parameter.help, f"{each.name} {parameter.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_of_help_is_cut(name: str) -> None:
    lines = CliRunner().invoke(main, [name, "--help"], terminal_width=80).stdout.splitlines()
    assert [line for line in lines[1:] if line.endswith("...")] == []


def test_a_command_that_there_is_not_is_a_fault_of_usage() -> None:
    result = CliRunner().invoke(main, ["fly"])
    assert result.exit_code == 2
    assert "fly" in result.stderr


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout == f"palyra-trio {__version__}\n"


def test_an_error_is_told_on_stderr_with_its_remedy_and_its_exit_status(fail: Fail) -> None:
    assert fail(DiskLow("no room", remedy="make some")) == (75, "", "error: no room\n  make some\n")


def test_with_json_an_error_is_one_object_on_stderr(fail: Fail) -> None:
    status, out, err = fail(DiskLow("no room", remedy="make some"), "--json")
    error = {"code": "disk_low", "message": "no room", "remedy": "make some", "exit_status": 75}
    assert (status, out, json.loads(err)) == (75, "", {"error": error})


def test_with_json_a_fault_of_usage_is_one_object_too(fail: Fail) -> None:
    status, _, err = fail(AssertionError("not reached"), "--json", "--wrong")
    raised.clear()
    assert status == 2
    assert json.loads(err)["error"]["code"] == "usage"


def test_what_would_deceive_a_reader_is_spelled_out(fail: Fail) -> None:
    _, _, err = fail(PalyraError("bad\x1b[2Jname", remedy="a\u202eb"))
    assert err == "error: bad\\u001b[2Jname\n  a\\u202eb\n"


def test_ctrl_c_ends_without_a_traceback(fail: Fail) -> None:
    status, out, err = fail(KeyboardInterrupt())
    assert (status, out, err.strip()) == (130, "", "")


def test_a_surprise_is_one_line_and_the_traceback_comes_on_request(fail: Fail) -> None:
    status, _, err = fail(ValueError("odd"))
    assert (status, err.splitlines()[0]) == (1, "error: ValueError: odd")
    assert "PALYRA_DEBUG=1" in err
    assert "Traceback" not in err
    assert "Traceback" in fail(ValueError("odd"), before=("--debug",))[2]


def test_an_error_from_within_a_nursery_is_told_as_itself(fail: Fail) -> None:
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [DiskLow("no room")])])
    assert fail(nested) == (75, "", "error: no room\n")


def test_a_group_comes_down_to_what_is_in_it() -> None:
    one, other = JournalStopped("a"), JournalStopped("b")
    assert innermost(ExceptionGroup("", [one])) is one
    assert innermost(ExceptionGroup("", [one, other])) is one
    several = ExceptionGroup("", [one, ValueError()])
    assert innermost(several) is several
    interrupt = KeyboardInterrupt()
    assert innermost(BaseExceptionGroup("", [one, interrupt])) is interrupt


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(home: Home) -> None:
    home.record_run(*STARTED, *(ModelDelta(1, "x" * 1000) for _ in range(500)))
    command = [sys.executable, "-m", "palyra_trio", "tape", "last", "--jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert said == b""
    assert process.returncode == 1


def test_names_of_commands_are_completed_without_loading_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: pytest.fail("a command was loaded"))
    items = main.shell_complete(click.Context(main), "ru")
    assert [item.value for item in items] == ["run", "runs"]
