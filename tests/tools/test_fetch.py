import gzip
import ssl
from typing import Any

import pytest
import trio
import trustme

from palyra_trio.core.errors import InvalidArgument, PeerError, PolicyError
from palyra_trio.core.policy import HostResource
from palyra_trio.tools.egress import Egress
from palyra_trio.tools.fetch import MAX_BODY_BYTES, MAX_BYTES, MAX_REDIRECTS, FetchPlan, fetch_tools
from palyra_trio.tools.registry import Registry, ToolContext, ToolResult
from tests.tools.fake_site import Names, Site, answer, egress_to, redirect

CONTEXT = ToolContext(workspace=None, now=lambda: 0.0)  # type: ignore[arg-type]  # no file is touched


class Fetch:
    """Calls the tools as the runtime does, with `site.example` on loopback; keeps what was looked up."""

    def __init__(self, names: Names | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.names = names or Names(site_example=[("127.0.0.1",)])
        self._registry = Registry(fetch_tools(egress_to(self.names), (lambda: tls) if tls else None))

    async def plan(self, tool: str, **arguments: Any) -> FetchPlan:
        found = self._registry.get(tool)
        plan = await found.plan(found.spec.parse(arguments), CONTEXT)
        assert isinstance(plan, FetchPlan)
        return plan

    async def __call__(self, tool: str, **arguments: Any) -> ToolResult:
        plan = await self.plan(tool, **arguments)
        found = self._registry.get(tool)
        return await found.run(found.spec.parse(arguments), CONTEXT, plan)

    async def get(self, site: Site, path: str = "/", **arguments: Any) -> ToolResult:
        return await self("fetch.get", url=f"http://site.example:{site.port}{path}", **arguments)


async def said(nursery: trio.Nursery, *answers: bytes, **arguments: Any) -> ToolResult:
    site = await Site(list(answers)).start(nursery)
    return await Fetch().get(site, **arguments)


# --- what is declared, planned and shown ---


def test_reading_and_changing_are_two_tools() -> None:
    get, post = (tool.spec for tool in fetch_tools())
    assert get.capability == post.capability == "net.fetch"
    assert (get.risk, get.read_only, get.idempotent, get.untrusted_output) == ("medium", True, True, True)
    assert (post.risk, post.read_only, post.idempotent, post.untrusted_output) == ("high", False, False, True)


async def test_the_plan_names_the_host_for_the_gate() -> None:
    fetch = Fetch(Names(site_example=[("8.8.8.8", "2001:4860:4860::8888")]))
    plan = await fetch.plan("fetch.get", url="https://SITE.example/x?y#z")
    assert plan.resources == (HostResource("site.example", 443, "https", "GET", "public"),)
    assert plan.preview.startswith("GET https://site.example/x?y\n")
    assert [str(address) for address in plan.addresses] == ["8.8.8.8", "2001:4860:4860::8888"]


async def test_what_is_shown_stays_the_same_when_a_name_moves() -> None:
    fetch = Fetch(Names(site_example=[("8.8.8.8",), ("8.8.4.4", "8.8.8.8")]))
    first, second = [await fetch.plan("fetch.get", url="https://site.example/") for _ in range(2)]
    assert first.addresses != second.addresses
    assert (first.preview, first.resources) == (second.preview, second.resources)


async def test_the_plan_shows_all_that_is_sent() -> None:
    plan = await Fetch(Names(**{"xn--80ak6aa92e_com": [("8.8.8.8",)]})).plan(
        "fetch.post",
        url="http://аррӏе.com:8080/",
        body="one\ntwo é",
        content_type="text/plain; charset=utf-8",
        headers={"Accept-Language": "de"},
    )
    assert plan.preview == (
        "POST http://xn--80ak6aa92e.com:8080/\nhost, in its own script: аррӏе.com\n"
        "user-agent: palyra-trio/0.1.0\naccept-encoding: gzip\naccept: */*\naccept-language: de\n"
        "content-type: text/plain; charset=utf-8\nbody, 10 bytes:\none\ntwo é"
    )
    assert plan.resources == (HostResource("xn--80ak6aa92e.com", 8080, "http", "POST", "public"),)


async def test_what_was_shown_is_what_is_sent(nursery: trio.Nursery) -> None:
    site = await Site([answer()]).start(nursery)
    url = f"http://site.example:{site.port}/x"
    await Fetch()("fetch.post", url=url, body='{"a": 1}', headers={"ACCEPT": "text/html"})
    head, _, body = site.requests[0].decode().partition("\r\n\r\n")
    assert head.split("\r\n") == [
        "POST /x HTTP/1.1",
        f"host: site.example:{site.port}",
        "user-agent: palyra-trio/0.1.0",
        "accept-encoding: gzip",
        "accept: text/html",
        "content-type: application/json",
        "content-length: 8",
    ]
    assert body == '{"a": 1}'


@pytest.mark.parametrize(
    "name",
    ["Authorization", "cookie", "Host", "Content-Length", "Transfer-Encoding", "Connection", "X-Forwarded-For", "a b"],
)
async def test_a_header_that_could_carry_a_secret_or_another_request_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match="refused as header: "):
        await Fetch().plan("fetch.get", url="https://site.example/", headers={name: "x"})


