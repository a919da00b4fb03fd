"""What a key may hold, what is refused for it, and that the schema says the same."""

import json
from typing import Any

import attrs
import jsonschema
import pytest

from palyra_trio.core.config import Config
from palyra_trio.core.config_values import TOOL_PATTERNS_MAX, schema, value_of
from palyra_trio.core.layers import Layer, faults, merge

GOOD: dict[str, Any] = {
    "model": {
        "name": "openai/some/model",
        "base_url": "http://127.0.0.1:8080/v1",
        "idle_s": 30,
        "attempts": 1,
        "api_key": "vault:OPENAI",
    },
    "limits": {"turns": 5, "tool_calls": 10, "active_s": 60, "tool_s": 20},
    "session": {"when_busy": "reject", "mailbox": 2},
    "policy": {"preset": "strict", "allow": ["files.*"], "ask": ["clock.now"], "deny": ["*"]},
    "approval": {"expires_s": 60},
    "notify": {
        "command": ["notify-send", "it waits, see", ""],
        "webhook_url": "https://hooks.example/T/1?x=y",
        "webhook_secret_env": "HOOK_KEY",
    },
    "sandbox": {
        "read_only": ["/opt/tools"],
        "path": ["/opt/tools/bin"],
        "user": "palyra-tools",
        "bare": True,
        "pids": 64,
        "memory_mib": 512,
        "output_mib": 1,
    },
    "journal": {"queue_bytes": 1024, "min_free_bytes": 0},
    "daemon": {"drain_s": 0},
    "context": {"budget_bytes": 1000},
    "attachments": {"max_count": 1, "max_bytes": 10},
    "workspaces": {"roots": {"user:alice": ["/srv/alice", "/srv/shared"], "team:ops": []}},
    "grpc": {"host": "::1", "port": 0, "tls_certificate_file": "a.pem", "tls_key_file": "b.pem", "tls": True},
    "quic": {
        "enabled": False,
        "host": "0.0.0.0",
        "port": 0,
        "retry": "always",
        "names": ["daemon.example", "192.0.2.7", "2001:db8::7"],
        "client_ca_file": "clients.pem",
        "key_log_file": "keys.log",
        "qlog_dir": "qlog",
    },
    "http": {
        "enabled": False,
        "host": "0.0.0.0",
        "port": 0,
        "names": ["palyra.example"],
        "tls_certificate_file": "a.pem",
        "tls_key_file": "b.pem",
        "tls": True,
        "open_metrics": True,
    },
    "rates": {"admin_per_s": 3, "reads_per_s": 12},
    "latency": {"journal_write_ms": 1, "gate_ms": 2, "first_event_ms": 3},
    "otel": {"endpoint": "http://127.0.0.1:4318", "authorization": "vault:COLLECTOR", "content": True},
    "log": {"level": "debug", "format": "text", "file": "/var/log/palyra-trio.log"},
}


def fault_of(section: str, key: str, value: Any) -> str:
    (fault,) = faults(Layer("f.toml", {section: {key: value}}))
    return fault


