"""A program gets the hosts and the secrets that its call names, at tier 4, through the proxy and through nothing else."""

import io
import os
import ssl
import subprocess
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme

from palyra_trio.core.errors import InvalidArgument, NotFound, PalyraError, PolicyError
from palyra_trio.core.policy import HostResource, SecretResource, ToolResource
from palyra_trio.core.references import SecretReference
from palyra_trio.tools.egress import Egress
from palyra_trio.tools.job import HostUse, KillReceipt
from palyra_trio.tools.process_run import run_tool
from palyra_trio.tools.reach import Given, Reach, opened, plan_reach, told
from palyra_trio.tools.registry import Plan, ToolContext, ToolResult
from palyra_trio.tools.sandbox import NO_SANDBOX, Sandbox, SandboxSettings, SandboxTooWeak, open_sandbox
from palyra_trio.tools.sandbox_report import SandboxReport, TierReport
from palyra_trio.tools.secret_use import NO_SECRETS
from palyra_trio.tools.workspace import Workspace
from tests.tools.fake_site import Names, Site, answer, egress_to
from tests.tools.test_fetch_headers import FakeVault
from tests.tools.zoo import NOBODY

ISOLATED = attrs.evolve(NO_SANDBOX, report=SandboxReport((TierReport(4, True, ("bubblewrap",)),)))
CONFINED = attrs.evolve(NO_SANDBOX, report=SandboxReport((TierReport(3, True, ("Landlock",)),)))
VAULT = FakeVault({"TOKEN": "the value of it"})
PUBLIC = Egress(Names(site_example=[("8.8.8.8",)], index_example=[("8.8.4.4",)], inner_example=[("10.0.0.1",)]).resolve)


async def planned(
    *network: str, env: dict[str, str] | None = None, sandbox: Sandbox = ISOLATED, egress: Egress = PUBLIC
) -> Reach:
    return await plan_reach(network, env or {}, sandbox, egress, VAULT)


# --- what a call asks for ---


async def test_each_host_is_resolved_once_and_judged() -> None:
    names = Names(index_example=[("8.8.4.4",), ("127.0.0.1",)])
    reach = await planned("INDEX.example.", "index.example:443", egress=egress_to(names))
    assert reach.resources == (HostResource("index.example", 443, "tcp", "CONNECT", "public"),)
    assert [(each.host, each.port, list(map(str, each.addresses))) for each in reach.ways] == [
        ("index.example", 443, ["8.8.4.4"])
    ]
    assert reach.lines == ("may talk to index.example:443",)
    assert names.asked == ["index.example"]


@pytest.mark.parametrize(
    "host",
    [
        "inner.example", "127.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "[::ffff:a9fe:a9fe]", "169.254.169.254:80", "10.0.0.1",
        "[fd00:ec2::254]", "0x7f.1", "2130706433", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[fe80::1]", "0.0.0.0",
        "site.example:22", "site.example:25", "user@site.example",
    ],
)  # fmt: skip
async def test_no_address_of_this_machine_or_its_network_can_be_asked_for(host: str) -> None:
    with pytest.raises(PolicyError, match="refused as "):
        await planned(host)


@pytest.mark.parametrize(
    "host", ["", "https://site.example", "site.example/x", "*.example", "a b", "site.example:0x50"]
)
async def test_what_names_no_host_is_refused(host: str) -> None:
    with pytest.raises(PalyraError):
        await planned(host)


@pytest.mark.parametrize("sandbox", [NO_SANDBOX, CONFINED])
async def test_a_weaker_sandbox_gives_no_network_and_says_why(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxTooWeak, match=r"in sandbox tier 4 only.*knows ports and not hosts"):
        await planned("site.example", sandbox=sandbox)
    assert (await planned(sandbox=sandbox)).ways == ()


