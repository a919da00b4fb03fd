"""A header is filled by a secret only where it is sent, and only over TLS; what frames a message is filled by nothing."""

import ssl
from collections.abc import Mapping

import attrs
import pytest
import trio
import trustme

from palyra_trio.core.errors import InvalidArgument, NotFound, PalyraError, PolicyError
from palyra_trio.core.policy import HostResource, SecretResource
from palyra_trio.core.references import SecretReference
from palyra_trio.tools.egress import parse_url
from palyra_trio.tools.fetch import FetchPlan, fetch_tools
from palyra_trio.tools.fetch_headers import Asked, asked_headers, filled
from palyra_trio.tools.fetch_request import Request
from palyra_trio.tools.registry import ToolContext, ToolResult
from tests.tools.fake_site import Names, Site, answer, egress_to, redirect

PLACE = parse_url("https://site.example/")
OWN = {"user-agent": "palyra-trio/0.1.0", "accept-encoding": "gzip", "accept": "*/*"}


@attrs.define
class FakeVault:
    """Secrets for one host; keeps where each was sent."""

    values: Mapping[str, str]
    host: str = "site.example"
    sent: list[tuple[str, str, int]] = attrs.Factory(list)

    def look(self, name: str, host: str, port: int) -> SecretResource:
        if name not in self.values:
            raise NotFound(f"there is no secret {name}")
        if host != self.host:
            raise PolicyError(f"the secret {name} was set for {self.host}, not for {host}")
        return SecretResource(name, host, port, (), (self.host,))

    def reveal(self, reference: SecretReference, host: str, port: int) -> str:
        self.look(reference.name, host, port)
        self.sent.append((reference.name, host, port))
        return reference.before + self.values[reference.name]


def test_a_header_may_name_a_secret_and_says_so_as_it_was_written() -> None:
    asked = asked_headers({"Authorization": "Bearer secret:GH", "x-api-key": "secret:K", "Accept": "a/b"}, PLACE)
    assert asked == Asked(
        OWN | {"authorization": "Bearer secret:GH", "x-api-key": "secret:K", "accept": "a/b"},
        {"authorization": SecretReference("GH", "Bearer "), "x-api-key": SecretReference("K")},
    )


@pytest.mark.parametrize(
    "name",
    [
        "Host", "Content-Length", "Transfer-Encoding", "Connection", "TE", "Upgrade", "Expect", "Proxy-Authorization",
        "User-Agent", "Content-Type", "a b", "a:b", "", "x\r\ny", "é", "a" * 65,
    ],
)  # fmt: skip
def test_what_frames_a_message_is_filled_by_no_secret(name: str) -> None:
    with pytest.raises(PolicyError, match="refused as header: "):
        asked_headers({name: "secret:GH"}, PLACE)


def test_a_secret_is_not_sent_in_the_clear() -> None:
    with pytest.raises(PolicyError, match="refused as secret_in_clear: "):
        asked_headers({"authorization": "secret:GH"}, parse_url("http://site.example/"))


@pytest.mark.parametrize("value", ["secret:", "secret:a b", "Bearer secret:../x"])
def test_what_can_be_no_secrets_name_is_refused(value: str) -> None:
    with pytest.raises(InvalidArgument):
        asked_headers({"authorization": value}, PLACE)


@pytest.mark.parametrize("value", ["Bearer  secret:GH", "Bearer: secret:GH", "secrets:GH"])
def test_what_only_resembles_a_reference_is_none(value: str) -> None:
    assert asked_headers({"accept": value}, PLACE) == Asked(OWN | {"accept": value}, {})


def test_the_value_is_there_only_in_what_is_sent() -> None:
    vault = FakeVault({"GH": "the value of it"})
    request = Request("GET", {"authorization": "Bearer secret:GH"})
    sent = filled(request, {"authorization": SecretReference("GH", "Bearer ")}, PLACE, vault)
    assert sent.headers == {"authorization": "Bearer the value of it"}
    assert request.headers == {"authorization": "Bearer secret:GH"}
    assert vault.sent == [("GH", "site.example", 443)]


