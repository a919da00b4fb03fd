"""The contract of a provider: what a failure carries, and that every provider of the package fits the protocol."""

from typing import Any

import pytest

from palyra_trio.core.errors import PeerError, ProviderFailed
from palyra_trio.providers.base import Provider, ProviderError
from palyra_trio.providers.offline import OfflineProvider
from palyra_trio.providers.openai import OpenAIProvider
from palyra_trio.providers.script import Script, Turn
from palyra_trio.providers.scripted import ScriptedProvider

NO_CLIENT: Any = None
PROVIDERS: list[Provider] = [
    OfflineProvider(),
    OpenAIProvider("ollama", "http://127.0.0.1:11434/v1", "", NO_CLIENT),
    ScriptedProvider(Script((Turn("a"),))),
]


def test_a_failure_says_what_it_is_and_whether_to_try_again() -> None:
    error = ProviderError("rate_limited", "slow down", retryable=True, retry_after_s=7, remedy="wait")
    assert (error.kind, error.retryable, error.retry_after_s) == ("rate_limited", True, 7)
    assert str(error) == "slow down (wait)"


def test_a_failure_is_not_retried_unless_it_says_so_and_is_the_peers() -> None:
    error = ProviderError("auth", "no")
    assert not error.retryable
    assert isinstance(error, ProviderFailed)
    assert isinstance(error, PeerError)
    assert error.code == "provider_failed"


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
def test_a_provider_has_the_name_that_models_are_asked_for_by(provider: Provider) -> None:
    assert provider.name in {"offline", "ollama", "scripted"}
