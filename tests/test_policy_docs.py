"""docs/policy.md is true: its worked example is carried out as it stands there, and what it says of the model is the schema's."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from palyra_trio.cli.open import principal
from palyra_trio.core.policy import PolicyRules, Preset
from palyra_trio.guard.presets import schema_text
from tests.processes import PATIENCE_S, ROOT

DOCUMENT = (ROOT / "docs" / "policy.md").read_text("utf-8")
HOME = "/home/you"
_BLOCK = re.compile(r"^```(?P<kind>console|sh|[a-z]+ file=(?P<file>\S+))\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_VARIES = (
    (re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b"), "HASH"),
    (re.compile(r"\b\d+ ms\b"), "MS"),
    (re.compile(r"\bprocess \d+\b"), "PROCESS"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d( UTC| [+-]\d{4})"), "MOMENT"),
    (re.compile(r"\b1\d{9}\b"), "SECONDS"),
    (re.compile(r"[ \t]+"), " "),
)


@attrs.frozen
class Person:
    """A person in a home of their own, in the folder `project`, who types what the document says."""

    home: Path

    @property
    def project(self) -> Path:
        return self.home / "project"

    @property
    def environment(self) -> dict[str, str]:
        own = {"HOME": str(self.home), "PYTHONPATH": str(ROOT), "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}"}
        return {**own, "LANG": "C.UTF-8", "PALYRA_GRPC__PORT": "0"}

    def moves_in(self) -> None:
        program = self.home / "bin" / "palyra-trio"
        for folder in (self.project, program.parent):
            folder.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m palyra_trio "$@"\n')
        program.chmod(0o700)

    def writes(self, file: str, text: str) -> None:
        path = Path(file.replace("~", str(self.home), 1)) if file.startswith("~") else self.project / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def types(self, command: str) -> str:
        """Return what a shell prints; what is started with `&` goes on."""
        if command.endswith("&"):
            command = f"{command[:-1]} >/dev/null 2>&1 & echo $! >> {self.home}/started; palyra-trio status --wait 20"
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return done.stdout.replace(str(self.home), HOME).replace(principal(), "user:you")

    def leaves(self) -> None:
        started = self.home / "started"
        for pid in started.read_text().split() if started.exists() else ():
            os.kill(int(pid), 15)


def session(body: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a block, and the output that is printed below it."""
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def steady(text: str) -> str:
    """Return the text without what differs from time to time."""
    for pattern, word in _VARIES:
        text = pattern.sub(word, text)
    return "\n".join(line.strip() for line in text.splitlines())


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    person = Person(tmp_path)
    person.moves_in()
    yield person
    person.leaves()


def test_the_worked_example_prints_what_the_document_says(person: Person) -> None:
    compared = 0
    for block in _BLOCK.finditer(DOCUMENT):
        if block["file"]:
            person.writes(block["file"], block["body"])
            continue
        for command, output in session(block["body"]):
            printed = person.types(command)
            if block["kind"] == "console":
                assert steady(printed) == steady(output), command
                compared += 1
    assert compared >= 15


def test_the_worked_example_runs_through_every_command() -> None:
    from palyra_trio.cli.policy import policy
    from palyra_trio.cli.tools import tools

    typed = "".join(block["body"] for block in _BLOCK.finditer(DOCUMENT) if not block["file"])
    for group in (policy, tools):
        for name in group.commands:
            assert f"palyra-trio {group.name} {name}" in typed


def test_every_type_and_attribute_of_the_schema_is_described() -> None:
    code = re.sub(r"//.*", "", schema_text())
    names = {
        *re.findall(r"^\s+(?!principal|resource|context)(\w+): ", code, re.MULTILINE),
        *re.findall(r'"([a-z]+\.[a-z]+)"', code),
    }
    names |= set(re.findall(r"entity (\w+)", code))
    assert {"tainted", "now_s", "net.fetch", "ToolSet"} <= names
    missing = [name for name in sorted(names) if f"`{name}" not in DOCUMENT]
    assert missing == []


def test_every_preset_and_key_of_the_configuration_is_described() -> None:
    for name in (*Preset, *(f"policy.{field.name}" for field in attrs.fields(PolicyRules))):
        assert f"`{name}`" in DOCUMENT
