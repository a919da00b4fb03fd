"""Generate the Python modules of `palyra/gateway/v1` into a folder: messages, their stubs, and grpclib's services.

Run by `just proto`, for `palyra_trio/pb`. The modules of all files lie side by side there, so the imports that protoc
writes are rewritten: `palyra.gateway.v1` is a Protobuf package and no Python one.
"""

import re
import sys
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from grpc_tools import protoc

HERE = Path(__file__).parent
FOLDER = Path("palyra/gateway/v1")
PYTHON_PACKAGE = "palyra_trio.pb"
# A Python module's name, but not the name of a service, which ends otherwise.
_MODULE = re.compile(r"(?<![/.\w'])palyra\.gateway\.v1(?= import \w+_pb2|\.\w+_pb2)")


def generate(into: Path) -> None:
    """Write the modules of all definitions into the folder `into`, which exists. Raises SystemExit when protoc fails."""
    sources = sorted(str(path.relative_to(HERE)) for path in (HERE / FOLDER).glob("*.proto"))
    with TemporaryDirectory() as folder:
        arguments = [
            f"--proto_path={HERE}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--plugin=protoc-gen-grpclib_python={Path(sys.executable).with_name('protoc-gen-grpclib_python')}",
            *(f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpclib_python")),
        ]
        if status := protoc.main(["protoc", *arguments, *sources]):
            raise SystemExit(status)
        for module in sorted(Path(folder, FOLDER).iterdir()):
            text = module.read_text("utf-8")
            if module.name.endswith("_grpc.py") and "class " not in text:
                continue  # a file without services
            (into / module.name).write_text(_MODULE.sub(PYTHON_PACKAGE, text), "utf-8")


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
