import pytest

from palyra_trio.core.errors import InvalidArgument, PolicyError
from palyra_trio.tools.egress import parse_url
from palyra_trio.tools.fetch_request import Answer, Request, redirection, same_site

GET = Request("GET", {"accept": "*/*"})
POST = Request("POST", {"content-type": "text/plain", "accept": "*/*"}, b"ping")
HERE = parse_url("https://site.example/a/b?c=d")


def sent_to(location: str | None, status: int = 302) -> Answer:
    return Answer(status, {} if location is None else {"location": location})


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/x", "https://site.example/x"),
        ("x?y#z", "https://site.example/a/x?y"),
        ("//other.example/x", "https://other.example/x"),
        ("https://other.example:8443", "https://other.example:8443/"),
        ("?q", "https://site.example/a/b?q"),
        ("/ö", "https://site.example/%C3%B6"),
    ],
)
def test_a_location_is_relative_to_where_it_came_from(location: str, url: str) -> None:
    found = redirection(HERE, GET, sent_to(location))
    assert found is not None
    assert found[0].url == url


@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
def test_a_post_stays_one_only_where_the_status_says_so(status: int, method: str) -> None:
    found = redirection(HERE, POST, sent_to("/x", status))
    assert found is not None
    onward = found[1]
    assert onward.method == method
    assert bool(onward.body) == ("content-type" in onward.headers) == (method == "POST")
    assert onward.headers["accept"] == "*/*"


@pytest.mark.parametrize("said", [sent_to(None), sent_to("/x", 200), sent_to("/x", 300), sent_to("/x", 304)])
def test_what_is_no_redirect_leads_nowhere(said: Answer) -> None:
    assert redirection(HERE, GET, said) is None


@pytest.mark.parametrize("location", ["http://site.example/", "http://other.example/"])
def test_the_way_back_to_plain_http_is_refused(location: str) -> None:
    with pytest.raises(PolicyError, match="refused as redirect_downgrade: "):
        redirection(HERE, GET, sent_to(location))


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("javascript:alert(1)", InvalidArgument),
        ("file:///etc/passwd", InvalidArgument),
        ("https://user:password@site.example/", PolicyError),
        ("https://site.example:22/", PolicyError),
    ],
)
def test_a_location_that_is_no_place_is_refused(location: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        redirection(HERE, GET, sent_to(location))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example/", "https://a.example/x", True),
        ("http://a.example/", "https://a.example/", True),
        ("http://a.example:8080/", "https://a.example:8080/", True),
        ("https://a.example/", "https://a.example:8443/", False),
        ("http://a.example:8080/", "https://a.example/", False),
        ("https://a.example/", "https://www.a.example/", False),
        ("https://a.example/", "https://8.8.8.8/", False),
    ],
)
def test_a_site_is_one_host_and_port(one: str, other: str, same: bool) -> None:
    assert same_site(parse_url(one), parse_url(other)) == same
