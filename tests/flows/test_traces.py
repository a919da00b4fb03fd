"""A daemon's runs as a collector sees them: whole trees that say what the tapes say, over a restart too; and no prompt."""

import signal
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from palyra_trio.runtime.tracing import span_id, trace_id
from tests.collector import SILENT, Collector, plain
from tests.faults.serving import Server
from tests.processes import PATIENCE_S, read_call, write_call

PROMPT, ANSWER, CONTENT = "a prompt in confidence", "an answer in confidence", "a file in confidence"
NS_A_MS = 1_000_000


@attrs.frozen
class Traced:
    """A daemon that tells a collector of its runs."""

    server: Server
    collector: Collector

    async def sh(self, *arguments: str) -> str:
        """Call the program, and return the answer."""
        done = await trio.to_thread.run_sync(partial(self.server.shell.run, *arguments))
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def run(self, *turns: dict[str, object]) -> str:
        """Let a run play `turns` to its end, and return its id."""
        await self.sh("run", "--model", self.server.shell.script(*turns), PROMPT)
        return self.newest

    @property
    def newest(self) -> str:
        return self.server.shell.runs()[-1].run_id

    async def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE_S):
            await trio.to_thread.run_sync(self.server.process.wait, abandon_on_cancel=True)


def a_server(root: Path, collector: Collector, **otel: str) -> Traced:
    environ = {f"PALYRA_OTEL__{name.upper()}": value for name, value in otel.items()}
    server = Server.below(root, PALYRA_OTEL__ENDPOINT=collector.url, **environ)
    (server.shell.folder / "a.txt").write_text(CONTENT)
    return Traced(server, collector)


def assert_tree(spans: list[Span], run_id: str) -> Span:
    """Check that the spans are the tree of one run, each told once, and return its root."""
    (root,) = [span for span in spans if not span.parent_span_id]
    assert root.span_id == span_id(run_id, 1)
    assert {span.trace_id for span in spans} == {trace_id(run_id)}
    assert {span.parent_span_id for span in spans} == {b"", root.span_id}
    assert len({span.span_id for span in spans}) == len(spans)
    return root


async def test_a_run_is_a_tree_that_says_what_its_tape_says_and_no_word_of_the_conversation(tmp_path: Path) -> None:
    async with Collector.open() as collector:
        traced = a_server(tmp_path, collector)
        async with traced.server.running():
            usage = {"input_tokens": 10, "cached_input_tokens": 0, "output_tokens": 2}
            run_id = await traced.run({**read_call("a.txt", "none.txt"), "usage": usage}, {"text": ANSWER})
            with trio.fail_after(PATIENCE_S):
                spans = await collector.until_told(5)
    root = assert_tree(spans, run_id)
    tape = traced.server.shell.tape(run_id)
    at_ns = {row["seq"]: row["at_ms"] * NS_A_MS for row in tape}
    begins = [row["seq"] for row in tape if row["kind"] in {"Input", "ProviderRequest", "ToolProposed"}]
    assert {span.span_id: span.start_time_unix_nano for span in spans} == {
        span_id(run_id, seq): at_ns[seq] for seq in begins
    }
    assert root.end_time_unix_nano == at_ns[len(tape)]
    turns = [at_ns[row["seq"]] for row in tape if row["kind"] == "ModelTurn"]
    assert sorted(span.end_time_unix_nano for span in spans if span.kind == Span.SPAN_KIND_CLIENT) == turns
    names = sorted(span.name.partition(" ")[0] for span in spans)
    assert names == ["chat", "chat", "execute_tool", "execute_tool", "invoke_agent"]
    assert plain([*root.attributes])["gen_ai.usage.input_tokens"] == 10
    assert plain([*root.attributes])["gen_ai.agent.name"] == "default"
    reads = [span for span in spans if span.name == "execute_tool files.read"]
    assert sorted((span.status.code, plain([*span.attributes]).get("error.type", "")) for span in reads) == [
        (Status.STATUS_CODE_UNSET, ""),
        (Status.STATUS_CODE_ERROR, "denied"),
    ]
    sent = b"".join(collector.bodies)
    assert [text for text in (PROMPT, ANSWER, CONTENT, "a.txt") if text.encode() in sent] == []


