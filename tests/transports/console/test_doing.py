"""The end of a tape says what its run does."""

from pathlib import Path

import trio

from palyra_trio.core.messages import ToolCall
from palyra_trio.core.tape import ModelDelta, ProviderRequest, ToolStarted
from palyra_trio.transports.console.doing import ROWS, doing, last_rows
from tests.fakes import FakeArguments, FakeProvider, fake_tool, open_fake_runtime, says


async def forever(_arguments: FakeArguments) -> str:
    await trio.sleep_forever()
    raise AssertionError


async def test_a_run_asks_the_model_however_much_has_streamed_in(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, checked=False) as runtime:
        going = await runtime.start("think", FakeProvider(["x" * 5000] * (2 * ROWS) + [trio.sleep_forever]))
        await runtime.until(going.run_id, ProviderRequest)
        await runtime.until(going.run_id, ModelDelta)
        assert doing(await runtime.gateway.ask(lambda reader: last_rows(reader, going.run_id))) == "asks the model"


async def test_a_run_runs_the_tools_that_have_begun_and_not_ended(tmp_path: Path) -> None:
    calls = (ToolCall("a", "fake.long", {}), ToolCall("b", "fake.long", {}))
    tools = [fake_tool("fake.long", forever)]
    async with open_fake_runtime(tmp_path, FakeProvider(says("", *calls)), tools=tools, checked=False) as runtime:
        going = await runtime.start()
        await runtime.until(going.run_id, ToolStarted, 2)
        rows = await runtime.gateway.ask(lambda reader: last_rows(reader, going.run_id))
        assert doing(rows) == "runs fake.long"
        begun = [row for row in rows if isinstance(row.event(), ToolStarted)]
        assert doing(begun) == "runs a tool"
        assert doing(row for row in rows if row not in begun) == ""


async def test_a_run_that_has_ended_does_nothing(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path, FakeProvider(says("ok"))) as runtime:
        tape = await runtime.ended((await runtime.start()).run_id)
    assert doing(tape.rows) == doing(()) == ""
