"""`palyra-trio console` makes a link that signs in, and says where there is no daemon."""

import json
import re
import signal
import stat
import urllib.request
from urllib.parse import urlsplit

from tests.cli.conftest import Shell


def test_a_link_leads_to_the_console_of_the_daemon(shell: Shell) -> None:
    environ = {"PALYRA_HTTP__ENABLED": "true", "PALYRA_HTTP__PORT": "0"}
    with shell.process("serve", "--port", "0", environ=environ) as daemon:
        assert daemon.stdout is not None
        address = daemon.stdout.readline().split()[-1]
        done = shell.run("console", "--print")
        url = done.stdout.strip()
        assert url.startswith(f"{address}/sign-in?link=")
        with urllib.request.urlopen(url) as page:
            assert b"This link signs in this browser, once." in page.read()
        shown = json.loads(shell.run("console", "--json").stdout)
        assert urlsplit(shown["url"]).netloc == urlsplit(address).netloc
        assert shown["url"] != url
        assert shell.run("console").stdout.startswith(address)  # there is no screen here to open it on
        opened_in_a_browser(shell, address)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(20) == 0


def opened_in_a_browser(shell: Shell, address: str) -> None:
    """Check that the link is in no browser's arguments, and that what is there leads to it."""
    browser, told = shell.root / "browser", shell.root / "told"
    browser.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {told}\n')
    browser.chmod(0o755)
    done = shell.run("console", environ={"DISPLAY": ":0", "BROWSER": f"{browser} %s"})
    assert (done.returncode, done.stdout) == (0, "")
    (started_with,) = told.read_text().splitlines()
    assert started_with == (shell.state_dir / "console.html").as_uri()
    file = shell.state_dir / "console.html"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (url,) = re.findall('href="([^"]+)"', file.read_text())
    assert f"url={url}" in file.read_text()
    assert url.startswith(f"{address}/sign-in?link=")
    with urllib.request.urlopen(url) as page:
        assert b"This link signs in this browser, once." in page.read()


def test_a_daemon_without_a_console_says_how_to_get_one(shell: Shell) -> None:
    with shell.process("serve", "--port", "0") as daemon:
        assert daemon.stdout is not None
        assert "http:" not in daemon.stdout.readline()
        done = shell.run("console", "--print")
        assert done.returncode != 0
        assert "http.enabled" in done.stderr


def test_without_a_daemon_there_is_no_link(shell: Shell) -> None:
    done = shell.run("console", "--print")
    assert done.returncode == 69
    assert done.stdout == ""