async def test_with_content_the_words_are_told(tmp_path: Path) -> None:
    async with Collector.open() as collector:
        traced = a_server(tmp_path, collector, content="true")
        async with traced.server.running():
            run_id = await traced.run(read_call("a.txt"), {"text": ANSWER})
            with trio.fail_after(PATIENCE_S):
                assert_tree(await collector.until_told(4), run_id)
    sent = b"".join(collector.bodies)
    assert [text for text in (PROMPT, ANSWER, CONTENT, "a.txt") if text.encode() not in sent] == []


async def test_a_run_that_goes_on_after_a_kill_is_one_tree_of_which_each_span_is_told_once(tmp_path: Path) -> None:
    async with Collector.open() as collector:
        traced = a_server(tmp_path, collector)
        async with traced.server.running():
            model = traced.server.shell.script(write_call("b.txt", "x"), {"text": ANSWER})
            await traced.sh("run", "--detach", "--model", model, PROMPT)
            with trio.fail_after(PATIENCE_S):
                await collector.until_told(1)
            traced.server.kill()
            await traced.server.start()
            run_id = traced.newest
            (asked,) = traced.server.shell.bodies("ApprovalRequested", run_id)
            await traced.sh("approvals", "allow", asked["approval_id"])
            with trio.fail_after(PATIENCE_S):
                await collector.until_told(4)
            await traced.stop()
    root = assert_tree(collector.spans, run_id)
    assert [span.name.partition(" ")[0] for span in collector.spans] == ["chat", "execute_tool", "chat", "invoke_agent"]
    assert plain([*root.attributes])["palyra.run.state"] == "done"
    processes = {
        plain([*of.resource.attributes])["service.instance.id"]
        for each in collector.taken
        for of in each.resource_spans
    }
    assert len(processes) == 2


async def test_a_model_call_that_a_kill_cut_off_is_told_by_the_next_process(tmp_path: Path) -> None:
    async with Collector.open() as collector:
        traced = a_server(tmp_path, collector)
        async with traced.server.running():
            model = traced.server.shell.script(read_call("a.txt"), {"text": ANSWER, "hang": True})
            with traced.server.shell.process("run", "--model", model, PROMPT), trio.fail_after(PATIENCE_S):
                await collector.until_told(2)
                traced.server.kill()
            await traced.server.start()
            run_id = traced.newest
            with trio.fail_after(PATIENCE_S):
                await collector.until_told(3)
            await traced.sh("runs", "cancel", run_id)
            with trio.fail_after(PATIENCE_S):
                await collector.until_told(4)
    assert_tree(collector.spans, run_id)
    errors = [plain([*span.attributes]).get("error.type") for span in collector.spans]
    assert errors == [None, None, "interrupted", "cancelled"]


@pytest.mark.parametrize("statuses", [(SILENT,), (503,), (400,)], ids=["silent", "busy", "refuses"])
async def test_a_collector_that_takes_nothing_slows_no_run_and_holds_no_end_up(
    statuses: tuple[int, ...], tmp_path: Path
) -> None:
    async with Collector.open(*statuses) as collector:
        traced = a_server(tmp_path, collector)
        async with traced.server.running():
            await traced.run({"text": "first"})
            with trio.fail_after(PATIENCE_S):
                await collector.until_asked(1)
            with trio.fail_after(PATIENCE_S):
                for _ in range(3):
                    await traced.run({"text": "while it waits"})
            with trio.fail_after(PATIENCE_S):
                await traced.stop()
            assert traced.server.process is not None
            assert traced.server.process.returncode == 0
    told = traced.server.log.count("traces cannot be sent")
    assert told == 1 or (statuses == (SILENT,) and not told)  # that one is known after its patience, and may end before
    assert traced.server.log.count("spans were not sent") == 1
    assert traced.server.tracebacks == []
