"""Which provider and model answer, and why: the table of settings, and servers that are asked what they have."""

import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.providers import choose
from palyra_trio.providers.base import ProviderError
from palyra_trio.providers.choose import (
    OPENAI_MODEL,
    OPENAI_URL,
    Choice,
    Models,
    ModelSettings,
    Route,
    ollama_url,
    route,
)
from palyra_trio.providers.openai import OpenAIProvider
from palyra_trio.providers.script import Script, Turn
from tests.providers.fake_openai import Exchange, fake_openai

KEY = "sk-secret"
NAMED = "it was asked for by name"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (ModelSettings(), Route("offline", "rules", "nothing is configured")),
        (ModelSettings("offline/rules", openai_api_key=KEY), Route("offline", "rules", NAMED)),
        (ModelSettings("scripted//tmp/turns.json"), Route("scripted", "/tmp/turns.json", NAMED)),
        (ModelSettings("openai/gpt-x", openai_api_key=f"{KEY}\n"), Route("openai", "gpt-x", NAMED, OPENAI_URL, KEY)),
        (ModelSettings("openai/a/b", openai_base_url="http://h/v1"), Route("openai", "a/b", NAMED, "http://h/v1")),
        (ModelSettings("ollama/llama3:8b"), Route("ollama", "llama3:8b", NAMED, "http://127.0.0.1:11434/v1")),
        (ModelSettings("ollama/x", KEY, ollama_host="box"), Route("ollama", "x", NAMED, "http://box:11434/v1")),
        (
            ModelSettings(openai_api_key=KEY, ollama_host="box", anthropic_api_key="k"),
            Route(
                "openai", OPENAI_MODEL, "OPENAI_API_KEY is set, and this is the default model there", OPENAI_URL, KEY
            ),
        ),
    ],
)
def test_the_settings_decide(settings: ModelSettings, expected: Route) -> None:
    assert route(settings) == expected


def test_ollama_is_asked_which_models_it_has_only_where_somebody_has_named_it() -> None:
    assert ModelSettings("openai/gpt-x", KEY).servers == ("openai",)
    assert ModelSettings(ollama_host="box").servers == ModelSettings("ollama/x").servers == ("openai", "ollama")


def test_a_server_is_asked_only_where_no_model_is_named() -> None:
    base_url = route(ModelSettings(openai_base_url="http://h/v1", openai_api_key=KEY))
    ollama = route(ModelSettings(ollama_host="http://box:1", openai_api_key=""))
    assert (base_url.model, base_url.base_url, base_url.api_key) == ("", "http://h/v1", KEY)
    assert (ollama.model, ollama.base_url, ollama.api_key) == ("", "http://box:1/v1", "")
    assert base_url.why.startswith("OPENAI_BASE_URL is set")
    assert ollama.why.startswith("OLLAMA_HOST is set")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (ModelSettings("gpt-4"), "openai/NAME"),
        (ModelSettings("openai/"), "openai/NAME"),
        (ModelSettings("gemini/pro"), "the providers are offline, scripted, openai, ollama"),
        (ModelSettings("anthropic/claude"), "anthropic is not supported yet"),
        (ModelSettings(anthropic_api_key="sk-ant-secret"), "anthropic is not supported yet"),
        (ModelSettings("offline/llama"), "the only one is offline/rules"),
        (ModelSettings("openai/gpt-x"), "set OPENAI_API_KEY"),
        (ModelSettings(openai_base_url="localhost:8000"), "http://HOST:PORT/v1"),
    ],
)
def test_what_there_is_not_is_said_plainly(settings: ModelSettings, words: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        route(settings)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_key_shows_in_a_repr() -> None:
    settings = ModelSettings("openai/x", KEY, anthropic_api_key=KEY)
    assert KEY not in repr(settings) + repr(route(settings)) + repr(Models(settings))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:11434", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        (":8080", "http://127.0.0.1:8080/v1"),
        ("box", "http://box:11434/v1"),
        ("http://box:1234/", "http://box:1234/v1"),
        ("https://box.example", "https://box.example:443/v1"),
        ("http://box.example", "http://box.example:80/v1"),
        ("[::1]:11434", "http://[::1]:11434/v1"),
        ("[::1]", "http://[::1]:11434/v1"),
    ],
)
def test_ollama_host_has_many_forms(host: str, url: str) -> None:
    assert ollama_url(host) == url


@pytest.fixture
async def models() -> AsyncGenerator[Models]:
    async with aclosing(Models(ModelSettings(openai_api_key=KEY))) as models:
        yield models


async def chosen(settings: ModelSettings) -> Choice:
    async with aclosing(Models(settings)) as models:
        return await models.choose()


async def test_a_model_for_one_run_stands_in_for_the_configured_one(models: Models, tmp_path: Path) -> None:
    script = tmp_path / "turns.json"
    script.write_text('{"turns": [{"text": "hi"}]}')
    configured, asked, scripted = [await models.choose(name) for name in ("", "offline/rules", f"scripted/{script}")]
    assert (configured.provider.name, configured.model) == ("openai", OPENAI_MODEL)
    assert (asked.provider.name, asked.model) == ("offline", "rules")
    assert (scripted.provider.name, scripted.model, scripted.why) == ("scripted", str(script), NAMED)


