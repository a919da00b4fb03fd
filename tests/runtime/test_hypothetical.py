"""Calls that nobody made: what is assumed of them, what must be said, and that they are judged as real ones are."""

from typing import Any

import pytest

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.policy import HostResource, PathResource, ProgramFacts, SecretResource, Subject, ToolResource
from palyra_trio.guard.cedar import CedarEngine
from palyra_trio.guard.presets import preset
from palyra_trio.runtime.hypothetical import Hypothetical, described, explain
from palyra_trio.tools.builtin import builtin_tools
from palyra_trio.tools.registry import Registry

TOOLS = Registry(builtin_tools())
ENGINE = CedarEngine([preset("default")])


def test_what_is_not_said_of_a_call_is_what_its_tool_declares() -> None:
    facts = Hypothetical("files.write", path="a.txt").facts(TOOLS)
    assert (facts.action, facts.risk, facts.read_only) == ("fs.write", "medium", False)
    assert facts.resources == (PathResource("a.txt"),)
    assert Hypothetical("clock.now").facts(TOOLS).resources == (ToolResource("clock.now"),)


@pytest.mark.parametrize(
    ("path", "workspace", "named", "inside"),
    [
        ("a/../b.txt", "/project", "b.txt", True),
        ("/project/b.txt", "/project", "b.txt", True),
        (".", "/project", ".", True),
        ("../b.txt", "/project", "/b.txt", False),
        ("/projects/b.txt", "/project", "/projects/b.txt", False),
        ("b.txt", "", "b.txt", True),
    ],
)
def test_whether_a_path_is_inside_follows_from_its_name(path: str, workspace: str, named: str, inside: bool) -> None:
    (resource,) = Hypothetical("files.read", path=path, workspace=workspace).facts(TOOLS).resources
    assert isinstance(resource, PathResource)
    assert (resource.path, resource.inside_workspace) == (named, inside)


def test_whether_a_path_is_sensitive_follows_from_its_name_unless_it_is_said() -> None:
    def why(tool: str, path: str, **said: Any) -> str:
        (resource,) = Hypothetical(tool, path=path, **said).facts(TOOLS).resources
        assert isinstance(resource, PathResource)
        return resource.sensitive

    assert why("files.read", ".env") == ".env is an environment file, which often holds secrets"
    assert why("files.read", ".env", sensitive=False) == ""
    assert why("files.read", "a.txt", sensitive=True) != ""
    assert why("files.read", ".git/hooks/pre-commit") == ""
    assert why("files.write", ".git/hooks/pre-commit") != ""


def test_hosts_secrets_and_programs_are_resources_of_their_own_kind() -> None:
    host = Hypothetical("fetch", host="example.com", action="net.fetch", risk="medium", ip_class="private")
    assert host.facts(TOOLS).resources == (HostResource("example.com", 443, "https", "GET", "private"),)
    secret = Hypothetical("vault", secret="github", action="secret.use", risk="high")
    assert secret.facts(TOOLS).resources == (SecretResource("github"),)


def test_a_secret_goes_somewhere_and_a_program_may_talk_to_a_host() -> None:
    sent = Hypothetical("fetch.get", secret="github", host="api.github.com", for_hosts=("api.github.com",))
    (resource,) = sent.facts(TOOLS).resources
    assert resource == SecretResource("github", "api.github.com", 443, (), ("api.github.com",))
    assert explain(sent, TOOLS, ENGINE).decision.outcome == "ask"
    given = Hypothetical("process.run", secret="github", program="/usr/bin/gh", sandbox_tier=4)
    assert given.facts(TOOLS).resources == (SecretResource("github"),)
    assert explain(given, TOOLS, ENGINE).decision.outcome == "deny"
    talking = Hypothetical("process.run", host="index.example", program="/usr/bin/pip", sandbox_tier=4)
    facts = talking.facts(TOOLS)
    assert (facts.action, facts.resources) == (
        "net.connect",
        (HostResource("index.example", 443, "tcp", "CONNECT", "public"),),
    )
    assert facts.program is not None
    assert facts.program.network
    decision = explain(talking, TOOLS, ENGINE).decision
    assert (decision.outcome, decision.standing) == ("ask", False)
    with pytest.raises(InvalidArgument, match=r"\(net.connect\) needs a program"):
        Hypothetical("process.run", host="index.example").facts(TOOLS)
    program = Hypothetical("sh", program="/bin/sh", action="process.exec", risk="high", opaque=True, sandbox_tier=4)
    facts = program.facts(TOOLS)
    assert facts.resources == (ToolResource("sh"),)
    assert facts.program == ProgramFacts("/bin/sh", 1, opaque=True, network=False, cwd_inside=True)
    assert facts.sandbox_tier == 4


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (Hypothetical("files.write"), r"files.write \(fs.write\) needs a path"),
        (Hypothetical("files.write", path="a", host="b"), r"files.write \(fs.write\) has no host"),
        (Hypothetical("clock.now", path="a"), r"clock.now \(run.local\) has no path"),
        (Hypothetical("nope", path="a"), "there is no tool 'nope'"),
        (Hypothetical("nope", path="a", action="fs.read"), "there is no tool 'nope'"),
    ],
)
def test_a_call_that_cannot_be_is_refused_with_what_is_missing(call: Hypothetical, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        call.facts(TOOLS)


def test_a_description_is_read_by_the_names_of_its_fields() -> None:
    plain = {"tool": "files.read", "path": "a", "tainted": True, "agent": "helper", "session": "s", "user": "user:a"}
    call = described(plain)
    assert call == Hypothetical("files.read", path="a", tainted=True, agent="helper", session="s", user="user:a")
    assert call.subject() == Subject("s", "user:a", "helper", tainted=True)


@pytest.mark.parametrize(
    ("plain", "problem"),
    [
        ({"tool": "a", "pth": "x", "why": 1}, "pth, why says nothing of a call"),
        ({"path": "x"}, "missing required field `tool`"),
        ({"tool": "a", "port": "443"}, "Expected `int`"),
        ({"tool": "a", "action": "fs.chmod"}, "Invalid enum value 'fs.chmod'"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(plain: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        described(plain)


def test_an_explanation_shows_each_pass_and_what_it_comes_to() -> None:
    found = explain(Hypothetical("files.write", path=".env"), TOOLS, ENGINE)
    assert (found.decision.outcome, found.decision.standing) == ("ask", False)
    assert [(approval, verdict.allowed, verdict.policies) for approval, verdict in found.passes] == [
        ("none", False, ("sensitive-path",)),
        ("once", True, ("write-in-workspace",)),
        ("standing", False, ("sensitive-path",)),
    ]
