"""docs/limits.md says what the code says: every limit's value, and every code's statuses."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from palyra_trio.cli.exit_codes import OF_ERROR
from palyra_trio.core.config import Config
from palyra_trio.core.config_values import KEYS, value_of
from palyra_trio.transports.refusals import OF_CODE
from palyra_trio.wire import limits

TEXT = (Path(__file__).parents[1] / "docs/limits.md").read_text("utf-8")
UNITS = {
    "": 1,
    "bytes": 1,
    "characters": 1,
    "Ki characters": 1024,
    "Mi characters": 1024**2,
    "KiB": 1024,
    "MiB": 1024**2,
    "s": 1,
    "min": 60,
    "days": 24 * 3600 * 1000,
}


def table(section: str) -> list[list[str]]:
    """Return the cells of the table in a section."""
    lines = [
        line for line in TEXT.partition(f"## {section}\n")[2].partition("\n## ")[0].splitlines() if line[:1] == "|"
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


LIMITS = table("Limits")


def number(text: str) -> int:
    value, _, unit = text.partition(" ")
    return int(value.replace(",", "")) * UNITS[unit]


def in_code(name: str) -> Any:
    if name in KEYS:
        return value_of(Config(), name)
    module, _, constant = name.rpartition(".")
    if module.startswith("wire.limits."):
        return getattr(getattr(limits, module.rpartition(".")[2])(), constant)
    return getattr(import_module(f"palyra_trio.{module}"), constant)


@pytest.mark.parametrize(("limit", "value", "where", "beyond"), LIMITS, ids=[row[0] for row in LIMITS])
def test_a_limit_is_as_documented(limit: str, value: str, where: str, beyond: str) -> None:
    assert number(value) == in_code(where.strip("`"))
    for code in re.findall(r"`([a-z_]+)`", beyond):
        assert code in OF_CODE or code.startswith("limit_")


def test_every_configured_limit_of_a_run_and_its_inputs_is_documented() -> None:
    bounds = {key for key in KEYS if key.startswith(("limits.", "attachments.", "approval.", "rates."))}
    assert bounds <= {where.strip("`") for _, _, where, _ in LIMITS}


def test_every_code_is_documented_with_its_statuses() -> None:
    documented = {
        code.strip("`"): (grpc, int(http), int(status), int(again or 0))
        for code, _, grpc, http, status, again in table("Codes")
    }
    assert documented == {
        code: (meaning.grpc.name, meaning.http, OF_ERROR[code], meaning.retry_after_s)
        for code, meaning in OF_CODE.items()
    }
