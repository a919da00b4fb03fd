"""A page whose stream breaks says so, and goes on by itself where it was: it never shows what is old as if it were live."""

import socket
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import Arrive
from tests.browser.people import PATIENCE_MS, Daemon

HALF = {"deltas": ["Half of a thought"], "hang": True}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_daemon_that_dies_is_told_and_its_pages_go_on_when_it_is_back(tmp_path: Path, arrive: Arrive) -> None:
    daemon = Daemon.below(tmp_path)
    daemon.server.environ["PALYRA_HTTP__PORT"] = str(free_port())
    with daemon.running():
        daemon.define("half", HALF)
        person = arrive(daemon, errors=True)  # that nobody answers is an error on the browser's console
        path = person.start("half", "Begin something")
        person.sees("Half of a thought")
        person.is_live()
        daemon.server.kill()
        expect(person.page.locator("#stream")).to_have_attribute("data-state", "lost")
        expect(person.page.locator("#stream")).to_contain_text("reconnecting")
        daemon.start()
        person.page.wait_for_url("**/sign-in?*", timeout=PATIENCE_MS)  # sessions end with their process
        again = arrive(daemon)
        again.open(path)
        again.sees("Half of a thought")
        again.sees_state("interrupted")


def test_a_stream_that_is_cut_is_told_and_picked_up_where_it_was(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define(
        "cut", {"deltas": [f"word{number} " for number in range(60)], "delta_pause_s": 0.05}, {"text": "End."}
    )
    person = arrive(daemon, errors=True)
    person.start("cut", "Count")
    person.sees("word5 ")
    person.page.context.set_offline(True)
    person.page.evaluate("leave(); listen()")  # a connection that is open stays so while the browser is offline
    expect(person.page.locator("#stream")).to_contain_text("reconnecting")
    held = person.transcript
    assert "word59" not in held
    person.page.context.set_offline(False)
    person.sees("word59")
    person.sees_state("done")
    other = person.tab()
    assert person.transcript == other.transcript
