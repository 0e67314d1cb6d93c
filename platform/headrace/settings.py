"""All settings, in groups; the only reader of the environment.

Every field can be set as `HEADRACE_<GROUP>_<FIELD>`, for example `HEADRACE_KAFKA_BOOTSTRAP_SERVERS` or
`HEADRACE_GATEWAY_PORT`. Lists and mappings are JSON.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, IPvAnyNetwork, SecretStr, ValidationError

from headrace.contracts.errors import SetupError
from headrace.contracts.topics import Topics
from headrace.core.addresses import Rules

_PREFIX: Final = "HEADRACE_"
_GROUPS: Final = (
    "kafka",
    "s3",
    "database",
    "gateway",
    "worker",
    "scaler",
    "keda",
    "ray",
    "kubernetes",
    "dispatcher",
    "webhooks",
    "files",
    "batches",
    "telemetry",
)


_JSON: Final[dict[Any, str]] = {tuple: "list", dict: "object"}
"""Types of fields whose variables hold JSON, and what it is called there."""


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Group):
    """How to reach Kafka, and how topics are created there.

    replication_factor, min_insync_replicas: 3 and 2 in production; the embedded stack has one broker.
    partitions: per lane of a model, a multiple of many worker counts (12, 24, 60) and at least the largest.
    """

    bootstrap_servers: str = "127.0.0.1:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_file: Path | None = None
    ssl_cert_file: Path | None = None
    ssl_key_file: Path | None = None
    topic_prefix: str = "headrace."
    replication_factor: int = Field(default=3, ge=1)
    min_insync_replicas: int = Field(default=2, ge=1)
    partitions: int = Field(default=12, ge=1, le=1000)
    send_timeout_s: float = Field(default=30.0, gt=0)
    """A send that the broker has not acknowledged by then fails, and the producer is built anew."""

    @property
    def topics(self) -> Topics:
        """The names of all topics."""
        return Topics(self.topic_prefix)


class S3Settings(_Group):
    """The bucket of functions, models and large results. Without an endpoint, AWS itself."""

    endpoint_url: str | None = None
    bucket: str = "headrace"
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None

    @property
    def is_given(self) -> bool:
        """Whether any of it was set: otherwise nobody has said that there is a bucket."""
        return bool(self.model_fields_set)


class DatabaseSettings(_Group):
    """Where jobs are kept: an SQLAlchemy URL with an async driver."""

    url: str = "sqlite+aiosqlite:///headrace.db"


class GatewaySettings(_Group):
    """The HTTP facade.

    reply_timeout_s: how long a caller is held at most; the model's own deadline may be shorter.
    keepalive_s: a comment on a silent stream, so that proxies keep it open.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    max_body_bytes: int = Field(default=10_000_000, ge=1)
    reply_timeout_s: float = Field(default=600.0, gt=0)
    keepalive_s: float = Field(default=15.0, gt=0)
    max_waiting: int = Field(default=10_000, ge=1)
    """Requests one gateway holds at once; more are refused with 429."""
    tenant_header: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]+$")
    """Header in which a proxy that callers cannot pass by says whose request it is."""
    tenant_max_waiting: int | None = Field(default=None, ge=1)
    tenant_rate_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    tenant_burst: int | None = Field(default=None, ge=1)
    """Beside the rate: requests at once after a pause; None: those of one second."""
    tenant_tokens_per_min: int | None = Field(default=None, ge=1)
    """Tokens of prompts and answers one tenant may use at one gateway."""
    tenant_requests_per_day: int | None = Field(default=None, ge=1)
    """Requests one tenant may make in a day of UTC, at all gateways together."""
    tenant_tokens_per_day: int | None = Field(default=None, ge=1)
    tenant_max_jobs: int | None = Field(default=None, ge=1)
    """Jobs of one tenant that may be unfinished; lines of batches are not among them."""
    max_queued: int | None = Field(default=None, ge=1)
    """Requests that may wait in Kafka for one model; a model's `limits.max_queued` comes first."""
    keys_refresh_s: float = Field(default=2.0, gt=0, le=60)
    """How often API keys are read again: a key that was revoked opens nothing after at most so long."""
    silence_s: float = Field(default=5.0, gt=0)
    """Kafka that confirms nothing for so long is taken for hung: requests are refused at once."""
    drain_s: float = Field(default=20.0, ge=0)
    max_result_bytes: int = Field(default=64 << 20, ge=1)
    """The largest result that is read from S3 for a caller; at least what workers may put there."""


