"""Requests of another site, or by another name, are refused; nobody is sent elsewhere."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra_trio.core.errors import PolicyError
from palyra_trio.transports.console.security import Hosts, check_origin, is_loopback, local_path


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:7142", "localhost:9000", "LOCALHOST", "[::1]", "[::1]:7142", "agents.example.org:443"],
)
def test_names_of_ours_are_let_in_whatever_the_port(host: str) -> None:
    Hosts(["agents.example.org"]).check(host)


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:7142",
        "evil.example@127.0.0.1",
        "127.0.0.1/",
        "127.0.0.1:",
        "127.0.0.1:7142, evil.example",
        "2130706433",
        "[::1",
        "::1",
        "[::2]:7142",
        "0.0.0.0:7142",
    ],
)
def test_a_name_that_is_not_ours_is_refused(host: str | None) -> None:
    with pytest.raises(PolicyError):
        Hosts(["agents.example.org"]).check(host)


def test_a_write_of_one_of_our_pages_is_let_in() -> None:
    check_origin("http", "localhost:7142", "http://localhost:7142", "same-origin")
    check_origin("https", "agents.example.org", "https://agents.example.org", None)


@pytest.mark.parametrize(
    ("origin", "fetch_site"),
    [
        (None, None),
        (None, "none"),
        ("null", "same-origin"),
        ("http://localhost:7142", "same-site"),
        ("http://localhost:7142", "cross-site"),
        ("http://localhost:7142", "none"),
        ("https://localhost:7142", "same-origin"),
        ("http://localhost:7143", "same-site"),
        ("http://localhost", "same-origin"),
        ("http://127.0.0.1:7142", "cross-site"),
        ("http://evil.example", None),
    ],
)
def test_a_write_of_another_site_or_of_no_page_is_refused(origin: str | None, fetch_site: str | None) -> None:
    with pytest.raises(PolicyError):
        check_origin("http", "localhost:7142", origin, fetch_site)


@pytest.mark.parametrize("path", ["/", "/sessions/01J?before=01K#run-01M", "/a//b", "/?next=http://evil.example"])
def test_a_path_of_this_site_is_kept(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "target",
    ["", "sessions", "//evil.example", "///evil.example", "/\\evil.example", "http://evil.example", "javascript:alert(1)",
     "\\\\evil.example", "/\t/evil.example", "/\n/evil.example", "/\r\nSet-Cookie: a=b", " //evil.example"],
)  # fmt: skip
def test_anything_else_leads_to_the_overview(target: str) -> None:
    assert local_path(target) == "/"


@given(st.text(alphabet="/\\.:@ \t\nabcdhpt?#%", max_size=20))
def test_no_target_leads_to_another_site(target: str) -> None:
    there = urlsplit(urljoin("http://127.0.0.1:7142/sign-in", local_path(target)))
    assert (there.scheme, there.netloc) == ("http", "127.0.0.1:7142")


@pytest.mark.parametrize(
    ("host", "near"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.2", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_only_loopback_is_this_machine_alone(host: str, near: bool) -> None:
    assert is_loopback(host) is near
