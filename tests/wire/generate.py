"""Generate the modules of echo.proto beside it: `python -m tests.wire.generate`."""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parents[2]
SOURCE = "tests/wire/echo.proto"


def generate(into: Path) -> None:
    """Write `tests/wire/echo_*` below the folder `into`. Raises SystemExit when protoc fails."""
    plugin = Path(sys.executable).with_name("protoc-gen-grpclib_python")
    kinds = ("python", "pyi", "grpclib_python")
    outs = [f"--{kind}_out={into}" for kind in kinds]
    paths = [f"--proto_path={ROOT}", f"--proto_path={files('grpc_tools') / '_proto'}"]
    if status := protoc.main(["protoc", *paths, f"--plugin=protoc-gen-grpclib_python={plugin}", *outs, SOURCE]):
        raise SystemExit(status)


if __name__ == "__main__":
    generate(ROOT)
