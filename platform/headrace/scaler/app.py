"""Wiring of the scaler: read, decide, act, once a tick and whenever something changes."""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from headrace.contracts.decisions import Leader
from headrace.contracts.errors import HeadraceError, Unavailable
from headrace.contracts.events import WorkerHeartbeat
from headrace.contracts.topics import Topics
from headrace.core.ports import Outgoing
from headrace.core.scaling import Action, Start, Stop, Worker, decide
from headrace.kafka.admin import Admin
from headrace.kafka.leadership import Leadership
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.scaler.actuator import Actuator, Cause, Ending, NewUnit, Orders
from headrace.scaler.actuators import catalog
from headrace.scaler.fleet import LEARNED, Fleet
from headrace.scaler.known import depths
from headrace.scaler.ledger import Ledger
from headrace.scaler.obituaries import Obituaries
from headrace.settings import Settings
from headrace.telemetry import metrics
from headrace.telemetry.instruments import Instruments
from headrace.telemetry.setup import opened

_log = logging.getLogger(__name__)

_ALERT: Final = 2
_FIXED_S: Final = 5.0
"""How often topics are read while no model's number of workers depends on them."""
_UNHEARD_S: Final = _FIXED_S + 1.0
"""Topics that were not read for so long were out of reach, and heartbeats with them."""
_ENDS: Final = {Cause.ASKED: "asked", Cause.KILLED: "killed", Cause.FAILED: "failed", Cause.CRASHED: "failed"}


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Give every model the workers that its work asks for until `stop` is set, then drain them all.

    One of several scalers acts, the others wait for its end.
    """
    topics = settings.kafka.topics
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(Admin(settings.kafka))
        await admin.ensure_topics(topics.shared_plans())
        producer = Producer(settings.kafka, source="scaler")
        await producer.start()
        stack.push_async_callback(producer.stop)
        followed = {topics.models: None, topics.workers: None, topics.scaler: None}
        reader = await stack.enter_async_context(PartitionReader(settings.kafka, followed))
        leadership = Leadership(settings.kafka, f"{topics.prefix}scaler", producer, _word(topics))
        await leadership.start()
        stack.push_async_callback(leadership.stop)
        telemetry = stack.enter_context(opened(settings.telemetry, "scaler"))
        scaler = Scaler(settings, Parts(admin, producer, leadership, telemetry.instruments))
        actuator = scaler.actuator
        await actuator.start()
        scaler.fleet.update(await reader.read_to_end())
        following = asyncio.create_task(scaler.follow(reader))
        stack.callback(following.cancel)
        _log.info("ready, %d models deployed", len(scaler.fleet.known))
        try:
            await scaler.run(stop)
        finally:
            await actuator.stop()
            await scaler.bury()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the scaler works with."""

    admin: Admin
    producer: Producer
    leadership: Leadership
    instruments: Instruments