class WorkerSettings(_Group):
    """A worker.

    reply_topics: patterns (`*`, `?`) of topics that callers may name for their replies. Internal topics
        never match. Empty means none: answers go to `results`.
    drain_s: how long a worker that was told to stop goes on with what it has begun.
    """

    reply_topics: tuple[str, ...] = ("replies.*", "*.replies")
    drain_s: float = Field(default=30.0, ge=0)
    commit_interval_s: float = Field(default=0.1, gt=0)
    heartbeat_s: float = Field(default=2.0, gt=0)
    session_timeout_s: float = Field(default=15.0, gt=0)
    stall_s: float = Field(default=30.0, gt=0)
    """An event loop blocked for longer ends the process: its partitions are better off elsewhere."""
    max_result_bytes: int = Field(default=64 << 20, ge=1)
    """A result that Kafka does not take goes to S3 up to this size; a larger one fails its request."""


ACTUATORS: Final = ("process", "kubernetes", "ray", "keda")
_FOREIGN: Final = r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*"


def _is_an_actuator(name: str) -> str:
    if name not in ACTUATORS and not re.fullmatch(_FOREIGN, name):
        known = ", ".join(ACTUATORS)
        raise ValueError(f"{name!r} is no actuator: use {known}, or MODULE:FUNCTION of an installed package")
    return name


class ScalerSettings(_Group):
    """The scaler and its actuator.

    actuator: one of Headrace's own, or `MODULE:FUNCTION` that makes one; docs/how-to/add-an-actuator.md.
    """

    actuator: Annotated[str, AfterValidator(_is_an_actuator)] = "process"
    tick_s: float = Field(default=0.5, gt=0)
    restart_backoff_s: tuple[float, ...] = Field(default=(0.0, 1.0, 5.0, 15.0, 60.0), min_length=1)
    """Wait before the n-th start in a row that failed; the last one repeats."""
    drain_s: float = Field(default=35.0, ge=0)
    lost_s: float = Field(default=30.0, gt=0)
    """A worker that has not been heard for so long is ended and replaced."""
    max_workers: int | None = Field(default=None, ge=0)
    """Of all models together; None: as many as their manifests allow."""
    max_gpus: int | None = Field(default=None, ge=0)
    """Of all workers together, by `scaling.gpus` in their manifests; None: nobody counts them."""
    cold_start_s: float = Field(default=30.0, gt=0)
    """How long a worker takes to start, until a model's own starts have been measured."""
    up_step_s: float = Field(default=10.0, ge=0)
    """Between two steps up; each adds at most as many workers as there are, or four."""
    down_window_s: float | None = Field(default=None, ge=0)
    """So long, and at least half a cold start, fewer workers must be enough before one goes; None: a minute,
    or less by experience."""
    down_step_s: float = Field(default=30.0, ge=0)
    """Between two steps down; each takes at most a quarter of the workers, or one."""


