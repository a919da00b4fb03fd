import io
import json

import pytest

from palyra_trio.cli.tables import print_json, print_table, safe_for_stdout

ID = "01HZZZZZZZ0000000000000011"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_for_a_pipe_columns_are_separated_by_tabs_and_each_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("RUN", "TITLE"), [("1", "a\tb\nc"), ("2", "x\x1b[2Jy")])
    assert capsys.readouterr().out == "RUN\tTITLE\n1\ta b ⏎ c\n2\tx\\u001b[2Jy\n"


def test_a_table_without_rows_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("RUN",), [])
    assert capsys.readouterr().out == ""


def test_a_narrow_terminal_cuts_texts_but_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"COLUMNS": "60", "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    print_table(("RUN", "TITLE"), [(ID, "[red]word[/red] " * 20)])
    _, row = screen.getvalue().splitlines()
    assert row.startswith(f"{ID}  [red]word[/red] ")
    assert len(row) <= 60


def test_an_object_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": "ä\n", "none": None})
    out = capsys.readouterr().out
    assert json.loads(out) == {"text": "ä\n", "none": None}
    assert out.count("\n") == 1


def test_an_object_hides_nothing_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    print_json({"text": "\u009b2J\u202e"})
    assert screen.getvalue() == '{"text":"\\u009b2J\\u202e"}\n'


def test_a_pipe_gets_every_byte_and_a_terminal_what_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert safe_for_stdout("a\x1bb") == "a\x1bb"
    monkeypatch.setattr("sys.stdout", Terminal())
    assert safe_for_stdout("a\x1bb") == "a\\u001bb"