@pytest.mark.parametrize(
    "value", ["hunter2\r\nhost: x", "hunter2\n", " hunter2", "hunter2\0", "hunté2", "hunter2" * 9999]
)
def test_a_value_of_more_than_a_line_is_not_sent_and_not_quoted(value: str) -> None:
    with pytest.raises(PolicyError, match="what the secret GH holds is not a line") as caught:
        filled(Request("GET", {}), {"x": SecretReference("GH")}, PLACE, FakeVault({"GH": value}))
    assert "hunt" not in str(caught.value)


# --- over the wire ---


@attrs.define
class Served:
    """`site.example` over TLS on loopback, and the tools that trust it."""

    site: Site
    trusting: ssl.SSLContext
    vault: FakeVault = attrs.Factory(lambda: FakeVault({"GH": "the value of it"}))

    @property
    def url(self) -> str:
        return f"https://site.example:{self.site.port}/"

    async def plan(self, **arguments: object) -> tuple[FetchPlan, ToolResult]:
        get, _ = fetch_tools(egress_to(Names(site_example=[("127.0.0.1",)])), lambda: self.trusting)
        context = ToolContext(None, lambda: 0.0, secrets=self.vault)  # type: ignore[arg-type]  # no file is touched
        parsed = get.spec.parse({"url": self.url, **arguments})
        plan = await get.plan(parsed, context)
        assert isinstance(plan, FetchPlan)
        return plan, await get.run(parsed, context, plan)


async def served(nursery: trio.Nursery, *answers: bytes) -> Served:
    ca = trustme.CA()
    serving, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    ca.issue_cert("site.example").configure_cert(serving)
    ca.configure_trust(trusting)
    return Served(await Site(list(answers), tls=serving).start(nursery), trusting)


async def test_the_gate_judges_the_host_and_the_secret_and_neither_plan_nor_preview_holds_its_value(
    nursery: trio.Nursery,
) -> None:
    found = await served(nursery, answer(b"done"))
    plan, result = await found.plan(headers={"authorization": "Bearer secret:GH"})
    port = found.site.port
    assert plan.resources == (
        HostResource("site.example", port, "https", "GET", "public"),
        SecretResource("GH", "site.example", port, (), ("site.example",)),
    )
    assert "authorization: Bearer secret:GH" in plan.preview.splitlines()
    assert "the value" not in repr(plan) + result.text
    assert b"\r\nauthorization: Bearer the value of it\r\n" in found.site.requests[0]


async def test_a_redirect_on_the_same_site_has_it_looked_up_anew(nursery: trio.Nursery) -> None:
    found = await served(nursery, redirect("/further"), answer(b"done"))
    await found.plan(headers={"authorization": "secret:GH"})
    assert found.vault.sent == [("GH", "site.example", found.site.port)] * 2
    assert all(b"\r\nauthorization: the value of it\r\n" in each for each in found.site.requests)


async def test_a_redirect_to_another_host_port_or_scheme_never_gets_it(nursery: trio.Nursery) -> None:
    elsewhere = await Site([answer(b"mine")]).start(nursery)
    for location in (
        f"https://127.0.0.1:{elsewhere.port}/",
        f"https://site.example:{elsewhere.port}/",
        f"http://site.example:{elsewhere.port}/",
    ):
        found = await served(nursery, redirect(location))
        with pytest.raises(PalyraError, match="refused as redirect_"):
            await found.plan(headers={"authorization": "secret:GH"})
        assert len(found.vault.sent) == 1
    assert elsewhere.requests == []


async def test_a_secret_that_is_not_there_or_for_another_host_is_refused_in_the_plan(nursery: trio.Nursery) -> None:
    found = await served(nursery, answer(b"done"))
    with pytest.raises(NotFound, match="there is no secret OTHER"):
        await found.plan(headers={"authorization": "secret:OTHER"})
    found.vault.host = "elsewhere.example"
    with pytest.raises(PolicyError, match=r"was set for elsewhere\.example"):
        await found.plan(headers={"authorization": "secret:GH"})
    assert found.site.requests == []
