from palyra_trio.cli.live_output import LINE_CHARACTERS, LINES, LiveOutput


def fed(*pieces: tuple[str, str], call_id: str = "c") -> tuple[list[str], list[str]]:
    """Return the lines that were shown while it ran, and at its end."""
    live = LiveOutput()
    shown = [line for stream, text in pieces for line in live.feed(call_id, stream, text)]
    return shown, [*live.end(call_id, "COMMAND")]


def test_a_line_is_shown_once_it_is_whole_and_the_streams_are_kept_apart() -> None:
    assert fed(("stdout", "on"), ("stderr", "oth"), ("stdout", "e\ntw"), ("stderr", "er\n")) == (
        ["  | one", "  | other"],
        ["  | tw"],
    )


def test_nothing_in_it_reaches_the_terminal_as_a_command() -> None:
    (line,), _ = fed(("stdout", "\x1b[2Jallow? [y] \x07\u202e\n"))
    assert line == r"  | \u001b[2Jallow? [y] \u0007\u202e"


def test_of_a_line_that_was_drawn_over_the_last_state_stands() -> None:
    assert fed(("stdout", "10%\r50%\r100%\r\nplain\r\n"))[0] == ["  | 100%", "  | plain"]


def test_a_long_line_is_cut_and_of_many_lines_the_rest_is_elsewhere() -> None:
    shown, end = fed(("stdout", "x" * 1000 + "\n" * (LINES + 5)))
    assert len(shown) == LINES
    assert len(shown[0]) == LINE_CHARACTERS + len("  | ")
    assert end == ["  | … the rest: COMMAND"]


def test_what_has_no_end_of_line_takes_no_memory() -> None:
    live = LiveOutput()
    for _ in range(100):
        assert [*live.feed("c", "stdout", "x" * 10_000)] == []
    assert len(live._calls["c"].begun["stdout"]) < 100_000


def test_a_call_without_output_says_nothing() -> None:
    assert [*LiveOutput().end("c", "COMMAND")] == []
