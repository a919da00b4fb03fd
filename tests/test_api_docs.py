"""docs/api.md is true: its worked example is carried out as it stands there, and what it says of limits is the code's."""

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from palyra_trio.cli.open import principal
from palyra_trio.transports.api.reading import KEY_CHARACTERS
from palyra_trio.transports.api.resources import BODY_BYTES
from palyra_trio.transports.api.table import ROUTES
from tests.processes import ROOT
from tests.test_policy_docs import _BLOCK, HOME, Person
from tests.test_policy_docs import session as session_in

DOCUMENT = (ROOT / "docs" / "api.md").read_text("utf-8")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    person = Person(tmp_path)
    person.moves_in()
    yield person
    person.leaves()


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl and jq are not installed")
def test_the_worked_example_prints_what_the_document_says_where_nothing_is_configured(person: Person) -> None:
    port = free_port()
    roots = re.search("^```toml\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert roots is not None
    person.writes(
        "~/.config/palyra-trio/config.toml",
        f"[http]\nport = {port}\n[quic]\nenabled = false\n"
        + roots[1].replace("user:you", principal()).replace(HOME, str(person.home)),
    )
    person.types("palyra-trio serve &")
    compared, said = 0, ""
    for block in _BLOCK.finditer(DOCUMENT):
        for command, output in session_in(block["body"]) if block["kind"] == "console" else ():
            command = command.replace(":7142", f":{port}")
            printed = person.types(f"{said}{command}")
            if command.startswith("export"):
                said = f"{command}; "
            assert printed == output, command
            compared += 1
    assert compared >= 8


def test_every_path_that_the_document_names_is_there() -> None:
    for path in (
        "/runs",
        "/runs/{run}/events",
        "/runs/{run}/tape",
        "/runs/{run}/why",
        "/policy/explain",
        "/runs/stop-all",
        "/runs/{run}/undo",
        "/sessions/{session}/archive",
        "/sessions/{session}/search",
        "/jobs",
        "/jobs/{job}/output",
        "/jobs/{job}/stop",
        "/agents",
        "/tokens",
    ):
        assert f"/api/v1{path}" in {route.path for route in ROUTES}
        named = re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), path)
        assert path.replace("{run}", "last") in DOCUMENT or named in DOCUMENT


def test_its_limits_are_those_of_the_code() -> None:
    assert f"at most {BODY_BYTES // 1024**2} MiB (else 413)" in DOCUMENT
    assert f"1 to {KEY_CHARACTERS} visible ASCII characters" in DOCUMENT
