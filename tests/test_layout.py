"""The shape of the package: what every module has, what may import what, and what `--help` must not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "palyra_trio"
GENERATED = PACKAGE / "pb"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.parent != GENERATED)
MAX_LINES = 400
# Modules with nothing to test: the package's doors, and vocabularies of plain data and protocols.
WITHOUT_A_TEST = {Path("__main__.py"), Path("core/commands.py"), Path("tools/session_jobs.py")}
TOO_VAGUE = {"utils", "util", "common", "helpers", "misc"}

HELP = """
import sys
from palyra_trio.cli.main import main
sys.argv = ["palyra-trio", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
loaded = {"trio", "httpx2", "rich"} & sys.modules.keys()
sys.exit(f"--help loads {', '.join(sorted(loaded))}" if loaded else 0)
"""

every_module = pytest.mark.parametrize("module", MODULES, ids=str)


@every_module
def test_a_module_says_what_it_is(module: Path) -> None:
    assert ast.get_docstring(ast.parse((PACKAGE / module).read_text("utf-8")))


@every_module
def test_a_module_holds_one_idea(module: Path) -> None:
    assert len((PACKAGE / module).read_text("utf-8").splitlines()) <= MAX_LINES
    assert not TOO_VAGUE & {module.stem, *module.parent.parts}


@pytest.mark.parametrize(
    "module", [each for each in MODULES if each.name != "__init__.py" and each not in WITHOUT_A_TEST], ids=str
)
def test_a_module_has_its_test(module: Path) -> None:
    assert (ROOT / "tests" / module.with_name(f"test_{module.name}")).is_file()


def test_a_module_without_a_test_exists() -> None:
    assert set(MODULES) >= WITHOUT_A_TEST


def test_imports_point_down() -> None:
    check = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True, no_logo=True))"
    run = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_help_loads_no_more_than_it_needs() -> None:
    run = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("Usage:")