async def test_a_secret_is_judged_for_each_host_that_it_could_go_to() -> None:
    reach = await planned("site.example", env={"API_TOKEN": "secret:TOKEN"})
    (_, secret) = reach.resources
    assert secret == SecretResource("TOKEN", "site.example", 443, (), ("site.example",))
    assert reach.lines == ("may talk to site.example:443", "$API_TOKEN is the secret TOKEN")
    assert "the value" not in repr(reach)
    assert reach.environment(VAULT) == {"API_TOKEN": "the value of it"}
    for network in ((), ("index.example",), ("site.example", "index.example")):
        with pytest.raises(PolicyError, match=r"was set for site\.example, not for"):
            await planned(*network, env={"API_TOKEN": "secret:TOKEN"})
    with pytest.raises(NotFound):
        await planned("site.example", env={"API_TOKEN": "secret:OTHER"})


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "LD_PRELOAD", "https_proxy", "PALYRA_TRIO_JOB", "", "A B", "A=B", "1A", "É"]
)
async def test_a_variable_that_steers_a_program_cannot_be_set(name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be set"):
        await planned("site.example", env={name: "secret:TOKEN"})


@pytest.mark.parametrize("value", ["plain", "", "x secret:TOKEN y"])
async def test_a_variable_holds_a_secret_or_is_not_set(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"no reference to a secret|cannot name a secret"):
        await planned("site.example", env={"A": value})


def test_a_value_that_could_pass_for_several_options_is_not_handed_on() -> None:
    reach = Reach(variables={"A": SecretReference("S")})
    with pytest.raises(InvalidArgument, match="holds a zero byte") as caught:
        reach.environment(FakeVault({"S": "a\0--bind\0/\0/"}, host=""))
    assert "--bind" not in str(caught.value)


async def test_who_needs_nothing_is_given_nothing() -> None:
    async with opened(Reach(), NO_SECRETS, lambda use: pytest.fail("nothing was used")) as given:
        assert given == Given({})


def test_what_a_value_is_does_not_show_in_what_is_given() -> None:
    assert "hunter2" not in repr(Given({"A": "hunter2"}))


def test_what_became_of_each_host_is_told_in_a_line() -> None:
    assert told(HostUse("a.example", 443, True, 2, 10, 20)) == (
        "[network] a.example:443: 10 bytes sent, 20 received (connections: 2)"
    )
    assert told(HostUse("", 0, False, 7)) == (
        "[network] other hosts: refused, because the call does not name it in `network` (attempts: 7)"
    )


# --- in the sandbox ---

PYTHON = "/usr/bin/python3"
Run = Callable[..., Awaitable[tuple[Plan, ToolResult]]]


@attrs.define
class Told:
    uses: list[HostUse] = attrs.Factory(list)
    receipts: list[KillReceipt] = attrs.Factory(list)
    output: bytearray = attrs.Factory(bytearray)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox(SandboxSettings(user=str(NOBODY)), Path("/home/me")) as sandbox:
        if sandbox.tier < 4:
            pytest.skip("unavailable: there is no tier 4 here")
        yield sandbox


@pytest.fixture
def told_of() -> Told:
    return Told()


@pytest.fixture
def run(sandbox: Sandbox, kernel_workspace: Workspace, root: Path, told_of: Told) -> Run:
    """Run a program that may reach `site.example`, which is this machine, as far as the test's egress is concerned."""
    if os.geteuid() == 0:
        os.chown(root, NOBODY, NOBODY)
        for each in root.parents[:4]:
            if each.stat().st_uid == 0 and each != Path("/"):
                each.chmod(each.stat().st_mode | 0o011)
    tool = run_tool(sandbox, trio.CapacityLimiter(2), egress_to(Names(site_example=[("127.0.0.1",), ("10.0.0.1",)])))
    context = ToolContext(
        kernel_workspace,
        lambda: 1_760_000_000.0,
        output=lambda stream, data: told_of.output.extend(data),
        killed=told_of.receipts.append,
        contacted=told_of.uses.append,
        secrets=VAULT,
    )

    async def run(*argv: str, **others: Any) -> tuple[Plan, ToolResult]:
        arguments = tool.spec.parse({"argv": list(argv), **others})
        plan = await tool.plan(arguments, context)
        result = await tool.run(arguments, context, plan)
        return plan, attrs.evolve(result, text=f"{result.text}\n{told_of.output.decode()}")

    return run


async def test_a_program_gets_through_the_proxy_to_the_host_that_it_may_reach(
    run: Run, told_of: Told, nursery: trio.Nursery
) -> None:
    site = await Site([answer(b"from outside")]).start(nursery)
    plan, result = await run("curl", "-sS", f"http://site.example:{site.port}/x", network=[f"site.example:{site.port}"])
    assert "from outside" in result.text
    assert result.text.startswith("exit code 0")
    assert site.requests[0].startswith(b"GET /x HTTP/1.1\r\nhost: site.example:")
    assert plan.resources == (
        ToolResource("process.run"),
        HostResource("site.example", site.port, "tcp", "CONNECT", "public"),
    )
    assert plan.program is not None
    assert plan.program.network
    assert f"may talk to site.example:{site.port}" in plan.preview.splitlines()
    (use,) = told_of.uses
    assert (use.host, use.port, use.allowed, use.connections) == ("site.example", site.port, True, 1)
    assert use.sent_bytes >= len(site.requests[0])
    assert told(use) in result.text


async def test_python_finds_the_proxy_too_and_what_it_may_not_reach_is_refused_with_words(
    run: Run, told_of: Told, nursery: trio.Nursery
) -> None:
    site = await Site([answer(b"from outside")]).start(nursery)
    code = (
        "import urllib.request as r, urllib.error as e\n"
        f"print(r.urlopen('http://site.example:{site.port}/').read())\n"
        "for url in ('http://169.254.169.254/latest/', 'http://evil.example/', 'https://evil.example/'):\n"
        "    try: r.urlopen(url)\n"
        "    except e.HTTPError as error: print(error.code, error.read())\n"
        "    except e.URLError as error: print(error)\n"
    )
    _, result = await run(PYTHON, "-c", code, network=[f"site.example:{site.port}"])
    assert "b'from outside'" in result.text
    assert "403 b'palyra-trio refused this: 169.254.169.254:80 is none of the hosts" in result.text
    assert "Tunnel connection failed: 403 Forbidden" in result.text
    assert {(each.host, each.port, each.allowed) for each in told_of.uses} == {
        ("site.example", site.port, True),
        ("169.254.169.254", 80, False),
        ("evil.example", 80, False),
        ("evil.example", 443, False),
    }


# --- what people run ---


async def test_curl_speaks_tls_through_a_tunnel(run: Run, root: Path, told_of: Told, nursery: trio.Nursery) -> None:
    ca, serving = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("site.example").configure_cert(serving)
    (root / "ca.pem").write_bytes(ca.cert_pem.bytes())
    site = await Site([answer(b"sealed")], tls=serving).start(nursery)
    host = f"site.example:{site.port}"
    _, result = await run("curl", "-sS", "--cacert", "ca.pem", f"https://{host}/", network=[host])
    assert result.text.endswith("sealed")
    (use,) = told_of.uses
    assert use.received_bytes > len("sealed")


async def test_git_reaches_a_repository(run: Run, nursery: trio.Nursery) -> None:
    head = "1" * 40
    site = await Site([answer(f"{head}\trefs/heads/main\n".encode()), answer(b"ref: refs/heads/main\n")]).start(nursery)
    host = f"site.example:{site.port}"
    _, result = await run("git", "ls-remote", f"http://{host}/repository", network=[host])
    assert f"{head}\trefs/heads/main" in result.text
    assert site.requests[0].startswith(b"GET /repository/info/refs?service=git-upload-pack HTTP/1.1\r\n")


def has_pip() -> bool:
    return subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


async def test_pip_installs_from_an_index(run: Run, root: Path, nursery: trio.Nursery) -> None:
    if not has_pip():
        pytest.skip("unavailable: the system's Python has no pip")
    wheel, name = io.BytesIO(), "palyra_example-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("palyra_example.py", "print('it is here')")
        archive.writestr(
            "palyra_example-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: palyra-example\nVersion: 1\n"
        )
        archive.writestr(
            "palyra_example-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("palyra_example-1.dist-info/RECORD", "")
    page = answer(f'<a href="/{name}">{name}</a>'.encode(), "text/html")
    site = await Site([page, answer(wheel.getvalue(), "application/octet-stream")]).start(nursery)
    host = f"site.example:{site.port}"
    options = ["--index-url", f"http://{host}/simple", "--trusted-host", "site.example", "--target", "installed"]
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", *options, "palyra-example"]
    _, result = await run(*pip, network=[host])
    assert "Successfully installed palyra-example-1" in result.text
    assert (root / "installed" / "palyra_example.py").exists()


DIRECT = """
import socket, sys
port = int(sys.argv[1])
def tried(what, attempt):
    try:
        attempt()
        print("REACHED", what)
    except OSError as error:
        print("refused", what, error.strerror)
def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as attempt:
        attempt.settimeout(3)
        attempt.connect(address)
        attempt.send(b"x")
tried("loopback", lambda: connect(socket.AF_INET, ("127.0.0.1", port)))
tried("loopback 6", lambda: connect(socket.AF_INET6, ("::1", port)))
tried("a mapped address", lambda: connect(socket.AF_INET6, ("::ffff:127.0.0.1", port)))
tried("a public address", lambda: connect(socket.AF_INET, ("8.8.8.8", 53)))
tried("by UDP", lambda: connect(socket.AF_INET, ("8.8.8.8", 53), socket.SOCK_DGRAM))
tried("metadata", lambda: connect(socket.AF_INET, ("169.254.169.254", 80)))
tried("a name", lambda: socket.getaddrinfo("site.example", 80))
tried("a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close())
tried("a packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close())
tried("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close())
tried("vsock", lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close())
tried("an abstract socket", lambda: connect(socket.AF_UNIX, "\\0" + sys.argv[2]))
connect(socket.AF_INET, ("127.0.0.1", 3128))
print("and the proxy is there")
"""


async def test_nothing_gets_past_the_proxy(run: Run, nursery: trio.Nursery) -> None:
    site = await Site([answer(b"from outside")]).start(nursery)
    name = f"palyra-trio-test-{os.getpid()}"
    with trio.socket.socket(trio.socket.AF_UNIX) as listener:
        await listener.bind(f"\0{name}")
        listener.listen()
        _, result = await run(PYTHON, "-c", DIRECT, str(site.port), name, network=[f"site.example:{site.port}"])
    assert "REACHED" not in result.text
    assert result.text.count("refused ") == 12
    assert "and the proxy is there" in result.text
    assert site.requests == []


async def test_without_a_host_there_is_no_proxy(run: Run, told_of: Told) -> None:
    code = "import os, socket; print(sorted(os.environ)); socket.create_connection(('127.0.0.1', 3128))"
    _, result = await run(PYTHON, "-c", code)
    assert "ConnectionRefusedError" in result.text
    assert "_PROXY" not in result.text.upper()
    assert told_of.uses == []


async def test_a_secret_is_in_the_environment_and_on_no_command_line(run: Run, nursery: trio.Nursery) -> None:
    site = await Site([answer(b"")]).start(nursery)
    code = (
        "import os\n"
        "print(os.environ['API_TOKEN'][::-1])\n"
        "print([p for p in os.listdir('/proc') if p.isdigit() and b'ti fo eulav eht'[::-1] in open('/proc/' + p + '/cmdline', 'rb').read()])\n"
        "print(sorted(os.listdir('/proc/self/fd')))\n"
        f"import urllib.request as r; r.urlopen('http://site.example:{site.port}/').read()\n"
    )
    seen: list[str] = []

    async def talk(stream: trio.abc.Stream) -> None:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if b"the value of it" in Path("/proc", pid, "cmdline").read_bytes():
                    seen.append(pid)
            except OSError:
                continue
        await stream.send_all(answer())

    site.talk = talk  # while the program waits for its answer, its whole tree can be looked at
    _, result = await run(PYTHON, "-c", code, network=[f"site.example:{site.port}"], env={"API_TOKEN": "secret:TOKEN"})
    assert result.text.splitlines()[-3:] == ["ti fo eulav eht", "[]", "['0', '1', '2', '3']"]
    assert site.requests
    assert seen == []


async def test_a_cancel_in_the_middle_of_a_download_leaves_nothing(
    run: Run, told_of: Told, nursery: trio.Nursery
) -> None:
    begun = trio.Event()

    async def talk(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(1000))
        begun.set()
        await trio.sleep_forever()

    site = await Site(talk=talk).start(nursery)
    descriptors = len(os.listdir("/proc/self/fd"))
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as inner:

            async def download() -> None:
                await run("curl", "-sS", f"http://site.example:{site.port}/", network=[f"site.example:{site.port}"])

            inner.start_soon(download)
            with trio.fail_after(20):
                await begun.wait()
            scope.cancel()
    assert [each.survivors for each in told_of.receipts] == [0]
    assert [(each.host, each.connections) for each in told_of.uses] == [("site.example", 1)]
    with trio.fail_after(10):
        while True:
            if len(os.listdir("/proc/self/fd")) <= descriptors + 1:  # beside the site's own end of the connection
                break
            await trio.lowlevel.checkpoint()