class Scaler:
    """The acting shell round `core.planning` and `core.scaling`."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self._settings = settings
        self._admin = parts.admin
        self._producer = parts.producer
        self._leadership = parts.leadership
        self._instruments = parts.instruments
        self._topics = settings.kafka.topics
        self._ledger = Ledger()
        self._looked_s = 0.0
        self._began_s = time.time()
        self.fleet = Fleet(self._topics, settings.scaler)
        self.actuator: Actuator = catalog.create(settings, self._heard)
        self._obituaries = Obituaries(self._topics, parts.admin, parts.producer)
        self._living: frozenset[str] = frozenset()

    async def run(self, stop: asyncio.Event) -> None:
        """Tick until `stop` is set."""
        while not stop.is_set():
            self.actuator.changed.clear()
            self._leadership.changed.clear()
            await self.bury()
            try:
                await self._tick()
            except HeadraceError as error:
                _log.warning("nothing is decided now: %s", error)
            await self._forget()
            await self._rest(stop)

    async def _rest(self, stop: asyncio.Event) -> None:
        """Until the next tick, or until something has changed."""
        events = (stop, self.actuator.changed, self._leadership.changed)
        waits = [asyncio.create_task(event.wait()) for event in events]
        # Whoever asks a model that has no worker waits for the look too.
        is_asleep = any(each.target == 0 and not each.is_fixed for each in self.fleet.known.values())
        rest_s = self._settings.scaler.tick_s / (_ALERT if is_asleep else 1)
        await asyncio.wait(waits, timeout=rest_s, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()

    async def follow(self, reader: PartitionReader) -> None:
        """Read on for ever; a change of what is deployed wakes the scaler."""
        while True:
            records = await reader.poll(1.0)
            if records:
                self.fleet.update(records)
            if any(record.place.topic == self._topics.models for record in records):
                self.actuator.changed.set()

    async def bury(self) -> None:
        """For each worker that ended: its obituary, and its name off the list."""
        for ended in self.actuator.exits():
            unit = ended.unit
            self._instruments.series(metrics.WORKER_ENDS, unit.model, _ENDS[ended.cause]).add(1)
            if ended.cause is Cause.ASKED:
                _log.info("worker %s of %s %s", unit.id, unit.model, ended.reason)
            elif ended.cause is Cause.KILLED:
                _log.warning("worker %s of %s %s", unit.id, unit.model, ended.reason)
            else:
                count = self.fleet.failed(unit.model, time.time())
                _log.warning("worker %s of %s %s (%d in a row)", unit.id, unit.model, ended.reason, count)
            if ended.cause is not Cause.ASKED:
                await self._obituaries.tell(ended, self.fleet.dead(ended))
            self.fleet.ended(ended)

    async def _forget(self) -> None:
        """Names of the long dead come off the list, whoever started them."""
        for name in self.fleet.stale(self._living, time.time()):
            try:
                await self._obituaries.take_off(name)
            except HeadraceError as error:
                _log.warning("%s stays on the list: %s", name, error)

    def _tell(self, workers: Sequence[Worker], now_s: float) -> None:
        self._instruments.series(metrics.UNSEEN).set(now_s - max(self._looked_s, self._began_s))
        for metric in (metrics.TARGET, metrics.WORK, metrics.ARRIVING, metrics.COLD_START):
            self._instruments.clear(metric)  # of models that are gone
        for model, known in self.fleet.known.items():
            self._instruments.series(metrics.TARGET, model).set(known.target)
            self._instruments.series(metrics.WORK, model).set(known.load.waiting * (known.work_s or 0.0))
            self._instruments.series(metrics.ARRIVING, model).set(known.load.arriving_per_s)
            self._instruments.series(metrics.COLD_START, model).set(known.cold_start_s)
        self._instruments.clear(metrics.WORKERS)
        for (model, phase), number in Counter((each.model, each.phase.value) for each in workers).items():
            self._instruments.series(metrics.WORKERS, model, phase).set(number)

    def _tell_nothing(self) -> None:
        """Who does not act says nothing of what it would do."""
        for metric in (
            *(metrics.TARGET, metrics.WORK, metrics.ARRIVING, metrics.COLD_START),
            *(metrics.UNSEEN, metrics.WORKERS),
        ):
            self._instruments.clear(metric)

    async def _tick(self) -> None:
        """Look, decide, write it down, act; whoever does not lead lets its workers go."""
        epoch = self._leadership.epoch
        self._instruments.series(metrics.LEADS).set(0 if epoch is None else 1)
        if epoch is None:
            self._tell_nothing()
            if not self._leadership.may_lead:
                await self.actuator.stand_back()
            return
        await self._look()
        now_s = time.time()
        units = self.actuator.units()
        if not self.actuator.names_units:
            for unit in units.values():
                self.fleet.spawned(unit.id, unit.started_at_s)
        self._living = self.fleet.living(units)
        workers = [self.fleet.worker(unit) for unit in units.values()]
        self.fleet.plan(workers, now_s)
        self._tell(workers, now_s)
        observed = self.fleet.observe(workers, now_s)
        actions = decide(observed, self._settings.scaler.restart_backoff_s, now_s)
        named = [(self._name(each), each) for each in actions]
        if named and not await self._leadership.confirm():
            return
        await self._write(epoch, workers, named, now_s)
        await self._retire({worker.model for worker in workers}, now_s)
        targets = {model: wanted.workers for model, wanted in observed.models.items()}
        await self._act(epoch, named, targets, now_s)

    def _name(self, action: Action) -> str:
        """The worker that it is about, as the decision says."""
        if isinstance(action, Stop):
            return action.worker_id
        return f"w-{uuid.uuid4().hex[:12]}" if self.actuator.names_units else "one"

    def _heard(self) -> Mapping[str, WorkerHeartbeat]:
        """The last words of workers.

        Raises:
            Unavailable: nobody could be heard, so that silence says nothing.
        """
        if time.time() - self._looked_s > _UNHEARD_S:
            raise Unavailable("Kafka has not been read for a while, so that nobody knows who works")
        return self.fleet.heartbeats

    async def _act(
        self,
        epoch: int,
        named: Sequence[tuple[str, Action]],
        targets: Mapping[str, int],
        now_s: float,
    ) -> None:
        starts, ends = [], []
        for name, action in named:
            if isinstance(action, Start):
                _log.info("start %s for %s: %s", name, action.model, action.reason)
                self.fleet.spawned(name, now_s)
                starts.append(NewUnit(name, action.model, action.version))
            else:
                _log.info("stop %s: %s", name, action.reason)
                ends.append(Ending(name))
        await self.actuator.act(Orders(epoch, starts, ends, targets))

    async def _retire(self, served: Collection[str], now_s: float) -> None:
        """Models that are to go, and have nothing left, go. Topics first: who follows us does the rest."""
        gone = [
            known.deployed
            for model, known in self.fleet.known.items()
            if model not in served and known.is_done(now_s)
        ]
        for deployed in gone:
            if not await self._leadership.confirm():
                return
            _log.info("%s is removed: nothing is left to do, and nobody works", deployed.name)
            plans = self._topics.request_plans(deployed.slug, deployed.partitions)
            await self._admin.delete_topics([plan.name for plan in plans])
            for topic, key in (
                (self._topics.scaler, f"{LEARNED}{deployed.name}"),
                (self._topics.models, deployed.name),
            ):
                await (await self._producer.send(Outgoing(topic, None, key.encode())))
            self._ledger.forget(deployed.name)

    async def _look(self) -> None:
        """Read what waits. A reading that fails changes nothing: what was decided before stands."""
        now_s = time.time()
        fixed = all(known.is_fixed for known in self.fleet.known.values())
        if fixed and now_s - self._looked_s < _FIXED_S:
            return  # no load changes anything
        try:
            slugs = {known.deployed.slug for known in self.fleet.known.values()}
            found = await self._admin.follow_backlog(slugs, self.fleet.live(now_s))
        except Unavailable as error:
            _log.warning("the backlog is not known, and nobody goes for that: %s", error)
            return
        self._looked_s = now_s = time.time()
        self.fleet.measure(depths((each.model_slug, each.requests, each.end) for each in found), now_s)

    async def _write(
        self, epoch: int, workers: Sequence[Worker], named: Sequence[tuple[str, Action]], now_s: float
    ) -> None:
        """What is decided, before it is done, and what was learned."""
        models = {worker.id: worker.model for worker in workers}
        done: dict[str, list[str]] = defaultdict(list)
        for worker_id, action in named:
            is_start = isinstance(action, Start)
            model = action.model if isinstance(action, Start) else models[worker_id]
            done[model].append(f"{'start' if is_start else 'stop'} {worker_id}: {action.reason}")
        receipts = []
        for decision in self._ledger.decisions(epoch, self.fleet.known, workers, done, now_s):
            record = Outgoing(self._topics.decisions, decision.encode(), decision.model.encode())
            receipts.append(await self._producer.send(record))
        for learned in self._ledger.learned(self.fleet.known, now_s):
            key = f"{LEARNED}{learned.model}".encode()
            receipts.append(await self._producer.send(Outgoing(self._topics.scaler, learned.encode(), key)))
        for receipt in receipts:
            await receipt


def _word(topics: Topics) -> Outgoing:
    """That we lead."""
    name = f"s-{uuid.uuid4().hex[:12]}"
    event = Leader(id=name, pid=os.getpid(), host=socket.gethostname(), at_s=time.time())
    return Outgoing(topics.scaler, event.encode(), b"leader")
