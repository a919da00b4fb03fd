import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module

import pytest
from click.testing import CliRunner

import palyra_trio
from palyra_trio.cli import exit_codes
from palyra_trio.cli.exit_codes import OF_ERROR, of_run
from palyra_trio.cli.main import main
from palyra_trio.core.errors import PalyraError
from palyra_trio.core.run import RunState


def subclasses(cls: type[PalyraError]) -> Iterator[type[PalyraError]]:
    yield cls
    for each in cls.__subclasses__():
        yield from subclasses(each)


def test_every_error_code_of_the_program_has_an_exit_status_and_no_other_has() -> None:
    for module in pkgutil.walk_packages(palyra_trio.__path__, "palyra_trio."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    codes = {cls.code for cls in subclasses(PalyraError) if cls.__module__.startswith("palyra_trio.")}
    assert codes == set(OF_ERROR)


def test_no_error_ends_in_success() -> None:
    assert 0 not in OF_ERROR.values()


def test_help_names_every_exit_status() -> None:
    statuses = {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
    text = CliRunner().invoke(main, ["--help"]).stdout.partition("Exit status:")[2].partition("Options:")[0]
    assert {int(number) for number in re.findall(r"\d+", text)} == statuses


@pytest.mark.parametrize(
    ("state", "reason", "status"),
    [
        (RunState.DONE, "final_answer", 0),
        (RunState.CANCELLED, "cancelled", 130),
        (RunState.FAILED, "provider_auth", 6),
        (RunState.FAILED, "provider_not_understood", 6),
        (RunState.FAILED, "limit_turns", 5),
        (RunState.FAILED, "limit_active_s", 124),
        (RunState.FAILED, "approval_expired", 4),
        (RunState.FAILED, "denied", 3),
        (RunState.FAILED, "final_answer_contract", 1),
        (RunState.FAILED, "invalid_argument", 1),
        (RunState.FAILED, "interrupted", 1),
        (RunState.WAITING, "approval", 4),
        (RunState.WAITING, "in_doubt", 7),
        (RunState.WAITING, "interrupted", 75),
        (RunState.QUEUED, "", 75),
        (RunState.RUNNING, "", 75),
    ],
)
def test_the_exit_status_tells_how_a_run_stands(state: RunState, reason: str, status: int) -> None:
    assert of_run(state, reason) == status


@pytest.mark.parametrize("state", [state for state in RunState if state is not RunState.DONE])
def test_only_a_run_that_is_done_ends_in_success(state: RunState) -> None:
    assert of_run(state, "") != 0