@pytest.mark.parametrize("value", ["x\r\ncookie: a", "x\ny", "x\0", "", " x", "é", "x\u2028", "x" * 1025])
async def test_a_header_value_that_is_more_than_a_line_is_refused(value: str) -> None:
    with pytest.raises(PolicyError, match="refused as header: "):
        await Fetch().plan("fetch.get", url="https://site.example/", headers={"accept": value})


@pytest.mark.parametrize(
    "content_type", ["json", "text/plain\r\nhost: x", "a/b; c=d; e", "", "text/plain" + "x" * 1024]
)
async def test_a_content_type_that_is_none_is_refused(content_type: str) -> None:
    with pytest.raises(PolicyError, match="refused as header: "):
        await Fetch().plan("fetch.post", url="https://site.example/", body="", content_type=content_type)


async def test_a_body_too_long_to_be_shown_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="the body has 65537 bytes"):
        await Fetch().plan("fetch.post", url="https://site.example/", body="x" * (MAX_BODY_BYTES + 1))


# --- where it may go ---


async def test_a_name_that_leads_inside_is_refused_before_anything_is_sent(nursery: trio.Nursery) -> None:
    site = await Site([answer()]).start(nursery)
    fetch = Fetch(Names(site_example=[("127.0.0.1", "10.0.0.1")]))
    with pytest.raises(PolicyError, match=r"refused as private: site\.example stands for 10\.0\.0\.1"):
        await fetch.get(site)
    assert site.requests == []


async def test_loopback_is_refused_unless_the_way_out_was_made_otherwise() -> None:
    get, _ = fetch_tools(Egress(Names(site_example=[("127.0.0.1",)]).resolve))
    with pytest.raises(PolicyError, match="refused as loopback: "):
        await get.plan(get.spec.parse({"url": "http://site.example/"}), CONTEXT)
    get, _ = fetch_tools()
    with pytest.raises(PolicyError, match="refused as loopback: "):
        await get.plan(get.spec.parse({"url": "http://127.0.0.1/"}), CONTEXT)


async def test_a_name_that_changes_its_mind_is_not_asked_again(nursery: trio.Nursery) -> None:
    site = await Site([redirect("/again"), answer(b"still here")]).start(nursery)
    fetch = Fetch(Names(site_example=[("127.0.0.1",), ("127.0.0.2",)]))
    result = await fetch.get(site)
    assert result.text.endswith("still here")
    assert fetch.names.asked == ["site.example"]


async def test_a_redirect_to_a_name_that_changed_its_mind_is_refused(nursery: trio.Nursery) -> None:
    site = await Site([]).start(nursery)
    site.answers.append(redirect(f"http://other.example:{site.port}/"))
    fetch = Fetch(Names(site_example=[("127.0.0.1",)], other_example=[("8.8.8.8",), ("192.168.0.1",)]))
    await fetch.plan("fetch.get", url="http://other.example/")
    with pytest.raises(PolicyError, match=r"refused as private: other\.example stands for 192\.168\.0\.1"):
        await fetch.get(site)
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.2/", "loopback"),
        ("http://0x7f.2/", "loopback"),
        ("http://[::1]/", "loopback"),
        ("http://169.254.169.254/latest/", "metadata"),
        ("http://[::ffff:a9fe:a9fe]/", "embedded_v4"),
        ("//10.0.0.1/", "private"),
        ("http://inside.example/", "private"),
        ("http://8.8.8.8/", "redirect_elsewhere"),
        ("http://public.example/", "redirect_elsewhere"),
        ("http://site.example:9999/", "redirect_elsewhere"),
        ("https://user@site.example/", "userinfo"),
    ],
)
async def test_a_redirect_elsewhere_is_refused_by_name(nursery: trio.Nursery, location: str, reason: str) -> None:
    site = await Site([redirect(location)]).start(nursery)
    names = Names(site_example=[("127.0.0.1",)], inside_example=[("10.0.0.1",)], public_example=[("8.8.8.8",)])
    with pytest.raises(PolicyError, match=f"refused as {reason}: "):
        await Fetch(names).get(site)
    assert len(site.requests) == 1


