"""What a form that starts a run offers: agents, models that are known, and bounds as they hold."""

from pathlib import Path

import attrs
import pytest
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.commands import DefineAgent, RemoveAgent
from palyra_trio.core.config import MIB, AttachmentsConfig, ModelConfig
from palyra_trio.core.run import RunState
from palyra_trio.core.tape import Input, RoutingDecision, StatusChange
from palyra_trio.transports.console.starting import bounds_in_words, offer
from palyra_trio.transports.console.transcript import RunStory
from tests.fakes import CONFIG, ME, open_fake_runtime
from tests.runtime.test_model_names import Listing, Servers
from tests.transports.console.test_transcript import ASKED, story

STARTED = StatusChange(RunState.QUEUED, RunState.RUNNING)


def answered_by(provider: str, model: str) -> RunStory:
    return story(ASKED, STARTED, RoutingDecision(provider, model, "the test says so"))


async def test_models_are_offered_that_the_configuration_agents_or_the_session_name(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, model=ModelConfig(name="openai/one"))
    async with open_fake_runtime(tmp_path, config=config) as runtime:
        await runtime.do(DefineAgent(AgentSpec("scribe", model="scripted/file")))
        mine = attrs.evolve(ME, local=True)
        stories = [answered_by("openai", "one"), answered_by("ollama", "used"), story()]
        found = await offer(runtime.gateway, mine, "scribe", stories)
        assert found.models == ("openai/one", "scripted/file", "ollama/used", "offline/rules")
        assert (found.agents, found.answering, found.model) == (("default", "scribe"), "scribe", "")
        from_elsewhere = await offer(runtime.gateway, attrs.evolve(ME, local=False), "scribe")
        assert from_elsewhere.models == ("openai/one", "offline/rules")


async def test_models_that_a_server_lists_are_offered_from_the_second_look_on(tmp_path: Path) -> None:
    servers = Servers({"ollama": Listing("llama3:8b")})
    async with open_fake_runtime(tmp_path, choose=servers.choose) as runtime:
        first = await offer(runtime.gateway, ME, "default")
        await wait_all_tasks_blocked()
        second = await offer(runtime.gateway, ME, "default")
    assert (first.models, second.models) == (("offline/rules",), ("offline/rules", "ollama/llama3:8b"))


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (AttachmentsConfig(), "32 files at most, 32 MiB together"),
        (AttachmentsConfig(3, 5 * MIB), "3 files at most, 5 MiB each, 32 MiB together"),
        (AttachmentsConfig(1, 1000), "one file at most, 1000 bytes each, 32 MiB together"),
    ],
)
def test_bounds_are_said_as_they_hold(bounds: AttachmentsConfig, words: str) -> None:
    assert bounds_in_words(bounds) == words


async def test_who_goes_on_is_offered_what_the_last_run_was_given_where_that_may_be_chosen(tmp_path: Path) -> None:
    async with open_fake_runtime(tmp_path) as runtime:
        await runtime.do(DefineAgent(AgentSpec("scribe")))
        last = attrs.evolve((await runtime.run(agent="scribe")).one(Input), model="scripted/file")
        stories = [answered_by("ollama", "used"), story(last)]
        mine, theirs = (attrs.evolve(ME, local=local) for local in (True, False))
        found = await offer(runtime.gateway, mine, "default", stories)
        assert (found.answering, found.model) == ("scribe", "scripted/file")
        assert "scripted/file" in found.models
        from_elsewhere = await offer(runtime.gateway, theirs, "default", stories)
        assert (from_elsewhere.answering, from_elsewhere.model) == ("scribe", "")
        await runtime.do(RemoveAgent("scribe"))
        assert (await offer(runtime.gateway, mine, "default", stories)).answering == "default"
