"""What the doctor looks at of what is configured: files, policies, the vault, the model and its server, the sandbox.

No model is asked for an answer: its server is asked which models it has. What is started are the canaries that try to get
out of the sandbox.
"""

import os
from contextlib import aclosing
from pathlib import Path

import attrs
import trio

from palyra_trio.cli.open import model_settings, state_dir
from palyra_trio.cli.settings import Settings, current_folder, load_settings
from palyra_trio.cli.vault_place import vault_store
from palyra_trio.core.config import Config
from palyra_trio.core.errors import PalyraError
from palyra_trio.guard.auth import user_principal
from palyra_trio.guard.policy_files import read_policy_files
from palyra_trio.guard.redactor import Redactor
from palyra_trio.guard.secret_refs import References
from palyra_trio.guard.vault_keeper import VaultKeeper
from palyra_trio.providers.base import ProviderError
from palyra_trio.providers.choose import Models, ModelSettings, route
from palyra_trio.runtime.diagnosis import MODEL_S, Check, refused, sandbox_check


def configured() -> tuple[Check, Settings | None]:
    try:
        settings = load_settings({}, os.environ, current_folder())
    except PalyraError as error:
        return refused("configuration", error), None
    said = ", ".join(settings.files) or "no file was found"
    if settings.warnings:
        remedy = "palyra-trio trust shows the folder's file, and accepts it"
        return Check("configuration", "warning", "; ".join(settings.warnings), remedy), settings
    return Check("configuration", "ok", said), settings


def policies(folder: Path, config: Config) -> Check:
    from palyra_trio.runtime.policies import check_set

    try:
        files = read_policy_files(folder)
        trio.run(check_set, files, config.policy)
    except PalyraError as error:
        return refused("policies", error)
    return Check("policies", "ok", f"preset {config.policy.preset}, {len(files)} of your files in {folder}")


def model(settings: Settings) -> Check:
    """Say which model would answer, and look its key up."""
    try:
        found = route(_models_of(settings))
        if found.api_key_reference:
            _look_up(found.api_key_reference)
    except PalyraError as error:
        return refused("model", error)
    if found.provider == "offline":
        remedy = "set OPENAI_API_KEY, OPENAI_BASE_URL or OLLAMA_HOST for a model that understands"
        return Check("model", "warning", f"{found.provider}/{found.model} answers: {found.why}", remedy)
    return Check("model", "ok", f"{found.provider}/{found.model or '(what the server lists)'} answers: {found.why}")


def provider(settings: Settings) -> Check | None:
    """Ask the model's server which models it has, for MODEL_S at most; None where no server would answer."""
    try:
        found = route(_models_of(settings))
        return trio.run(_ask_server, _models_of(settings)) if found.provider in ("openai", "ollama") else None
    except PalyraError:
        return None  # `model` tells of it


async def _ask_server(settings: ModelSettings) -> Check:
    from palyra_trio.providers.openai import OpenAIProvider

    name = "provider"
    try:
        with trio.fail_after(MODEL_S):
            async with aclosing(Models(settings, _look_up)) as models:
                choice = await models.choose()
                assert isinstance(choice.provider, OpenAIProvider)
                place = choice.provider.place
                listed = await choice.provider.list_models()
    except trio.TooSlowError:
        return Check(name, "fault", f"it did not say within {MODEL_S:g} s which models it has", "check the base URL")
    except ProviderError as error:
        if error.kind in ("bad_request", "malformed"):
            return Check(name, "ok", f"it can be reached; which models it has it does not say: {error.message}")
        return refused(name, error)
    except PalyraError as error:
        return refused(name, error)
    if choice.model not in listed:
        said = f"{place} can be reached, and does not list {choice.model}"
        return Check(name, "warning", said, f"it lists {', '.join(listed[:10]) or 'none'}; set model.name")
    return Check(name, "ok", f"{place} can be reached, and has {choice.model}")


def _models_of(settings: Settings) -> ModelSettings:
    own, here = model_settings(settings), settings.config.model
    return attrs.evolve(own, model=here.name, openai_base_url=here.base_url or own.openai_base_url)


def _look_up(reference: str) -> str:
    """Return the key that a reference stands for. Raises a PalyraError where it stands for none."""
    keeper = VaultKeeper(vault_store(), Redactor())
    keeper.refresh()
    user = user_principal(os.getuid())
    return References(dict(os.environ), lambda name: keeper.value(user, name)).resolve(reference).reveal()


def vault() -> Check:
    store = vault_store()
    try:
        file = store.read()
    except PalyraError as error:
        return refused("vault", error)
    if file is None:
        return Check("vault", "ok", "there is none; palyra-trio secrets set NAME makes one")
    try:
        store.open()
    except PalyraError as error:
        return attrs.evolve(refused("vault", error), health="warning", said=f"it is locked: {error.message}")
    return Check("vault", "ok", "it can be opened")


def sandbox(config: Config) -> Check:
    """Let the canaries loose as the daemon does at its start, and say in which tier programs run."""
    try:
        in_force, *missing = trio.run(_sandbox_lines, config)
    except PalyraError as error:
        return refused("sandbox", error)
    return sandbox_check(in_force, missing)


async def _sandbox_lines(config: Config) -> tuple[str, ...]:
    from palyra_trio.daemon import sandbox_settings
    from palyra_trio.tools import overlay
    from palyra_trio.tools.sandbox import open_sandbox

    folders = overlay.places(state_dir())
    async with open_sandbox(sandbox_settings(config.sandbox), Path.home(), layers_in=folders) as opened:
        lines = opened.report.lines()
        if opened.tier == 4 and isinstance(opened.layers, str):
            lines += (
                f"what programs do to files is not captured: {opened.layers}",
                "  pip install 'palyra-trio[sandbox]'",
            )
        return lines