async def test_a_redirect_to_another_host_tells_where_to_ask(nursery: trio.Nursery) -> None:
    site = await Site([redirect("https://public.example/x")]).start(nursery)
    fetch = Fetch(Names(site_example=[("127.0.0.1",)], public_example=[("8.8.8.8",)]))
    with pytest.raises(PolicyError, match=r"redirects to https://public\.example/x.*fetch that URL itself"):
        await fetch.get(site)


async def test_redirects_on_the_same_site_are_followed_so_far(nursery: trio.Nursery) -> None:
    hops = [redirect(f"/{number}") for number in range(MAX_REDIRECTS)]
    site = await Site([*hops, answer(b"there")]).start(nursery)
    result = await Fetch().get(site)
    assert result.text.startswith(f"200 OK from http://site.example:{site.port}/4 (")
    site = await Site([*hops, redirect("/more")]).start(nursery)
    with pytest.raises(PolicyError, match=r"refused as redirect_loop: .* more than 5 times"):
        await Fetch().get(site)
    assert len(site.requests) == MAX_REDIRECTS + 1


async def test_a_post_that_is_sent_on_becomes_a_get(nursery: trio.Nursery) -> None:
    site = await Site([redirect("/done", "303 See Other"), answer(b"done")]).start(nursery)
    await Fetch()("fetch.post", url=f"http://site.example:{site.port}/", body="x")
    assert site.requests[1].startswith(b"GET /done HTTP/1.1\r\n")
    assert b"content-" not in site.requests[1]


async def test_https_is_spoken_with_the_name_and_does_not_go_back(nursery: trio.Nursery) -> None:
    ca = trustme.CA()
    serving, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    ca.issue_cert("site.example").configure_cert(serving)
    ca.configure_trust(trusting)
    site = await Site([answer(b"safe"), redirect("http://site.example/")], tls=serving).start(nursery)
    fetch, url = Fetch(tls=trusting), f"https://site.example:{site.port}/"
    assert (await fetch("fetch.get", url=url)).text.endswith("safe")
    with pytest.raises(PolicyError, match="refused as redirect_downgrade: "):
        await fetch("fetch.get", url=url)


async def test_the_machines_own_trust_store_is_the_default(nursery: trio.Nursery) -> None:
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("site.example").configure_cert(serving)
    site = await Site([answer(b"")], tls=serving).start(nursery)
    with pytest.raises(PeerError, match="certificate verify failed"):
        await Fetch()("fetch.get", url=f"https://site.example:{site.port}/")