class KedaSettings(_Group):
    """Where KEDA finds the scaler, for the actuator `keda`.

    ssl_cert_file, ssl_key_file: of this server; without them there is no TLS. ssl_ca_file: who signs the
    certificates of those that may ask; None: anybody may.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=6000, ge=1, le=65535)
    ssl_ca_file: Path | None = None
    ssl_cert_file: Path | None = None
    ssl_key_file: Path | None = None


def _is_shareable(number: float) -> float:
    if number > 1 and number != int(number):
        raise ValueError("more than one must be a whole number")
    return number


class RaySettings(_Group):
    """The cluster of the actuator `ray`, and what each worker takes of it.

    address: HOST:PORT of its head; auto: the cluster that this machine is a node of.
    namespace: of our actors; another Headrace on the same cluster needs another.
    num_gpus, num_cpus: one GPU may be shared: 0.5 for two workers.
    resources: others, as the cluster's nodes declare them.
    """

    address: str = "auto"
    namespace: str = Field(default="headrace", min_length=1)
    num_gpus: Annotated[float, Field(ge=0), AfterValidator(_is_shareable)] = 1.0
    num_cpus: Annotated[float, Field(ge=0), AfterValidator(_is_shareable)] = 1.0
    resources: dict[str, Annotated[float, Field(gt=0), AfterValidator(_is_shareable)]] = {}


class KubernetesSettings(_Group):
    """Where the actuator `kubernetes` makes pods, and from what.

    template: a YAML file with a pod template, or a folder with `default.yaml` and a file `SLUG.yaml` for each
        model that needs another.
    image: of workers, where no template says more.
    kubeconfig, context: None: the service account of the scaler's own pod, or KUBECONFIG and its context.
    namespace: None: the one that comes with these.
    """

    namespace: str | None = None
    template: Path | None = None
    image: str | None = None
    kubeconfig: Path | None = None
    context: str | None = None


class DispatcherSettings(_Group):
    """The dispatcher: results into SQL, retries, models without workers."""

    archive_batch: int = Field(default=500, ge=1)
    caretaker_interval_s: float = Field(default=5.0, gt=0)
    """How often models without workers are looked after."""
    result_retention_s: float = Field(default=86_400.0, gt=0)


class WebhookSettings(_Group):
    """Webhooks, and which URLs callers may name for them.

    allow_http: also without TLS. allow_networks: CIDR networks that may be called although not public.
    at_once: attempts of one dispatcher; a quarter of them to one host.
    """

    allow_http: bool = False
    allow_networks: tuple[IPvAnyNetwork, ...] = ()
    timeout_s: float = Field(default=15.0, gt=0)
    at_once: int = Field(default=64, ge=4)

    @property
    def rules(self) -> Rules:
        """The same for `core.addresses`."""
        return Rules(self.allow_http, self.allow_networks)


class FilesSettings(_Group):
    """What callers upload; it is kept in the bucket.

    retention_s: of files whose owners ask for nothing else, and of batches' output.
    """

    max_file_bytes: int = Field(default=512 << 20, ge=1)
    tenant_max_bytes: int | None = Field(default=None, ge=1)
    """Of all files of a tenant together."""
    retention_s: float = Field(default=2_592_000.0, ge=3600)


class BatchesSettings(_Group):
    """Batches.

    window_lines: how many lines of one batch wait in Kafka at most, so that a cancel is soon done with and
        many batches take turns.
    """

    max_lines: int = Field(default=100_000, ge=1)
    window_lines: int = Field(default=10_000, ge=1)
    at_once: int = Field(default=64, ge=1)
    """Batches that one dispatcher works on; others wait for another dispatcher, or for room."""
    lease_s: float = Field(default=15.0, ge=1)
    """After a dispatcher's death another takes over its batches when so much time has passed."""


class TelemetrySettings(_Group):
    """Traces and metrics; off unless one of the two addresses is set.

    otlp_endpoint: of a collector, OTLP over HTTP: http://HOST:4318. OpenTelemetry's own variables for headers
        and certificates (OTEL_EXPORTER_OTLP_HEADERS, …) hold as well.
    prometheus_port: the first of 32; each process serves /metrics on the first that is free. 0: on any.
    traces_per_s: requests that each gateway, or a worker for requests without one, begins to trace. A caller
        that has decided already, by its `traceparent`, is followed.
    """

    otlp_endpoint: Annotated[str, Field(pattern=r"^https?://")] | None = None
    prometheus_port: Annotated[int, Field(ge=0, le=65504)] | None = None
    prometheus_host: str = "127.0.0.1"
    traces_per_s: float = Field(default=5.0, ge=0)
    export_interval_s: float = Field(default=15.0, gt=0)

    @property
    def is_on(self) -> bool:
        """Whether anybody wants to know."""
        return self.otlp_endpoint is not None or self.prometheus_port is not None


