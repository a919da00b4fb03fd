"""The tree: frozen, with defaults that stand in the design, and without a place for a secret."""

import attrs
import pytest

from palyra_trio.core.config import MIB, Config, Credentials
from palyra_trio.core.config_values import KEYS, value_of
from palyra_trio.core.session import WhenBusy

# What the design promises whoever configures nothing.
DEFAULTS = {
    "limits.turns": 50,
    "limits.tool_calls": 200,
    "limits.active_s": 30 * 60,
    "limits.tool_s": 10 * 60,
    "session.when_busy": WhenBusy.FOLLOWUP,
    "session.mailbox": 64,
    "approval.expires_s": 10 * 60,
    "journal.queue_bytes": 64 * MIB,
    "attachments.max_count": 32,
    "attachments.max_bytes": 100 * MIB,
    "rates.admin_per_s": 30,
    "rates.reads_per_s": 120,
    "latency.journal_write_ms": 25,
    "latency.gate_ms": 5,
    "latency.first_event_ms": 100,
    "grpc.host": "127.0.0.1",
    "grpc.tls_certificate_file": "",
    "otel.endpoint": "",
    "otel.content": False,
    "http.tls": False,
    "log.file": "",
    "workspaces.roots": {},
}


def test_the_defaults_are_those_of_the_design() -> None:
    assert {key: value_of(Config(), key) for key in DEFAULTS} == DEFAULTS


def test_no_section_can_be_changed() -> None:
    config = Config()
    for section in attrs.fields(Config):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(config, section.name, None)
        body = getattr(config, section.name)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(body, attrs.fields(type(body))[0].name, None)


def test_the_only_keys_for_secrets_take_a_reference() -> None:
    secret = {"api_key", "token", "secret", "password", "authorization"}
    assert [key for key in KEYS if key.rpartition(".")[2] in secret] == ["model.api_key", "otel.authorization"]


def test_credentials_do_not_print_their_keys() -> None:
    said = repr(Credentials(openai_api_key="hush", anthropic_api_key="hush", ollama_host="there"))
    assert "hush" not in said
    assert "there" in said
