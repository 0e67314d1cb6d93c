"""Wiring of the scaler: read, decide, act, once a tick and whenever something changes."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

from headrace.contracts.errors import HeadraceError
from headrace.contracts.events import Obituary, WorkerState
from headrace.contracts.topics import slug
from headrace.core.blame import Blame, blame, said
from headrace.core.ports import Outgoing
from headrace.core.scaling import Start, Worker, decide
from headrace.kafka.admin import Admin
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.scaler.fleet import Fleet
from headrace.scaler.processes import Exit, Processes
from headrace.settings import Settings
from headrace.telemetry import metrics
from headrace.telemetry.instruments import Instruments
from headrace.telemetry.setup import opened

_log = logging.getLogger(__name__)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Hold every model at its number of workers until `stop` is set, then drain them all."""
    topics = settings.kafka.topics
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(Admin(settings.kafka))
        await admin.ensure_topics(topics.shared_plans())
        producer = Producer(settings.kafka, source="scaler")
        await producer.start()
        stack.push_async_callback(producer.stop)
        reader = PartitionReader(settings.kafka, {topics.models: None, topics.workers: None})
        await stack.enter_async_context(reader)
        telemetry = stack.enter_context(opened(settings.telemetry, "scaler"))
        scaler = Scaler(settings, admin, producer, telemetry.instruments)
        scaler.fleet.update(await reader.read_to_end())
        following = asyncio.create_task(scaler.follow(reader))
        stack.callback(following.cancel)
        _log.info("ready, %d models deployed", len(scaler.fleet.models))
        try:
            await scaler.run(stop)
        finally:
            await scaler.processes.stop_all()
            await scaler.bury()


class Scaler:
    """The acting shell round `core.scaling`."""

    def __init__(
        self, settings: Settings, admin: Admin, producer: Producer, instruments: Instruments
    ) -> None:
        self._settings = settings
        self._admin = admin
        self._producer = producer
        self._instruments = instruments
        self.fleet = Fleet(settings.kafka.topics)
        self.processes = Processes(settings)

    async def run(self, stop: asyncio.Event) -> None:
        """Tick until `stop` is set."""
        while not stop.is_set():
            self.processes.changed.clear()
            await self.bury()
            await self._act()
            await self._forget()
            try:
                async with asyncio.timeout(self._settings.scaler.tick_s):
                    await self.processes.changed.wait()
            except TimeoutError:
                continue

    async def follow(self, reader: PartitionReader) -> None:
        """Read on for ever; a change of what is deployed wakes the scaler."""
        while True:
            records = await reader.poll(1.0)
            if records:
                self.fleet.update(records)
            if any(record.place.topic == self._settings.kafka.topics.models for record in records):
                self.processes.changed.set()

    async def bury(self) -> None:
        """For each worker that ended: its obituary, and its name off the list."""
        for ended in self.processes.exits():
            cause = "asked" if ended.asked else "killed" if ended.killed else "failed"
            self._instruments.series(metrics.WORKER_ENDS, ended.child.model, cause).add(1)
            if ended.asked:
                _log.info("worker %s of %s has ended", ended.child.id, ended.child.model)
            elif ended.killed:
                _log.warning("worker %s of %s %s", ended.child.id, ended.child.model, ended.reason)
                await self._obituary(ended)
            else:
                count = self.fleet.failed(ended.child.model, time.time())
                _log.warning(
                    "worker %s of %s %s (%d in a row)", ended.child.id, ended.child.model, ended.reason, count
                )
                await self._obituary(ended)
            self.fleet.heartbeats.pop(ended.child.id, None)

    async def _obituary(self, ended: Exit) -> None:
        heartbeat = self.fleet.heartbeats.get(ended.child.id)
        try:
            if heartbeat is not None and heartbeat.group:
                # Before its partitions move: their next owner must know that what it held is free.
                await self._say_dead(ended, heartbeat.group)
            if heartbeat is not None and heartbeat.member_id and heartbeat.group:
                await self._admin.leave_group(heartbeat.group, heartbeat.member_id)
            if heartbeat is None or heartbeat.state is not WorkerState.FAILED:
                await self._take_off(ended.child.id)
        except Exception as error:  # noqa: BLE001  # the session timeout is the net beneath
            _log.warning("obituary of %s not sent: %r", ended.child.id, error)

    async def _say_dead(self, ended: Exit, group: str) -> None:
        worker_id, topics = ended.child.id, self._settings.kafka.topics
        blamed: tuple[Blame, ...] = ()
        if ended.crashed:
            blamed = blame(topics, slug(ended.child.model), worker_id, ended.in_flight)
        event = Obituary(worker=worker_id, group=group, blamed=said(blamed), sent_at_s=time.time())
        control = topics.control
        key = f"obituary/{worker_id}".encode()
        await (await self._producer.send(Outgoing(control, event.encode(), key)))

    async def _forget(self) -> None:
        """Names of the long dead come off the list, whoever started them."""
        for name in self.fleet.stale(self.processes.children, time.time()):
            try:
                await self._take_off(name)
            except HeadraceError as error:
                _log.warning("%s stays on the list: %s", name, error)

    async def _take_off(self, worker_id: str) -> None:
        """Remove a name from `workers`."""
        workers = self._settings.kafka.topics.workers
        await (await self._producer.send(Outgoing(workers, None, worker_id.encode())))

    def _tell(self, workers: Sequence[Worker]) -> None:
        self._instruments.clear(metrics.WORKERS)
        for (model, phase), number in Counter((each.model, each.phase.value) for each in workers).items():
            self._instruments.series(metrics.WORKERS, model, phase).set(number)

    async def _act(self) -> None:
        now_s = time.time()
        children = [
            Worker(
                id=child.id,
                model=child.model,
                version=child.version,
                phase=self.fleet.phase(child.id, stopping=child.stopping),
                started_at_s=child.started_at_s,
            )
            for child in self.processes.children.values()
        ]
        self._tell(children)
        observed = self.fleet.observe(children, now_s)
        for action in decide(observed, self._settings.scaler.restart_backoff_s, now_s):
            if isinstance(action, Start):
                worker_id = await self.processes.start(action.model, action.version, now_s)
                _log.info("start %s for %s: %s", worker_id, action.model, action.reason)
            else:
                _log.info("stop %s: %s", action.worker_id, action.reason)
                self.processes.stop(action.worker_id)
