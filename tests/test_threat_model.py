"""docs/threat-model.md points at tests that exist."""

import ast
import re

import pytest

from tests.processes import ROOT

DOCUMENT = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
CITED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", DOCUMENT)))


@pytest.mark.parametrize(("file", "name"), CITED)
def test_a_test_that_is_cited_exists(file: str, name: str) -> None:
    code = ast.parse((ROOT / file).read_text("utf-8"))
    names = {each.name for each in code.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert any(each.startswith("test_") for each in names)
    assert name in {"", *names}


@pytest.mark.parametrize(
    "threat",
    ["Prompt injection", "symlinks", "DNS rebinding", "fatigue", "Taint", "same user", "Secrets", "providers", "Root"],
)
def test_every_threat_that_is_asked_about_is_answered(threat: str) -> None:
    assert threat in DOCUMENT
    assert len(CITED) > 30