class Settings(_Group):
    """Everything, in groups."""

    kafka: KafkaSettings = KafkaSettings()
    s3: S3Settings = S3Settings()
    database: DatabaseSettings = DatabaseSettings()
    gateway: GatewaySettings = GatewaySettings()
    worker: WorkerSettings = WorkerSettings()
    scaler: ScalerSettings = ScalerSettings()
    keda: KedaSettings = KedaSettings()
    ray: RaySettings = RaySettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    dispatcher: DispatcherSettings = DispatcherSettings()
    webhooks: WebhookSettings = WebhookSettings()
    files: FilesSettings = FilesSettings()
    batches: BatchesSettings = BatchesSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    secret_key: Annotated[SecretStr, Field(min_length=16)] | None = None
    """Signs request ids; the same for every gateway. `headrace up` makes one per data folder."""
    cache_dir: Path = Path("~/.cache/headrace")
    """Downloaded functions and models."""
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def load(defaults: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment; `defaults` are variables for those that are not set.

    Read here and not by pydantic-settings, whose import takes three times as long as pydantic's own: half
    of the start-up time of every role (measured: 0.52 s of CPU beside 0.15 s).

    Raises:
        SetupError: a variable is wrong or unknown; the message names it.
    """
    variables = {**(defaults or {}), **{name: os.environ[name] for name in given()}}
    known = _variables()
    document: dict[str, Any] = {}
    for name, value in variables.items():
        if name not in known:
            raise SetupError(f"There is no setting {name}: unset it, or mend its name")
        path, kind = known[name]
        holder = document
        for part in path[:-1]:
            holder = holder.setdefault(part, {})
        holder[path[-1]] = _decoded(name, value, kind) if kind else value
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        path = tuple(str(part) for part in item["loc"][:2])
        name = _PREFIX + "_".join(path if path[0] in _GROUPS else path[:1]).upper()
        raise SetupError(f"Setting {name} is wrong: {item['msg']}") from None


def _variables() -> dict[str, tuple[tuple[str, ...], str]]:
    """Every variable: where it belongs, and what JSON its value is; empty for none."""
    found: dict[str, tuple[tuple[str, ...], str]] = {}
    for name, field in Settings.model_fields.items():
        if name not in _GROUPS:
            found[_PREFIX + name.upper()] = ((name,), "")
            continue
        group: type[BaseModel] = field.annotation  # type: ignore[assignment]  # _GROUPS says so
        for inner, inner_field in group.model_fields.items():
            kind = _JSON.get(get_origin(inner_field.annotation), "")
            found[f"{_PREFIX}{name}_{inner}".upper()] = ((name, inner), kind)
    return found


def _decoded(name: str, value: str, kind: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        raise SetupError(f"Setting {name} is wrong: it must be a JSON {kind}") from None


def environment(changes: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child process: ours, with `changes`."""
    return {**os.environ, **changes}


def given() -> frozenset[str]:
    """The `HEADRACE_*` variables that are set; says which real services replace embedded ones."""
    return frozenset(name for name, value in os.environ.items() if name.startswith(_PREFIX) and value)


_WORKERS: Final = ("kafka", "s3", "worker", "telemetry", "secret_key", "log_format", "log_level")


def for_workers() -> dict[str, str]:
    """Those of our `HEADRACE_*` variables that a worker on another machine needs; its folders are its own."""
    known = _variables()
    return {name: os.environ[name] for name in given() if name in known and known[name][0][0] in _WORKERS}