async def test_a_script_is_read_in_a_thread_which_a_cancel_leaves(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, read = threading.Event(), list[str]()

    def read_slowly(path: Path) -> Script:
        goes_on.wait(5)
        read.append(str(path))
        return Script((Turn("hi"),))

    monkeypatch.setattr("palyra_trio.providers.script.load_script", read_slowly)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(models.choose, "scripted/slow.json")
            await wait_all_tasks_blocked()
            scope.cancel()
    assert read == []
    goes_on.set()


async def test_a_script_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"none\.json cannot be read"):
        await chosen(ModelSettings(f"scripted/{tmp_path}/none.json"))


@pytest.mark.parametrize(
    ("ids", "words"),
    [(["a", "b"], "lists 2 models: a, b"), ([], "lists no models"), (["m"] * 300, "and 250 more")],
)
async def test_a_server_that_does_not_list_exactly_one_model_leaves_the_choice_to_the_user(
    ids: list[str], words: str
) -> None:
    async def listing(exchange: Exchange) -> None:
        await exchange.answer(200, {"data": [{"id": each} for each in ids]})

    async with fake_openai(listing) as server:
        with pytest.raises(ConfigInvalid, match=words) as caught:
            await chosen(ModelSettings(openai_base_url=server.base_url))
    assert caught.value.remedy == "name the model, as openai/NAME"


async def test_the_one_model_that_a_server_lists_is_used() -> None:
    async def listing(exchange: Exchange) -> None:
        await exchange.answer(200, {"data": [{"id": "only"}]})

    async with fake_openai(listing, listing) as server:
        by_url = await chosen(ModelSettings(openai_base_url=server.base_url, openai_api_key=KEY))
        by_host = await chosen(ModelSettings(ollama_host=server.base_url.removesuffix("/v1")))
    assert (by_url.provider.name, by_url.model, by_host.provider.name, by_host.model) == (
        "openai",
        "only",
        "ollama",
        "only",
    )
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in server.asked[1].headers
    assert isinstance(by_url.provider, OpenAIProvider)
    assert by_url.provider.base_url == server.base_url


async def test_a_server_without_a_listing_can_be_used_by_naming_the_model() -> None:
    async def nothing(exchange: Exchange) -> None:
        await exchange.answer(404, {"detail": "Not Found"})

    async with fake_openai(nothing) as server:
        settings = ModelSettings(openai_base_url=server.base_url)
        with pytest.raises(ConfigInvalid, match="openai/NAME"):
            await chosen(settings)
        assert (await chosen(attrs.evolve(settings, model="openai/x"))).model == "x"


async def test_a_server_that_is_not_there_is_a_network_failure_with_a_remedy() -> None:
    async with fake_openai() as server:
        gone = server.base_url
    with pytest.raises(ProviderError) as caught:
        await chosen(ModelSettings(openai_base_url=gone))
    assert caught.value.kind == "network"
    assert caught.value.remedy


async def test_a_server_that_never_lists_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.disconnected()

    monkeypatch.setattr(choose, "LISTING_S", 0.05)
    async with fake_openai(silent) as server:
        with pytest.raises(ProviderError, match="did not list its models") as caught:
            await chosen(ModelSettings(openai_base_url=server.base_url))
    assert (caught.value.kind, caught.value.remedy) == ("network", "name the model, as openai/NAME")


def test_choosing_the_offline_provider_loads_no_http_library() -> None:
    code = """
import sys, trio
from palyra_trio.providers.choose import Models, ModelSettings
trio.run(Models(ModelSettings()).choose)
sys.exit(bool({"httpx2", "cattrs"} & sys.modules.keys()))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_reference_goes_before_a_key_and_chooses_openai() -> None:
    found = route(ModelSettings(api_key_reference="vault:OPENAI", openai_api_key=KEY))
    assert (found.provider, found.model, found.api_key, found.api_key_reference) == (
        "openai",
        OPENAI_MODEL,
        "",
        "vault:OPENAI",
    )
    assert found.why.startswith("model.api_key is set")


async def test_a_reference_is_looked_up_for_each_run_and_again_where_the_server_refuses_the_key() -> None:
    looked_up: list[str] = []

    def resolve(reference: str) -> str:
        looked_up.append(reference)
        return f"key-{len(looked_up)}"

    async def refusing(exchange: Exchange) -> None:
        await exchange.answer(401, {"error": {"message": "no"}})

    async def listing(exchange: Exchange) -> None:
        await exchange.answer(200, {"data": [{"id": "only"}]})

    async with fake_openai(refusing, listing) as server:
        settings = ModelSettings(openai_base_url=server.base_url, api_key_reference="env:KEY")
        async with aclosing(Models(settings, resolve)) as models:
            assert (await models.choose()).model == "only"
    assert looked_up == ["env:KEY"] * 2
    assert [each.headers["authorization"] for each in server.asked] == ["Bearer key-1", "Bearer key-2"]


async def test_a_reference_that_leads_nowhere_is_said() -> None:
    with pytest.raises(ConfigInvalid, match="env:KEY cannot be looked up here"):
        await chosen(ModelSettings(api_key_reference="env:KEY"))