async def test_the_environment_has_no_say(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert (await said(nursery, answer(b"direct"))).text.endswith("direct")


async def test_no_cookie_is_kept(nursery: trio.Nursery) -> None:
    site = await Site([redirect("/x")[:-2] + b"set-cookie: a=b\r\n\r\n", answer(b"x")]).start(nursery)
    await Fetch().get(site)
    assert b"cookie" not in site.requests[1].lower()


# --- what comes back ---


async def test_text_comes_with_what_it_is(nursery: trio.Nursery) -> None:
    site = await Site([answer(b'{"a": 1}', "application/json")]).start(nursery)
    result = await Fetch().get(site, "/x")
    assert result == ToolResult(
        f'200 OK from http://site.example:{site.port}/x (application/json, utf-8, 8 bytes)\n\n{{"a": 1}}'
    )


async def test_a_page_comes_as_markdown_with_absolute_links(nursery: trio.Nursery) -> None:
    page = b"<title>T</title><h1>Head</h1><a href=more>more</a><script>x</script><p hidden>obey</p>"
    site = await Site([redirect("/docs/"), answer(page, "text/html; charset=utf-8")]).start(nursery)
    result = await Fetch().get(site)
    head, _, text = result.text.partition("\n\n")
    assert head.splitlines()[1:] == [
        "note: about 6 characters that the page hides from people were left out",
        "title: T",
    ]
    assert text == f"# Head\n\n[more](http://site.example:{site.port}/docs/more)\n"


@pytest.mark.parametrize("status", ["404 Not Found", "500 Internal Server Error", "799 Odd"])
async def test_a_failure_of_the_site_is_an_error_with_its_text(nursery: trio.Nursery, status: str) -> None:
    result = await said(nursery, answer(b"why", status=status))
    assert result.error == "http_status"
    assert result.text.startswith(status if "Odd" not in status else "799 from")
    assert result.text.endswith("\n\nwhy")


async def test_an_empty_answer_needs_no_type(nursery: trio.Nursery) -> None:
    result = await said(nursery, answer(status="204 No Content", content_type=""))
    assert result.error == ""
    assert result.text.startswith("204 No Content from ")


@pytest.mark.parametrize(
    ("sent", "reason", "words"),
    [
        (answer(b"\x89PNG", "image/png"), "content_type", "it is image/png, of 4 bytes"),
        (answer(b"%PDF", "application/pdf"), "content_type", "it is application/pdf, of 4 bytes"),
        (answer(b"x", ""), "content_type", "it is application/octet-stream, of 1 bytes"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n\x89PNG",
            "content_type",
            "it is image/png, of a size that is not said",
        ),
        (answer(b"a\0b", "text/plain"), "content_type", "it is no text, though it is called text/plain"),
        (answer(b"x", content_encoding="br"), "content_encoding", "it is packed as br"),
        (answer(b"x", content_encoding="gzip, gzip"), "content_encoding", "it is packed as gzip, gzip"),
        (answer(b"xx", content_encoding="gzip"), "content_encoding", "it is no valid gzip"),
        (answer(gzip.compress(b"xx")[:-9], content_encoding="x-gzip"), "content_encoding", "its gzip breaks off"),
        (
            answer(b"<blockquote>" * 250 + b"x<br>" * 150_000, "text/html"),
            "page",
            "it cannot be read within the bounds",
        ),
    ],
)
async def test_what_is_not_text_is_refused_by_name(nursery: trio.Nursery, sent: bytes, reason: str, words: str) -> None:
    result = await said(nursery, sent)
    assert result.error == reason
    assert result.text.startswith(f"refused as {reason}: ")
    assert words in result.text


async def test_a_long_answer_is_cut_and_said_to_be(nursery: trio.Nursery) -> None:
    result = await said(nursery, answer(b"0123456789"), max_bytes=4)
    assert result.text.splitlines()[1:] == ["note: cut after 4 bytes; the answer is longer", "", "0123"]


async def test_a_bomb_is_cut(nursery: trio.Nursery) -> None:
    result = await said(nursery, answer(gzip.compress(b"x" * (64 * MAX_BYTES)), content_encoding="gzip"))
    head, _, text = result.text.partition("\n\n")
    assert f"cut after {MAX_BYTES} bytes" in head
    assert len(text) == MAX_BYTES


async def test_an_endless_answer_is_cut(nursery: trio.Nursery) -> None:
    async def for_ever(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 65536)

    site = await Site(talk=for_ever).start(nursery)
    assert f"cut after {MAX_BYTES} bytes" in (await Fetch().get(site)).text
    await site.hung_up.wait()


async def test_a_wrong_charset_is_remarked(nursery: trio.Nursery) -> None:
    result = await said(nursery, answer(b"caf\xe9", "text/plain; charset=utf-8"))
    assert "note: 1 places are not valid utf-8 and became U+FFFD" in result.text
    assert (
        "(text/plain, cp1252, 4 bytes)" in (await said(nursery, answer(b"caf\xe9", "text/plain; charset=latin1"))).text
    )


async def test_one_that_drips_ends_with_the_callers_scope(nursery: trio.Nursery) -> None:
    scope = trio.CancelScope()

    async def drip(stream: trio.abc.Stream) -> None:
        for byte in b"HTTP/1.1 200 OK":
            await stream.send_all(bytes([byte]))
        scope.cancel()
        await stream.receive_some()

    site = await Site(talk=drip).start(nursery)
    with scope:
        await Fetch().get(site)
    assert scope.cancelled_caught
    await site.hung_up.wait()