def test_every_key_can_be_set_and_is_held_as_it_was_written() -> None:
    config, origins = merge([Layer("f.toml", GOOD)])

    assert {section: set(body) for section, body in GOOD.items()} == {
        section.name: {key.name for key in attrs.fields(type(getattr(config, section.name)))}
        for section in attrs.fields(Config)
    }
    for section, body in GOOD.items():
        for key, value in body.items():
            assert json.loads(json.dumps(value_of(config, f"{section}.{key}"))) == value
    assert set(origins.values()) == {"f.toml"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("limits.turns", "80"),
        ("limits.turns", True),
        ("limits.turns", 1.0),
        ("limits.turns", -1),
        ("limits.turns", 2**60),
        ("daemon.drain_s", -1),
        ("model.name", 3),
        ("model.name", "gpt"),
        ("model.name", "openai/"),
        ("model.base_url", "127.0.0.1:80"),
        ("model.base_url", "file:///etc/passwd"),
        ("model.base_url", "http://h:99999"),
        ("model.base_url", "http://[::1"),
        ("session.when_busy", ["reject"]),
        ("policy.allow", "files.read"),
        ("policy.allow", [3]),
        ("policy.allow", [""]),
        ("policy.allow", ["*.read"]),
        ("policy.deny", ["files.read"] * (TOOL_PATTERNS_MAX + 1)),
        ("policy.deny", {"files": True}),
        ("notify.command", "notify-send it waits"),
        ("sandbox.read_only", ["tools"]),
        ("sandbox.path", ["~/bin"]),
        ("sandbox.bare", 1),
        ("sandbox.pids", 0),
        ("log.file", "daemon.log"),
        ("otel.endpoint", "127.0.0.1:4318"),
        ("otel.endpoint", "http://collector.example:4318"),
        ("otel.endpoint", "https://me:hunter2@collector.example"),
        ("otel.content", "yes"),
        ("log.file", "/var/log/\0"),
        ("notify.command", ["notify-send", 3]),
        ("notify.command", [""]),
        ("notify.command", ["./planted.sh"]),
        ("notify.command", ["bin/planted"]),
        ("notify.command", ["notify-send", "a\0b"]),
        ("notify.webhook_url", "hooks.example"),
        ("notify.webhook_url", "http://hooks.example/"),
        ("notify.webhook_url", "http://127.0.0.1.hooks.example/"),
        ("notify.webhook_url", "https://me:hunter2@hooks.example/"),
        ("notify.webhook_secret_env", "HOOK KEY"),
        ("workspaces.roots", ["/srv"]),
        ("workspaces.roots", {"alice": ["/srv"]}),
        ("workspaces.roots", {"user:alice": "/srv"}),
        ("workspaces.roots", {"user:alice": ["srv/alice"]}),
        ("workspaces.roots", {"user:alice": ["/srv\0"]}),
        ("workspaces.roots", {"user:alice": [7]}),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_and_never_coerced(key: str, value: Any) -> None:
    section, _, name = key.partition(".")

    assert fault_of(section, name, value).startswith(f"f.toml: {key}: ")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://localhost/x", "http://[::1]:1/", "https://a.example"])
def test_a_webhook_is_reached_over_tls_or_on_this_machine(url: str) -> None:
    assert faults(Layer("f", {"notify": {"webhook_url": url}})) == []


def test_a_secret_where_the_name_of_its_variable_belongs_is_not_repeated() -> None:
    assert "hunter-2" not in fault_of("notify", "webhook_secret_env", "hunter-2")


def test_the_schema_accepts_what_is_right_and_refuses_what_is_wrong() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())

    assert validator.is_valid(GOOD)
    assert validator.is_valid({})
    all_wrong: tuple[dict[str, Any], ...] = (
        {"modle": {}},
        {"limits": {"turn": 1}},
        {"limits": {"turns": 0}},
        {"limits": {"turns": "1"}},
        {"session": {"when_busy": "x"}},
        {"policy": {"allow": ["*a"]}},
        {"policy": {"deny": ["a"] * (TOOL_PATTERNS_MAX + 1)}},
        {"workspaces": {"roots": {"user:alice": ["srv"]}}},
        {"workspaces": {"roots": {"alice": ["/srv"]}}},
    )
    for wrong in all_wrong:
        assert not validator.is_valid(wrong)
        assert faults(Layer("f", wrong))


@pytest.mark.parametrize("value", ["sk-ant-hunter2hunter2", "hunter2", "env:hunter-2"])
@pytest.mark.parametrize(("section", "key"), [("model", "api_key"), ("otel", "authorization")])
def test_a_key_in_the_place_of_a_reference_is_refused_and_not_shown(section: str, key: str, value: str) -> None:
    fault = fault_of(section, key, value)
    assert "vault:NAME" in fault
    assert "hunter" not in fault
