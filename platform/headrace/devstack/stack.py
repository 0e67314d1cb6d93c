"""The stack: what is started, in which order, and when it is ready.

Broker, S3 server and roles start at the same time; the roles wait for Kafka by themselves. Functions are
deployed as soon as broker and S3 answer. Real services named by HEADRACE_* variables take the place of
embedded ones.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import headrace
from headrace.contracts.errors import SetupError
from headrace.devstack.broker import Broker
from headrace.devstack.distribution import Distribution
from headrace.devstack.folder import DataFolder, write_private
from headrace.devstack.object_store import INNER_PORTS, Credentials, ObjectStore
from headrace.devstack.ports import HOST, Claims
from headrace.devstack.probe import get
from headrace.devstack.processes import Service, created_s, last_words, role, sweep
from headrace.devstack.supervisor import Supervisor
from headrace.settings import Settings, given, load

# The scaler drains its workers, the broker serves all of them to the end.
_STOP_ORDER: Final = ("gateway", "scaler", "dispatcher", "kafka", "s3")
_BACKGROUND: Final = 5
_POLL_S: Final = 0.05
_READY_S: Final = 120.0
_REMIND_S: Final = 15.0
_STATE: Final = "x-model-state"
_MIGRATIONS: Final = Path(headrace.__file__).parent / "store" / "migrations" / "versions"
_PUBLIC: Final = (
    "http_url",
    "kafka_bootstrap_servers",
    "s3_endpoint_url",
    "database_url",
    "data_dir",
    "pids",
)


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What `headrace up` is told. Ports: 0 for any free one. `beside`: runs while the stack serves."""

    data_dir: Path
    functions: Sequence[Path]
    http_port: int
    kafka_port: int
    s3_port: int
    ready_file: Path | None
    beside: Callable[[Settings], Awaitable[None]] | None = None


