"""What can be configured: one frozen tree, with the defaults. `core.layers` builds one from what was written down.

Secrets are no configuration: a key for one holds a reference to it.
"""

from collections.abc import Mapping
from enum import StrEnum

import attrs

from palyra_trio.core.agents import Limits
from palyra_trio.core.policy import PolicyRules
from palyra_trio.core.session import WhenBusy

MIB = 1024 * 1024


@attrs.frozen
class ModelConfig:
    """Which model, and how patiently. `name` is `provider/model`; empty means: take what the credentials allow.

    `api_key` is a reference to the key (`core.references`), never the key; a project has no say in it. `idle_s` is how long
    a stream may be silent, `attempts` how often a request is made before its first delta.
    """

    name: str = ""
    base_url: str = ""
    api_key: str = ""
    idle_s: int = 120
    attempts: int = 4


@attrs.frozen
class SessionConfig:
    """What happens to a message that finds its session busy, and how many may wait there."""

    when_busy: WhenBusy = WhenBusy.FOLLOWUP
    mailbox: int = 64


@attrs.frozen
class ApprovalConfig:
    """How long a question to a person stays open."""

    expires_s: int = 600


@attrs.frozen
class NotifyConfig:
    """How a person who is elsewhere learns that something waits for them: by a command, a webhook, or both.

    `command` is a program, by its name or its absolute path, and its arguments. `webhook_secret_env` names the variable of
    the environment that holds the key which requests are signed with; empty means unsigned. A project has no say in it.
    """

    command: tuple[str, ...] = ()
    webhook_url: str = ""
    webhook_secret_env: str = ""


@attrs.frozen
class SandboxConfig:
    """In what programs run. `read_only` are absolute folders that they may read besides the system's, such as a toolchain
    under the home folder; `path` absolute folders where programs are found besides the system's.

    `user` is whom they run as when the daemon is root; without one, root's programs are refused. `bare` lets them run
    without a sandbox where there is none. A project has no say in it.
    """

    read_only: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    user: str = ""
    bare: bool = False
    pids: int = 512
    memory_mib: int = 4096
    output_mib: int = 1024


@attrs.frozen
class JournalConfig:
    """How much may wait for the disk, and how much room must be left on it for a run to be admitted."""

    queue_bytes: int = 64 * MIB
    min_free_bytes: int = 256 * MIB


@attrs.frozen
class DaemonConfig:
    """How long runs may go on after the daemon was told to stop."""

    drain_s: int = 10


@attrs.frozen
class GrpcConfig:
    """Where `serve` listens besides its Unix socket. Port 0 takes a free one; `tls` is always on beyond loopback.

    `tls_certificate_file` and `tls_key_file` are paths of PEM files; with both empty, the daemon's own certificate is shown.
    """

    host: str = "127.0.0.1"
    port: int = 7443
    tls_certificate_file: str = ""
    tls_key_file: str = ""
    tls: bool = False


@attrs.frozen
class HttpConfig:
    """Where `serve` offers the console. Port 0 takes a free one; beyond loopback TLS is a condition, and signing in always is.

    `names` are the host names that browsers may call this machine by, besides `host` and those of loopback. The two files
    are PEM; with both empty, `tls` shows the daemon's own certificate, which browsers take once they know its authority.
    `open_metrics` lets /metrics be read without a token. A project has no say in it.
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 7142
    names: tuple[str, ...] = ()
    tls_certificate_file: str = ""
    tls_key_file: str = ""
    tls: bool = False
    open_metrics: bool = False


class QuicRetry(StrEnum):
    """When a client must show that it is where it says it is: before a handshake costs us much, or only under load."""

    AUTO = "auto"
    ALWAYS = "always"


@attrs.frozen
class QuicConfig:
    """Where `serve` listens for HTTP/3, always with TLS by the daemon's own certificate. Port 0 takes a free one.

    `names` are the host names and addresses that the certificate is for, besides `host` and those of loopback; over TCP the
    same one is shown. `client_ca_file`, a PEM file, makes it a condition to show a certificate of that authority. For
    debugging, and empty unless somebody looks: `key_log_file` takes the keys of all traffic, `qlog_dir` a trace of every
    connection. A project has no say in it.
    """

    enabled: bool = True
    host: str = "localhost"
    port: int = 7444
    retry: QuicRetry = QuicRetry.AUTO
    names: tuple[str, ...] = ()
    client_ca_file: str = ""
    key_log_file: str = ""
    qlog_dir: str = ""


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    JSON = "json"
    TEXT = "text"


@attrs.frozen
class LogConfig:
    """What `serve` logs: to stderr, or to `file`, an absolute path. A project has no say in where."""

    level: LogLevel = LogLevel.INFO
    format: LogFormat = LogFormat.JSON
    file: str = ""


@attrs.frozen
class OtelConfig:
    """Where traces are sent, by OTLP over HTTP: `endpoint` is a collector's address without `/v1/traces`; empty means nowhere.

    `authorization` is a reference to what that header says, for a collector that wants it. With `content` the traces hold
    prompts, answers, arguments and results, as redacted as the tape is. A project has no say in it.
    """

    endpoint: str = ""
    authorization: str = ""
    content: bool = False


@attrs.frozen
class ContextConfig:
    """How many bytes of messages one model request may carry."""

    budget_bytes: int = 400_000


@attrs.frozen
class AttachmentsConfig:
    """How many files may come with one input, and how large each may be."""

    max_count: int = 32
    max_bytes: int = 100 * MIB


@attrs.frozen
class WorkspacesConfig:
    """In which folders, and those beneath them, each principal's runs may work. The local user may work in any."""

    roots: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)


@attrs.frozen
class RatesConfig:
    """How many requests a second one token may make: for what needs the scope admin, and for what only reads."""

    admin_per_s: int = 30
    reads_per_s: int = 120


@attrs.frozen
class LatencyConfig:
    """How long what people wait for may take: a commit of the journal, a judgement of a call, a run's first event.

    A longer one is recorded. Once starting a run took longer than `first_event_ms`, others are refused and they start one at
    a time, until none had to be refused for a second.
    """

    journal_write_ms: int = 25
    gate_ms: int = 5
    first_event_ms: int = 100


@attrs.frozen
class Config:
    """The whole configuration. A field is a table of the TOML file, its fields are the table's keys."""

    model: ModelConfig = ModelConfig()
    limits: Limits = Limits()
    session: SessionConfig = SessionConfig()
    policy: PolicyRules = PolicyRules()
    approval: ApprovalConfig = ApprovalConfig()
    notify: NotifyConfig = NotifyConfig()
    sandbox: SandboxConfig = SandboxConfig()
    journal: JournalConfig = JournalConfig()
    daemon: DaemonConfig = DaemonConfig()
    context: ContextConfig = ContextConfig()
    attachments: AttachmentsConfig = AttachmentsConfig()
    workspaces: WorkspacesConfig = WorkspacesConfig()
    rates: RatesConfig = RatesConfig()
    latency: LatencyConfig = LatencyConfig()
    grpc: GrpcConfig = GrpcConfig()
    quic: QuicConfig = QuicConfig()
    http: HttpConfig = HttpConfig()
    log: LogConfig = LogConfig()
    otel: OtelConfig = OtelConfig()


@attrs.frozen
class Credentials:
    """What the well-known variables of the environment say. Keys do not print."""

    openai_api_key: str = attrs.field(default="", repr=False)
    openai_base_url: str = ""
    anthropic_api_key: str = attrs.field(default="", repr=False)
    ollama_host: str = ""
