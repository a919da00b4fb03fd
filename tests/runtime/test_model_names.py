"""What servers list is known a moment after somebody looked, and nobody waits for it."""

from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from palyra_trio.core.config import ModelConfig
from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.providers.base import ProviderError
from palyra_trio.providers.choose import Choice
from palyra_trio.runtime.model_names import ANSWER_S, FRESH_S, MOST, NAME_CHARACTERS, ModelNames
from palyra_trio.runtime.state import RuntimeState
from tests.fakes import CONFIG, FakeProvider, open_fake_runtime, says


class Listing(FakeProvider):
    """A server that lists `names`, once `answers` is set, or fails."""

    def __init__(self, *names: str, error: Exception | None = None) -> None:
        super().__init__(says("done"))
        self.names, self.error, self.asked = names, error, 0
        self.answers = trio.Event()
        self.answers.set()

    async def list_models(self) -> tuple[str, ...]:
        self.asked += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return self.names


@attrs.define
class Servers:
    """The servers by the name of their provider; of another there is none."""

    there: dict[str, FakeProvider]
    asked: list[tuple[str, str]] = attrs.Factory(list)

    async def choose(self, model: str, base_url: str) -> Choice:
        await trio.lowlevel.checkpoint()
        self.asked.append((model, base_url))
        provider = self.there.get(model.partition("/")[0])
        if provider is None:
            raise ConfigInvalid("it needs a key")
        return Choice(provider, model, "the test says so")


async def looked(state: RuntimeState, *times_s: float) -> list[tuple[str, ...]]:
    """Return what is known at these times, each that long after the one before."""
    found = []
    async with trio.open_nursery() as nursery:
        names = ModelNames(state, nursery)
        for after_s in times_s:
            await trio.sleep(after_s)
            found.append(names.known())
    return found


async def test_what_servers_list_is_known_when_somebody_looks_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    servers = Servers({"openai": Listing("one", "a/b"), "ollama": Listing("llama3:8b")})
    config = attrs.evolve(CONFIG, model=ModelConfig(base_url="http://127.0.0.1:1/v1"))
    async with open_fake_runtime(tmp_path, choose=servers.choose, config=config) as runtime:
        assert await looked(runtime.state, 0, 1) == [(), ("openai/one", "openai/a/b", "ollama/llama3:8b")]
    assert [base_url for _, base_url in servers.asked] == ["http://127.0.0.1:1/v1"] * 2
    assert all(model.partition("/")[2] for model, _ in servers.asked)


async def test_a_server_that_nobody_has_named_is_not_asked(tmp_path: Path, autojump_clock: MockClock) -> None:
    servers = Servers({"openai": Listing("one"), "ollama": Listing("two")})
    async with open_fake_runtime(tmp_path, choose=servers.choose) as runtime:
        state = attrs.evolve(runtime.state, servers=("openai",))
        assert await looked(state, 0, 1) == [(), ("openai/one",)]


async def test_a_server_is_asked_once_a_minute_at_most(tmp_path: Path, autojump_clock: MockClock) -> None:
    server = Listing("one")
    async with open_fake_runtime(tmp_path, choose=Servers({"openai": server}).choose) as runtime:
        await looked(runtime.state, 0, 1, FRESH_S - 2)
        assert server.asked == 1
        server.names = ("two",)
        assert await looked(runtime.state, 0, FRESH_S, 1) == [(), ("openai/two",), ("openai/two",)]
        assert server.asked == 3


async def test_a_server_that_does_not_answer_adds_nothing_and_holds_nobody_up(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    silent = Listing("one")
    silent.answers = trio.Event()
    async with open_fake_runtime(
        tmp_path, choose=Servers({"openai": silent, "ollama": Listing("two")}).choose
    ) as runtime:
        began = trio.current_time()
        assert await looked(runtime.state, 0, ANSWER_S + 1) == [(), ("ollama/two",)]
        assert trio.current_time() == began + ANSWER_S + 1


@pytest.mark.parametrize(
    "server", [Listing("one", error=ProviderError("auth", "the key is wrong")), FakeProvider(says("it lists nothing"))]
)
async def test_a_server_that_fails_or_cannot_list_adds_nothing(
    tmp_path: Path, server: FakeProvider, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_fake_runtime(tmp_path, choose=Servers({"openai": server}).choose) as runtime:
        assert await looked(runtime.state, 0, 1) == [(), ()]
    assert not caplog.records


async def test_a_fault_over_what_a_server_lists_ends_nothing_and_is_logged_once(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    servers = {"openai": Listing(error=RecursionError("too deep")), "ollama": Listing("two")}
    async with open_fake_runtime(tmp_path, choose=Servers({**servers}).choose) as runtime:
        assert await looked(runtime.state, 0, FRESH_S, 1) == [(), ("ollama/two",), ("ollama/two",)]
    assert servers["openai"].asked == 2
    assert [record.getMessage() for record in caplog.records] == ["what models openai lists cannot be told"]


async def test_names_that_no_line_could_show_are_left_out(tmp_path: Path, autojump_clock: MockClock) -> None:
    longest = "x" * NAME_CHARACTERS
    server = Listing("a\nb", "a\x1b[31m", "\u202eevil", longest, longest + "x", "größe:8b")
    async with open_fake_runtime(tmp_path, choose=Servers({"openai": server}).choose) as runtime:
        assert await looked(runtime.state, 0, 1) == [(), (f"openai/{longest}", "openai/größe:8b")]


async def test_no_more_are_offered_of_a_server_than_a_list_can_hold(tmp_path: Path) -> None:
    server = Listing(*map(str, range(MOST + 1)))
    async with (
        open_fake_runtime(tmp_path, choose=Servers({"openai": server}).choose) as runtime,
        trio.open_nursery() as nursery,
    ):
        names = ModelNames(runtime.state, nursery)
        names.known()
        await wait_all_tasks_blocked()
        assert len(names.known()) == MOST
