"""An OpenAI-compatible server that this project did not write (fakellm), and a scenario that it plays.

Asked PROMPT, its model lists the files, reads the README.md that it sees, and answers with what the file says. The
rules look at the tool results alone, so whoever runs the tools, a test or the whole program, gets the same answer.
"""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import pytest

MODEL = "gpt-4o-mini"
PROMPT = "What does the readme of this folder say the password of the day is?"
README = "# Notes\n\nThe password of the day is swordfish.\n"
ANSWER = "According to README.md the password of the day is swordfish."
RULES = [
    {"name": "answer", "when": {"tool_result_contains": "is swordfish"}, "respond": {"content": ANSWER}},
    {
        "name": "read",
        "when": {"tool_result_contains": "README.md", "tools_include": "files_read"},
        "respond": {"tool_calls": [{"name": "files_read", "arguments": {"path": "README.md", "max_lines": 20}}]},
    },
    {
        "name": "list",
        "when": {"messages_contain": PROMPT, "tools_include": "files_list"},
        "respond": {"tool_calls": [{"name": "files_list", "arguments": {"path": "."}}]},
    },
]


@attrs.frozen
class ForeignServer:
    base_url: str

    def requests(self) -> list[dict[str, Any]]:
        """Return what the server says it was asked, oldest first: `matched_rule`, `model`, `stream` and more."""
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/_fakellm/stats") as response:
            recent: list[dict[str, Any]] = json.load(response)["recent"]
        return recent[::-1]


@contextmanager
def foreign_server(folder: Path) -> Generator[ForeignServer]:
    """Run the server with RULES, its configuration in `folder`, on a port that the system picks."""
    if find_spec("fakellm") is None:
        pytest.fail("the interop tests need fakellm: pip install -e '.[test]'")
    config = folder / "fakellm.yaml"
    config.write_text(json.dumps({"version": 1, "rules": RULES}))  # JSON is YAML
    command = [sys.executable, "-m", "fakellm.cli", "serve", "--port", "0", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield ForeignServer(_announced(process) + "/v1")
        finally:
            process.terminate()
            process.communicate()


def _announced(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "running on http" in line:
            return "http://" + line.partition("http://")[2].split()[0]
    pytest.fail("the foreign server did not start:\n" + "".join(said))
