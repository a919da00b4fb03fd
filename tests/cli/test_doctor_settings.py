"""Whether the model's server can be reached, as the doctor finds out. What else is configured is looked at in test_doctor."""

import os
from pathlib import Path

import pytest
import trio

from palyra_trio.cli import doctor_settings
from palyra_trio.cli.doctor_settings import model, provider
from palyra_trio.cli.settings import load_settings
from palyra_trio.runtime.diagnosis import Check
from tests.cli.conftest import Home
from tests.providers.fake_openai import Exchange, Handler, fake_openai

KEY = "sk-the-key-of-the-person"
CLOSED = "http://127.0.0.1:9/v1"  # where nobody answers


def listing(*names: str) -> Handler:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(200, {"data": [{"id": name} for name in names]})

    return answer


def refusing(status: int, text: str) -> Handler:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(status, {"error": {"message": text}})

    return answer


async def asked(home: Home, name: str, *handlers: Handler) -> tuple[Check | None, list[Exchange]]:
    """Return what is found of a server that answers so, and what it was asked."""
    async with fake_openai(*handlers) as server:
        environ = {**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": KEY, "PALYRA_MODEL": name}
        settings = load_settings({}, environ, home.folder)
        return await trio.to_thread.run_sync(provider, settings), server.asked


@pytest.mark.parametrize(
    ("handler", "health", "said"),
    [
        (listing("other", "some"), "ok", "can be reached, and has some"),
        (listing("other"), "warning", "can be reached, and does not list some"),
        (refusing(404, "no such page"), "ok", "it can be reached; which models it has it does not say"),
        (refusing(401, "wrong key"), "fault", "wrong key"),
        (refusing(503, "too busy"), "fault", "too busy"),
    ],
    ids=["has it", "has it not", "lists none", "refuses the key", "is overloaded"],
)
async def test_a_server_is_asked_which_models_it_has_and_nothing_else(
    home: Home, handler: Handler, health: str, said: str
) -> None:
    found, exchanges = await asked(home, "openai/some", handler)
    assert found is not None
    assert (found.name, found.health, said in found.said) == ("provider", health, True)
    assert [(each.target, each.headers["authorization"]) for each in exchanges] == [("/v1/models", f"Bearer {KEY}")]
    assert KEY not in repr(found)


async def test_where_no_model_is_named_the_only_one_is_found_and_of_several_none(home: Home) -> None:
    found, _ = await asked(home, "", listing("only"), listing("only"))
    assert found is not None
    assert (found.health, found.said.endswith("has only")) == ("ok", True)
    found, _ = await asked(home, "", listing("one", "two"))
    assert found is not None
    assert (found.health, "lists 2 models: one, two" in found.said) == ("fault", True)


async def test_a_server_that_says_nothing_is_not_waited_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.disconnected()

    monkeypatch.setattr(doctor_settings, "MODEL_S", 0.1)
    found, _ = await asked(home, "openai/some", silent)
    assert found is not None
    assert (found.health, found.said) == ("fault", "it did not say within 0.1 s which models it has")


def test_a_server_that_is_not_there_is_a_fault(home: Home) -> None:
    environ = {**os.environ, "OPENAI_BASE_URL": CLOSED, "PALYRA_MODEL": "openai/some"}
    found = provider(load_settings({}, environ, home.folder))
    assert found is not None
    assert (found.health, "cannot be reached" in found.said) == ("fault", True)


def test_where_no_server_would_answer_none_is_asked(home: Home, tmp_path: Path) -> None:
    for environ in ({}, {"PALYRA_MODEL": f"scripted/{tmp_path / 'none'}"}, {"PALYRA_MODEL": "openai/some"}):
        settings = load_settings({}, {**os.environ, **environ}, home.folder)
        assert provider(settings) is None
    assert model(settings).health == "fault"  # which tells that the last one lacks a key
