"""Which provider and model answer a run, and why: from the settings alone, and what a server lists where they are silent.

How the settings come about (flags, environment, files) is not known here. An HTTP library is loaded only when a
provider that needs one is chosen.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.providers.base import Provider, ProviderError
from palyra_trio.providers.offline import MODEL as RULES
from palyra_trio.providers.offline import OfflineProvider

if TYPE_CHECKING:
    import httpx2

    from palyra_trio.providers.openai import OpenAIProvider

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-4.1-mini"  # streams and calls tools for every account, without a verified organisation
OLLAMA_URL = "http://127.0.0.1:11434/v1"
OLLAMA_PORT = 11434
LISTING_S = 15.0
SHOWN_MODELS = 50
SCRIPT_THREADS = 4  # a file that does not answer, such as a FIFO, holds one
KNOWN = ("offline", "scripted", "openai", "ollama")
NOT_YET = ("anthropic",)


@attrs.frozen
class ModelSettings:
    """What the user has said: `model` is empty or `provider/model`, a stream may be silent for `idle_s`.

    `api_key_reference` says where the key for OpenAI lies, and goes before the key itself. The others are the variables of
    the same name.
    """

    model: str = ""
    openai_api_key: str = attrs.field(default="", repr=False)
    openai_base_url: str = ""
    ollama_host: str = ""
    anthropic_api_key: str = attrs.field(default="", repr=False)
    idle_s: float = 120.0
    api_key_reference: str = ""

    @property
    def servers(self) -> tuple[str, ...]:
        """The providers to ask which models there are. Ollama needs no key, and is asked only where somebody has named it."""
        named = self.ollama_host or self.model.startswith("ollama/")
        return ("openai", "ollama") if named else ("openai",)


@attrs.frozen
class Choice:
    """The provider and the model's name there. `why` is one short sentence for the user and the tape."""

    provider: Provider
    model: str
    why: str


@attrs.frozen
class Route:
    """What the settings decide. An empty `model` is the one model that the server at `base_url` lists."""

    provider: str
    model: str
    why: str
    base_url: str = ""
    api_key: str = attrs.field(default="", repr=False)
    api_key_reference: str = ""


def route(settings: ModelSettings) -> Route:
    """Decide. Raises ConfigInvalid when the settings name what there is not, or only what is not supported yet."""
    if settings.model:
        return _named(settings)
    if settings.openai_base_url:
        return _openai(settings, "", "OPENAI_BASE_URL is set, and this is the only model that the server lists")
    if settings.api_key_reference:
        return _openai(settings, OPENAI_MODEL, "model.api_key is set, and this is the default model there")
    if settings.openai_api_key:
        return _openai(settings, OPENAI_MODEL, "OPENAI_API_KEY is set, and this is the default model there")
    if settings.ollama_host:
        return _ollama(settings, "", "OLLAMA_HOST is set, and this is the only model that it lists")
    if settings.anthropic_api_key:
        raise ConfigInvalid(
            "ANTHROPIC_API_KEY is set, but the provider anthropic is not supported yet",
            remedy="set OPENAI_API_KEY, OPENAI_BASE_URL or OLLAMA_HOST, or name the model offline/rules",
        )
    return Route("offline", RULES, "nothing is configured")


def names_a_file(model: str) -> bool:
    """Return whether to choose `model` is to read a file of this machine, so that it is not for everybody to name."""
    return model.startswith("scripted/")


def ollama_url(host: str) -> str:
    """Return the OpenAI-compatible base URL of what OLLAMA_HOST says: `host`, `host:port`, `:port` or a URL.

    An address that only a server can use, 0.0.0.0, becomes the one that a client reaches it by.
    """
    scheme, found, rest = host.strip().rstrip("/").rpartition("://")
    name, colon, port = rest.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = rest, "443" if scheme == "https" else "80" if found else str(OLLAMA_PORT)
    if name in {"", "0.0.0.0"}:
        name = "127.0.0.1"
    return f"{scheme or 'http'}://{name}:{port}/v1"


def _named(settings: ModelSettings) -> Route:
    provider, _, model = settings.model.partition("/")
    why = "it was asked for by name"
    if provider in NOT_YET:
        raise ConfigInvalid(f"the provider {provider} is not supported yet", remedy=f"there are {', '.join(KNOWN)}")
    if provider not in KNOWN or not model:
        raise ConfigInvalid(
            f"the model {settings.model!r} is not of the form provider/model with a known provider",
            remedy=f"the providers are {', '.join(KNOWN)}: write openai/NAME, ollama/NAME, scripted/FILE or offline/{RULES}",
        )
    if provider == "offline" and model != RULES:
        raise ConfigInvalid(f"there is no model {settings.model!r}", remedy=f"the only one is offline/{RULES}")
    if provider == "openai":
        return _openai(settings, model, why)
    return _ollama(settings, model, why) if provider == "ollama" else Route(provider, model, why)