class Stack:
    """One stack in one data folder."""

    def __init__(self, settings: StackSettings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._folder = DataFolder(settings.data_dir)
        self._supervisor = Supervisor(self._folder, self._write_state)
        self._variables: dict[str, str] = {}
        self._broker: Broker | None = None
        self._s3: ObjectStore | None = None
        self._http_port = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything, serve until `stop` is set, stop everything.

        Raises:
            SetupError: something cannot be started, or does not stay up.
        """
        self._folder.open()
        try:
            self._clean_up()
            with Claims() as claims:
                self._plan(claims)
            await self._serve_until(stop)
        except OSError as error:
            raise SetupError(
                f"The stack cannot go on: {error.strerror or error} ({error.filename or self._folder.path})"
            ) from None
        finally:
            if self._supervisor.records:
                self._say("stopping")
            await self._supervisor.stop(_STOP_ORDER)
            self._folder.state_file.unlink(missing_ok=True)
            self._folder.close()

    def kill(self) -> None:
        """Stop at once."""
        self._supervisor.kill()

    async def _serve_until(self, stop: asyncio.Event) -> None:
        work: list[asyncio.Future[Any]] = [
            asyncio.create_task(self._serve()),
            asyncio.create_task(stop.wait()),
        ]
        # A process that died is the better reason when something that waits for it fails too.
        ends = [self._supervisor.fault, *work]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for ended in ends:
                if ended.done() and not stop.is_set():
                    ended.result()
        finally:
            # Nothing may be started any more once stopping begins.
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for part in (self._start_broker, self._start_s3, self._deploy, self._start_roles):
                    group.create_task(part())
        except* (SetupError, OSError) as errors:
            raise errors.exceptions[0] from None
        await self._until_ready()
        self._supervisor.settled()
        self._write_ready_file()
        self._say(f"ready: {self._http_url}")
        if self._settings.beside is not None:
            await self._settings.beside(self._effective)
        await asyncio.Event().wait()

    def _clean_up(self) -> None:
        left = self._folder.read_state() or {}
        found = sweep(self._folder.path, left.get("processes", ()))
        if found:
            self._say(f"ended what an earlier stack had left: {', '.join(found)}")
        self._folder.state_file.unlink(missing_ok=True)

    def _plan(self, claims: Claims) -> None:
        """Choose ports and the roles' variables."""
        folder, told = self._folder, given()
        load()  # a wrong variable is told before anything starts
        self._http_port = claims.claim(self._settings.http_port, "--http-port", "HTTP")
        self._variables = {
            "HEADRACE_GATEWAY_PORT": str(self._http_port),
            "HEADRACE_SECRET_KEY": folder.secret("ids"),
            "HEADRACE_CACHE_DIR": str(folder.path / "cache"),
            # Everybody who reaches this broker is on this machine.
            "HEADRACE_WORKER_REPLY_TOPICS": '["*"]',
            "HEADRACE_WEBHOOKS_ALLOW_HTTP": "true",
            "HEADRACE_WEBHOOKS_ALLOW_NETWORKS": '["127.0.0.0/8", "::1/128"]',
        }
        if "HEADRACE_KAFKA_BOOTSTRAP_SERVERS" not in told:
            port = claims.claim(self._settings.kafka_port, "--kafka-port", "Kafka")
            distribution = Distribution(load().cache_dir.expanduser())
            self._broker = Broker(folder.path / "kafka", distribution, port, *claims.free(1))
            self._variables |= {
                "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": f"{HOST}:{port}",
                "HEADRACE_KAFKA_REPLICATION_FACTOR": "1",
                "HEADRACE_KAFKA_MIN_INSYNC_REPLICAS": "1",
                "HEADRACE_KAFKA_PARTITIONS": "4",
            }
        if "HEADRACE_S3_ENDPOINT_URL" not in told:
            port = claims.claim(self._settings.s3_port, "--s3-port", "S3")
            keys = Credentials("headrace", folder.secret("s3"))
            self._s3 = ObjectStore(folder.path / "s3", port, claims.free(len(INNER_PORTS)), keys)
            self._variables |= {
                "HEADRACE_S3_ENDPOINT_URL": self._s3.url,
                "HEADRACE_S3_ACCESS_KEY_ID": keys.access_key_id,
                "HEADRACE_S3_SECRET_ACCESS_KEY": keys.secret_access_key,
            }
        if "HEADRACE_DATABASE_URL" not in told:
            self._variables["HEADRACE_DATABASE_URL"] = f"sqlite+aiosqlite:///{folder.database}"
        # What was given stays as it was given.
        self._variables = {name: v for name, v in self._variables.items() if name not in told} | {
            "HEADRACE_GATEWAY_PORT": str(self._http_port)
        }

    @property
    def _http_url(self) -> str:
        return f"http://{HOST}:{self._http_port}"

    @property
    def _effective(self) -> Settings:
        return load(defaults=self._variables)

    async def _start_broker(self) -> None:
        if self._broker is not None:
            service = await self._broker.prepare(self._say)
            self._say("starting Kafka")
            await self._supervisor.keep(service)

    async def _start_s3(self) -> None:
        if self._s3 is not None:
            self._say("starting the S3 server")
            await self._supervisor.keep(self._s3.prepare())

    async def _start_roles(self) -> None:
        stops_s = {"gateway": 25.0, "scaler": 45.0}
        for name in ("gateway", "scaler"):
            await self._supervisor.keep(role(name, self._variables, stops_s[name]))
        is_ours = "HEADRACE_DATABASE_URL" in self._variables and self._folder.database.exists()
        if not (is_ours and self._folder.is_migrated(_MIGRATIONS)):
            await self._supervisor.run(self._once("migrate"))
            self._folder.note_migrated(_MIGRATIONS)
        # Nobody waits for it as for the others.
        await self._supervisor.keep(role("dispatcher", self._variables, 10.0, nice=_BACKGROUND))

    async def _deploy(self) -> None:
        if not self._settings.functions:
            return
        paths = [str(path.absolute()) for path in self._settings.functions]
        self._say(f"deploying {', '.join(path.name for path in self._settings.functions)}")
        # Started now: it imports while the others start, and waits for Kafka and S3 by itself.
        patience = ["--await-s3"] if self._s3 is not None else []
        output = await self._supervisor.run(self._once("deploy", "--json", *patience, *paths))
        deployed = [json.loads(line) for line in output.splitlines()]
        waited = [event["name"] for event in deployed if event["manifest"]["scaling"]["min_workers"] > 0]
        for name in waited:
            await self._until_warm(name)

    def _once(self, *arguments: str) -> Service:
        return Service(arguments[0], [sys.executable, "-m", "headrace", *arguments], self._variables)

    async def _until_warm(self, name: str) -> None:
        """A model may have to be downloaded: no limit, but a word now and then."""
        self._say(f"waiting for a worker of {name}")
        said_s = time.monotonic()
        while (
            state := (look := await get(self._http_port, f"/v2/models/{name}/ready")).headers.get(_STATE)
        ) != "warm":
            if state == "failed":
                raise SetupError(f"Model '{name}' does not start: {json.loads(look.body)['reason']}")
            if time.monotonic() - said_s > _REMIND_S:
                said_s = time.monotonic()
                self._say(f"still waiting for a worker of {name}; see {self._folder.log_file('scaler')}")
            await asyncio.sleep(_POLL_S)

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(_READY_S):
                while (await get(self._http_port, "/v2/health/ready")).status != 200:
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            log = self._folder.log_file("gateway")
            raise SetupError(
                f"The gateway is not ready after {_READY_S:g} s; {log} ends: {last_words(log)}"
            ) from None

    def _state(self) -> dict[str, Any]:
        effective = self._effective
        processes = self._supervisor.records
        return {
            "pid": os.getpid(),
            "created_s": created_s(os.getpid()),
            "started_at_s": time.time(),
            "http_url": self._http_url,
            "kafka_bootstrap_servers": effective.kafka.bootstrap_servers,
            "s3_endpoint_url": effective.s3.endpoint_url,
            "database_url": effective.database.url,
            "data_dir": str(self._folder.path),
            "pids": {"supervisor": os.getpid()} | {p["name"]: p["pid"] for p in processes},
            "processes": processes,
            "environment": self._variables,
        }

    def _write_state(self) -> None:
        self._folder.write_state(self._state())

    def _write_ready_file(self) -> None:
        if self._settings.ready_file is not None:
            state = self._state()
            public = {name: state[name] for name in _PUBLIC}
            write_private(self._settings.ready_file.absolute(), json.dumps(public, indent=1))
