"""The modules of echo.proto are what the generator writes."""

from pathlib import Path

import pytest

from tests.wire.generate import SOURCE, generate

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["echo_pb2.py", "echo_pb2.pyi", "echo_grpc.py"])
def test_a_generated_module_is_up_to_date(name: str, tmp_path: Path) -> None:
    generate(tmp_path)
    assert (tmp_path / Path(SOURCE).parent / name).read_text("utf-8") == (HERE / name).read_text("utf-8")
