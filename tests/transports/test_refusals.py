"""Every error code of the program has its statuses, and a client gets the code, the remedy, and when to try again."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpclib.const import Status

import palyra_trio
from palyra_trio.core.errors import Busy, Draining, NotFound, PalyraError
from palyra_trio.transports.refusals import OF_CODE, grpc_error


def subclasses(cls: type[PalyraError]) -> Iterator[type[PalyraError]]:
    yield cls
    for each in cls.__subclasses__():
        yield from subclasses(each)


def every_error() -> list[type[PalyraError]]:
    for module in pkgutil.walk_packages(palyra_trio.__path__, "palyra_trio."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    return [cls for cls in subclasses(PalyraError) if cls.__module__.startswith("palyra_trio.")]


def test_every_error_code_of_the_program_has_its_statuses_and_no_other_has() -> None:
    assert {cls.code for cls in every_error()} == set(OF_CODE)


def test_what_is_busy_may_be_tried_again_and_nothing_else() -> None:
    for cls in every_error():
        assert (OF_CODE[cls.code].retry_after_s > 0) == issubclass(cls, Busy), cls


def test_no_refusal_is_a_success() -> None:
    for meaning in OF_CODE.values():
        assert meaning.grpc is not Status.OK
        assert 400 <= meaning.http < 600


def test_a_status_has_the_code_and_the_remedy_in_its_details() -> None:
    error = grpc_error(NotFound("there is no run X", remedy="see `runs list`"))
    assert (error.status, error.message) == (Status.NOT_FOUND, "there is no run X")
    (info,) = error.details
    assert info == ErrorInfo(reason="not_found", domain="palyra-trio", metadata={"remedy": "see `runs list`"})


def test_without_a_remedy_there_is_none_in_the_details() -> None:
    (info,) = grpc_error(NotFound("there is no run X")).details
    assert dict(info.metadata) == {}


@pytest.mark.parametrize(("error", "seconds"), [(Busy("full"), 1), (Draining("going"), 5)])
def test_a_status_says_after_how_long_to_try_again(error: PalyraError, seconds: int) -> None:
    details = grpc_error(error).details
    assert [type(each) for each in details] == [ErrorInfo, RetryInfo]
    assert details[1].retry_delay.seconds == seconds
