"""`palyra-trio console` makes a link that signs in, and says where there is no daemon."""

import json
import signal
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
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(20) == 0


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
