"""What a form that starts a run offers: agents, models that are known, and bounds as they hold."""

from pathlib import Path

import attrs
import pytest

from palyra_trio.core.agents import AgentSpec
from palyra_trio.core.commands import DefineAgent
from palyra_trio.core.config import MIB, AttachmentsConfig, ModelConfig
from palyra_trio.transports.console.starting import bounds_in_words, offer
from tests.fakes import CONFIG, ME, open_fake_runtime


async def test_models_are_offered_that_the_configuration_agents_or_the_session_name(tmp_path: Path) -> None:
    config = attrs.evolve(CONFIG, model=ModelConfig(name="openai/one"))
    async with open_fake_runtime(tmp_path, config=config) as runtime:
        await runtime.do(DefineAgent(AgentSpec("scribe", model="scripted/file")))
        mine = attrs.evolve(ME, local=True)
        found = await offer(runtime.gateway, mine, "scribe", ["ollama/used", "openai/one", ""])
        assert found.models == ("openai/one", "scripted/file", "ollama/used", "offline/rules")
        assert (found.agents, found.answering) == (("default", "scribe"), "scribe")
        from_elsewhere = await offer(runtime.gateway, attrs.evolve(ME, local=False), "scribe")
        assert from_elsewhere.models == ("openai/one", "offline/rules")


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