def _openai(settings: ModelSettings, model: str, why: str) -> Route:
    url = settings.openai_base_url.strip() or OPENAI_URL
    if not url.startswith(("http://", "https://")):
        raise ConfigInvalid(f"OPENAI_BASE_URL {url!r} is no HTTP URL", remedy="write it as http://HOST:PORT/v1")
    if settings.api_key_reference:
        return Route("openai", model, why, url, api_key_reference=settings.api_key_reference)
    if not settings.openai_api_key and not settings.openai_base_url:
        raise ConfigInvalid(
            f"openai/{model} needs a key",
            remedy="set OPENAI_API_KEY, or model.api_key to a reference, or OPENAI_BASE_URL for another server",
        )
    return Route("openai", model, why, url, settings.openai_api_key.strip())


def _ollama(settings: ModelSettings, model: str, why: str) -> Route:
    return Route("ollama", model, why, ollama_url(settings.ollama_host) if settings.ollama_host else OLLAMA_URL)


def _no_references(reference: str) -> str:
    raise ConfigInvalid(f"{reference} cannot be looked up here", remedy="set OPENAI_API_KEY")


@attrs.define
class Models:
    """The models that one process can reach. It owns their HTTP client: `async with aclosing(Models(settings)) as ...`.

    `resolve` returns the key that a reference stands for, and raises a PalyraError where it stands for none; it runs in a
    thread. It is asked for each run, and once more when the server does not take the key.
    """

    settings: ModelSettings
    resolve: Callable[[str], str] = attrs.field(default=_no_references, repr=False)
    _client: "httpx2.AsyncClient | None" = attrs.field(default=None, init=False, repr=False)
    _files: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(SCRIPT_THREADS), init=False, repr=False
    )

    async def choose(self, model: str = "", base_url: str = "") -> Choice:
        """Return the provider and model for a run; `model` and `base_url` stand in for those of the settings.

        Asks a server what it lists when nobody named a model. Raises ConfigInvalid as `route` does, when a server
        lists not exactly one model, and what `resolve` raises; ProviderError when a server that must be asked cannot be. A file is read in a thread,
        which a cancel leaves to end by itself.
        """
        settings = self.settings
        chosen = route(
            attrs.evolve(settings, model=model or settings.model, openai_base_url=base_url or settings.openai_base_url)
        )
        if chosen.provider == "offline":
            return Choice(OfflineProvider(), chosen.model, chosen.why)
        if chosen.provider == "scripted":
            provider = await trio.to_thread.run_sync(
                _scripted, chosen.model, abandon_on_cancel=True, limiter=self._files
            )
            return Choice(provider, chosen.model, chosen.why)
        from palyra_trio.providers.openai import OpenAIProvider, http_client

        self._client = self._client or http_client()
        key, look_again = chosen.api_key, None
        if chosen.api_key_reference:
            look_again = partial(self._look_up, chosen.api_key_reference)
            key = await look_again()
        server = OpenAIProvider(
            chosen.provider, chosen.base_url, key, self._client, self.settings.idle_s, look_again=look_again
        )
        return Choice(server, chosen.model or await _only_model(server), chosen.why)

    async def _look_up(self, reference: str) -> str:
        return await trio.to_thread.run_sync(self.resolve, reference, abandon_on_cancel=True, limiter=self._files)

    async def aclose(self) -> None:
        """Close the idle connections. No stream may be open."""
        if self._client is not None:
            await self._client.aclose()


async def _only_model(provider: "OpenAIProvider") -> str:
    remedy = f"name the model, as {provider.name}/NAME"
    names: tuple[str, ...] | None = None
    with trio.move_on_after(LISTING_S):
        try:
            names = await provider.list_models()
        except ProviderError as error:
            if error.kind not in {"bad_request", "malformed"}:
                raise
            raise ConfigInvalid(f"no model is named, and {error.message}", remedy=remedy) from error
    if names is None:
        message = f"{provider.name} at {provider.place} did not list its models within {LISTING_S:g} s"
        raise ProviderError("network", message, retryable=True, remedy=remedy)
    if len(names) != 1:
        more = f" and {len(names) - SHOWN_MODELS} more" if len(names) > SHOWN_MODELS else ""
        listed = f"lists {len(names)} models: {', '.join(names[:SHOWN_MODELS])}{more}" if names else "lists no models"
        raise ConfigInvalid(f"no model is named, and {provider.name} at {provider.place} {listed}", remedy=remedy)
    return names[0]


def _scripted(file: str) -> Provider:
    from palyra_trio.providers.script import load_script
    from palyra_trio.providers.scripted import ScriptedProvider

    return ScriptedProvider(load_script(Path(file)), file)
