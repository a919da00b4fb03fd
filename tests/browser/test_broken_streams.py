"""A page whose stream breaks says so, and goes on by itself where it was: it never shows what is old as if it were live."""

import signal
import socket
from pathlib import Path

from playwright.sync_api import FilePayload, expect

from tests.browser.conftest import Arrive
from tests.browser.people import PATIENCE_MS, Daemon

HALF = {"deltas": ["Half of a thought"], "hang": True}

THREE_BEATS = """new Promise((heard, missed) => {
  let beats = 0;
  source.addEventListener("beat", () => { if (++beats === 3) heard(); });
  setTimeout(missed, 20000);
})"""


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
        person.click("Stop")
        expect(person.page.get_by_role("alert")).to_contain_text("not known whether that was done")
        person.page.get_by_label("Message").fill("What I was about to say")
        daemon.start()
        person.page.wait_for_url("**/sign-in?*", timeout=PATIENCE_MS)  # sessions end with their process
        person.sees("The daemon was restarted, or you were signed out.")
        token = daemon.server.authorization.removeprefix("Bearer ")
        person.page.get_by_label("Or paste an access token").fill(token)
        person.click("Sign in")
        person.page.wait_for_url(f"**{path}")
        person.sees("Half of a thought")
        person.sees_state("interrupted")
        expect(person.page.get_by_label("Message")).to_have_value("What I was about to say")
        person.page.reload()
        expect(person.page.get_by_label("Message")).to_have_value("")


def test_a_daemon_that_stalls_is_told_and_its_page_goes_on_from_the_last_place(tmp_path: Path, arrive: Arrive) -> None:
    with Daemon.below(tmp_path).running() as daemon:
        daemon.define("half", HALF)
        person = arrive(daemon, errors=True)
        person.start("half", "Begin something")
        person.sees("Half of a thought")
        person.is_live()
        assert daemon.server.process is not None
        daemon.server.process.send_signal(signal.SIGSTOP)
        expect(person.page.locator("#stream")).to_have_text("not live: reconnecting", timeout=2 * PATIENCE_MS)
        person.page.evaluate("htmx.config.timeout = 500")
        person.click("Stop")
        expect(person.page.get_by_role("alert")).to_contain_text("The daemon does not answer")
        daemon.server.process.send_signal(signal.SIGCONT)
        person.is_live()
        person.page.get_by_label("Message").fill("Go on")  # whether it was stopped is not known here either
        person.click("Send")
        person.sees("Go on")
        expect(person.page.get_by_role("alert")).to_have_text("")


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


def test_a_page_on_which_nothing_happens_stays_live(daemon: Daemon, arrive: Arrive) -> None:
    person = arrive(daemon)
    person.is_live()
    person.page.evaluate(THREE_BEATS)  # of one connection, which a page that missed them would have left
    person.is_live()


def test_files_that_take_their_time_are_not_given_up_while_they_are_sent(daemon: Daemon, arrive: Arrive) -> None:
    daemon.define("reads-slowly", {"text": "Yes."})
    person = arrive(daemon)
    person.page.get_by_label("What the agent is to do").fill("Read this")
    person.page.get_by_label("In the folder").fill(str(daemon.folder))
    person.page.get_by_label("Agent", exact=True).select_option("reads-slowly")
    person.click(person.page.locator(".start .with > summary"))
    file: FilePayload = {"name": "long.txt", "mimeType": "text/plain", "buffer": b"x" * 200_000}
    person.page.get_by_label("Files to send along").set_input_files([file])
    person.page.evaluate("htmx.config.timeout = 1000")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 50_000}
    person.page.context.new_cdp_session(person.page).send("Network.emulateNetworkConditions", slow)
    person.click("Start")
    person.page.wait_for_url("**/sessions/*")
    person.sees("Read this")
