"""What is deployed and who is alive, as the topics `models` and `workers` tell it. No IO."""

import logging
import random
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

from headrace.contracts import ids
from headrace.contracts.errors import HeadraceError, UnknownModel
from headrace.contracts.events import GatewayHeartbeat, ModelDeployed, WorkerHeartbeat, WorkerState
from headrace.contracts.tensors import Signature
from headrace.contracts.topics import MAX_NAME_CHARS, REPLY_PARTITIONS, Topics
from headrace.core import admission
from headrace.core.ports import Record
from headrace.gateway.heartbeat import FRESH_S

_log = logging.getLogger(__name__)

_NAMES_IN_ERROR: Final = 5
_BEATS: Final = 30
"""Of two seconds each: a minute."""


class Directory:
    """Fed with records; asked for models."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._models: dict[str, ModelDeployed] = {}
        self._workers: dict[str, WorkerHeartbeat] = {}
        self._gateways: dict[str, GatewayHeartbeat] = {}
        self._paces: dict[str, _Pace] = {}

    def update(self, records: Iterable[Record]) -> None:
        """Take in what was read."""
        for record in records:
            key = (record.key or b"").decode(errors="replace")
            try:
                if record.place.topic == self._topics.models:
                    self._update_model(key, record.value)
                else:
                    self._update_worker(key, record.value)
            except HeadraceError as error:
                _log.warning("record at %s ignored: %s", record.place, error)

    def model(self, name: str) -> ModelDeployed:
        """The deployment behind a name, which may end with `:` and one of the model's adapters.

        Raises:
            UnknownModel: there is none; the message says what there is.
        """
        found = self._models.get(name) or self._models.get(name.partition(":")[0])
        if found is None:
            shown = name if len(name) <= MAX_NAME_CHARS else f"{name[:MAX_NAME_CHARS]}…"
            raise UnknownModel(f"There is no model '{shown}'. {self._choice()}", param="model")
        if found.retiring:
            raise UnknownModel(f"Model '{found.name}' is being removed. {self._choice()}", param="model")
        admission.adapter(found, name)
        return found

    def find(self, name: str) -> ModelDeployed | None:
        """The deployment of that name, if there is one."""
        return self._models.get(name)

    def by_tag(self, model_tag: bytes) -> ModelDeployed | None:
        """The deployment that an id speaks of, if it is still there."""
        return next((each for each in self._models.values() if ids.model_tag(each.slug) == model_tag), None)

    def group(self, model: ModelDeployed) -> str:
        """The consumer group of its workers."""
        return self._topics.group(model.slug)

    def runs(self, request_id: str, now_s: float) -> bool:
        """Whether a worker has said lately that it runs this job."""
        return any(
            request_id in worker.running and now_s - worker.sent_at_s < FRESH_S
            for worker in self._workers.values()
        )

    def rate_per_s(self, name: str, now_s: float) -> float:
        """Requests that the model's living workers have been finishing in a second, for about a minute."""
        return sum(
            self._paces[key].per_s
            for key, worker in self._workers.items()
            if worker.model == name and now_s - worker.sent_at_s < FRESH_S and key in self._paces
        )

    def models(self) -> list[ModelDeployed]:
        """All deployments that take requests, by name."""
        return [self._models[name] for name in sorted(self._models) if not self._models[name].retiring]

    def state(self, name: str, now_s: float) -> tuple[str, str | None]:
        """How the model's current version stands, and why.

        `warm`: a worker is ready. `failed`: none is, and the last one that tried could not start.
        `cold`: none is; a request wakes it.
        """
        model = self.model(name)
        mine = [
            worker
            for worker in self._workers.values()
            if worker.model == model.name
            and worker.version == model.version
            and now_s - worker.sent_at_s < FRESH_S
        ]
        if any(worker.state is WorkerState.READY for worker in mine):
            return "warm", None
        failed = [worker for worker in mine if worker.state is WorkerState.FAILED]
        if failed:
            return "failed", max(failed, key=lambda worker: worker.sent_at_s).reason
        return "cold", None

    def signature(self, name: str) -> Signature | None:
        """What the model takes and gives; None until a worker of its version has said."""
        version = self.model(name).version
        return next(
            (
                worker.signature
                for worker in self._workers.values()
                if worker.model == name and worker.version == version and worker.signature is not None
            ),
            None,
        )

    def free_reply_partition(self, now_s: float) -> int:
        """A reply partition that no living gateway reads, if there is one."""
        taken = {
            gateway.reply_partition
            for gateway in self._gateways.values()
            if now_s - gateway.sent_at_s < FRESH_S
        }
        free = [number for number in range(REPLY_PARTITIONS) if number not in taken]
        return random.choice(free or range(REPLY_PARTITIONS))  # noqa: S311  # spreading, not secrecy

    def _update_model(self, name: str, value: bytes | None) -> None:
        if value is None:
            self._models.pop(name, None)
        else:
            self._models[name] = ModelDeployed.decode(value)

    def _update_worker(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._workers.pop(key, None)
            self._paces.pop(key, None)
            self._gateways.pop(key, None)
        elif b'"kind":"gateway"' in value:
            self._gateways[key] = GatewayHeartbeat.decode(value)
        else:
            worker = self._workers[key] = WorkerHeartbeat.decode(value)
            self._paces.setdefault(key, _Pace()).take(worker.sent_at_s, worker.completed)

    def _choice(self) -> str:
        names = [model.name for model in self.models()]
        if not names:
            return "None is deployed yet: run `headrace deploy PATH`"
        more = f" and {len(names) - _NAMES_IN_ERROR} more" if len(names) > _NAMES_IN_ERROR else ""
        return f"Deployed are: {', '.join(names[:_NAMES_IN_ERROR])}{more}"


class _Pace:
    """How fast a worker has been lately, from what its heartbeats count."""

    def __init__(self) -> None:
        self._beats: deque[tuple[float, int]] = deque(maxlen=_BEATS)

    def take(self, at_s: float, completed: int) -> None:
        self._beats.append((at_s, completed))

    @property
    def per_s(self) -> float:
        (first_s, before), (last_s, after) = self._beats[0], self._beats[-1]
        return max(0.0, (after - before) / (last_s - first_s)) if last_s > first_s else 0.0


def _listing(model: ModelDeployed, name: str | None = None) -> dict[str, Any]:
    """A model as `/v1/models` shows it, or its adapter of that name, as `MODEL:ADAPTER`."""
    found = {
        "id": name or model.name,
        "object": "model",
        "created": int(model.deployed_at_s),
        "owned_by": "headrace",
        "version": model.version,
        "description": model.manifest.description,
        "serves": model.manifest.serves,
        "slug": model.slug,
    }
    if model.rolled_back is not None:
        found["rolled_back"] = model.rolled_back.model_dump()
    return found


def listings(model: ModelDeployed) -> Iterator[dict[str, Any]]:
    """A model and its adapters, each a model to those who call it."""
    yield _listing(model)
    for adapter in sorted(model.manifest.adapters):
        yield _listing(model, f"{model.name}:{adapter}") | {"parent": model.name}
