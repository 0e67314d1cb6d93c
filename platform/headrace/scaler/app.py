"""Wiring of the scaler: read, decide, act, once a tick and whenever something changes."""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from headrace.contracts.decisions import Leader
from headrace.contracts.errors import HeadraceError, Unavailable
from headrace.contracts.events import WorkerHeartbeat
from headrace.contracts.topics import Topics
from headrace.core.glimpse import Span
from headrace.core.ports import Outgoing, Record
from headrace.core.scaling import Action, Start, Stop, Worker, decide
from headrace.kafka.admin import Admin
from headrace.kafka.backlog import PartitionBacklog
from headrace.kafka.leadership import Leadership
from headrace.kafka.lookup import every
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.kafka.returning import ReturningReader
from headrace.kafka.sampler import Sampler
from headrace.scaler.actuator import Actuator, Cause, Ending, NewUnit, Orders
from headrace.scaler.actuators import catalog
from headrace.scaler.fleet import LEARNED, Fleet
from headrace.scaler.known import depths
from headrace.scaler.ledger import Ledger
from headrace.scaler.meters import Meters
from headrace.scaler.obituaries import Obituaries
from headrace.scaler.observer import Observer
from headrace.scaler.removals import Removals
from headrace.scaler.rollouts import Rollouts
from headrace.settings import Settings
from headrace.telemetry.instruments import Instruments
from headrace.telemetry.setup import opened

_log = logging.getLogger(__name__)

_ALERT: Final = 2
_FIXED_S: Final = 5.0
"""How often topics are read while no model's number of workers depends on them."""
_UNHEARD_S: Final = _FIXED_S + 1.0
"""Topics that were not read for so long were out of reach, and heartbeats with them."""


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
        models = partial(every, settings.kafka, topics.models)
        scaler = Scaler(settings, Parts(admin, producer, leadership, telemetry.instruments, models))
        actuator = scaler.actuator
        await actuator.start()
        scaler.fleet.update(await reader.read_to_end())
        retries = await stack.enter_async_context(ReturningReader(settings.kafka))
        sampler = await stack.enter_async_context(Sampler(settings.kafka))
        observer = scaler.observer
        works = (scaler.follow(reader), observer.follow(retries), observer.watch(sampler))
        following = [asyncio.create_task(work) for work in works]
        for task in following:
            stack.callback(task.cancel)
        _log.info("ready, %d models deployed", len(scaler.fleet.known))
        try:
            await scaler.run(stop, following)
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
    models: Callable[[], AsyncIterator[Record]]


class Scaler:
    """The acting shell round `core.planning` and `core.scaling`."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self._settings = settings
        self._admin = parts.admin
        self._producer = parts.producer
        self._leadership = parts.leadership
        self._meters = Meters(parts.instruments)
        self._topics = settings.kafka.topics
        self._ledger = Ledger()
        self._looked_s = 0.0
        self._led: int | None = None
        self._began_s = self._polled_s = time.time()
        self.fleet = Fleet(self._topics, settings.scaler)
        self.fleet.deaf(self._began_s)  # what is read first may be as old as the last outage
        self.observer = Observer(self._topics, self.fleet)
        self.actuator: Actuator = catalog.create(settings, self._heard)
        self._obituaries = Obituaries(self._topics, parts.admin, parts.producer)
        self._rollouts = Rollouts(self._topics, parts.producer, parts.instruments)
        self._removals = Removals(self._topics, parts.admin, parts.producer, parts.models)
        self._living: frozenset[str] = frozenset()

    async def run(self, stop: asyncio.Event, following: Sequence[asyncio.Task[None]]) -> None:
        """Tick until `stop` is set, or one of those that follow what happens has failed.

        Raises: what it failed of: deaf, we would end all workers for their silence.
        """
        while not stop.is_set():
            for task in following:
                if task.done():
                    task.result()
            self.actuator.changed.clear()
            self._leadership.changed.clear()
            await self.bury()
            try:
                await self._tick()
            except HeadraceError as error:
                _log.warning("nothing is decided now, or not all is done: %s", error)
                if self._is_deaf:  # workers are heard though their actuator fails
                    self.fleet.deaf(time.time())
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
            now_s = time.time()
            self._mind_gap(now_s)
            self._polled_s = now_s
            if records:
                self.fleet.update(records)
            if any(record.place.topic == self._topics.models for record in records):
                self.actuator.changed.set()

    def _mind_gap(self, now_s: float) -> None:
        """Where we were stopped for a while, or the clock has leapt, nobody could be heard."""
        if not 0 <= now_s - self._polled_s <= _UNHEARD_S:
            self.fleet.deaf(now_s)

    async def bury(self) -> None:
        """For each worker that ended: its obituary, and its name off the list."""
        for ended in self.actuator.exits():
            unit = ended.unit
            self._meters.ended(ended)
            fault = self.fleet.verdict(ended)
            if fault is not None:
                count = self.fleet.failed(unit, fault, time.time())
                why = "" if fault == ended.reason else f": {fault}"
                _log.warning("worker %s of %s %s%s (%d)", unit.id, unit.model, ended.reason, why, count)
            else:
                level = logging.INFO if ended.cause is Cause.ASKED else logging.WARNING
                _log.log(level, "worker %s of %s %s", unit.id, unit.model, ended.reason)
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

    async def _tick(self) -> None:
        """Look, decide, write it down, act; whoever does not lead lets its workers go."""
        epoch = self._leadership.epoch
        self._meters.leads(epoch)
        if epoch is None:
            self._meters.tell_nothing()
            self.observer.spans = {}
            self.fleet.deaf(time.time())
            self.fleet.resign()
            if not self._leadership.may_lead:
                await self.actuator.stand_back()
            return
        if epoch != self._led:
            self.fleet.resign()  # another may have acted between two ticks
            self._led = epoch
        await self.actuator.lead(epoch)
        is_read = await self._look()
        now_s = time.time()
        self._mind_gap(now_s)
        units = self.actuator.units()
        if not self.actuator.names_units:
            for unit in units.values():
                self.fleet.spawned(unit.id, unit.started_at_s)
        self.fleet.see(units.values())
        self._living = self.fleet.living(units)
        workers = [self.fleet.worker(unit, now_s) for unit in units.values()]
        await self._rollouts.tick(self.fleet, workers, self._leadership.confirm, now_s)
        self.fleet.plan(workers, now_s, is_read=is_read)
        self._meters.tell(self.fleet, workers, self._began_s, now_s)
        observed = self.fleet.observe(workers, now_s)
        decided = decide(observed, self._settings.scaler.restart_backoff_s, now_s)
        actions = self.fleet.afford(decided, workers, now_s)
        named = [(self._name(each), each) for each in actions]
        if named and not (await self._leadership.confirm() and self._leadership.epoch == epoch):
            return
        await self._write(epoch, workers, named, now_s)
        served = {worker.model for worker in workers}
        for model in await self._removals.tick(self.fleet, served, self._leadership.confirm, now_s):
            self._ledger.forget(model)
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
        if self._is_deaf:
            raise Unavailable("Kafka has not been read for a while, so that nobody knows who works")
        return self.fleet.heartbeats

    @property
    def _is_deaf(self) -> bool:
        return not 0 <= time.time() - self._looked_s <= _UNHEARD_S

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
                self._meters.started(action.model, now_s)
                starts.append(NewUnit(name, action.model, action.version))
                continue
            _log.info("%s %s: %s", "end" if action.force else "stop", name, action.reason)
            if action.force:
                self.fleet.condemn(name, action.reason)
            self._meters.stopped(name, now_s)
            ends.append(Ending(name, action.force))
        await self.actuator.act(Orders(epoch, starts, ends, targets))

    async def _look(self) -> bool:
        """Read what waits. A reading that fails changes nothing: what was decided before stands.

        A model that alone cannot be read is so kept alone.
        """
        now_s = time.time()
        fixed = all(known.is_fixed for known in self.fleet.known.values())
        if fixed and 0 <= now_s - self._looked_s < _FIXED_S:  # a clock may be set back
            return True  # no load changes anything
        try:
            slugs = {known.deployed.slug for known in self.fleet.known.values()}
            found = await self._admin.follow_backlog(slugs, self.fleet.live(now_s))
        except Unavailable as error:
            _log.warning("the backlog is not known, and nobody goes for that: %s", error)
            self.fleet.deaf(now_s)
            return False
        now_s = time.time()
        if found.is_deaf:
            self.fleet.deaf(now_s)
        else:
            self._looked_s = now_s
        self.fleet.measure(depths(_part(row) for row in found.rows), now_s, found.faults)
        self.observer.spans = _spans(self._topics, found.rows)
        return True

    async def _write(
        self, epoch: int, workers: Sequence[Worker], named: Sequence[tuple[str, Action]], now_s: float
    ) -> None:
        """What is decided, before it is done, and what was learned."""
        models = {worker.id: worker.model for worker in workers}
        done: dict[str, list[str]] = defaultdict(list)
        for worker_id, action in named:
            model = action.model if isinstance(action, Start) else models[worker_id]
            verb = "start" if isinstance(action, Start) else "end" if action.force else "stop"
            done[model].append(f"{verb} {worker_id}: {action.reason}")
        receipts = []
        for decision in self._ledger.decisions(epoch, self.fleet.known, workers, done, now_s):
            record = Outgoing(self._topics.decisions, decision.encode(), decision.model.encode())
            receipts.append(await self._producer.send(record))
        for learned in self._ledger.learned(self.fleet.known, now_s):
            key = f"{LEARNED}{learned.model}".encode()
            receipts.append(await self._producer.send(Outgoing(self._topics.scaler, learned.encode(), key)))
        for receipt in receipts:
            await receipt


def _word(topics: Topics) -> Callable[[], Outgoing]:
    """That we lead from now on."""
    name = f"s-{uuid.uuid4().hex[:12]}"

    def word() -> Outgoing:
        event = Leader(id=name, pid=os.getpid(), host=socket.gethostname(), at_s=time.time())
        return Outgoing(topics.scaler, event.encode(), b"leader")

    return word


def _part(row: PartitionBacklog) -> tuple[str, int, int, int, int]:
    """As `depths` takes it."""
    return row.model_slug, row.partition, row.requests, row.lag, row.end


def _spans(topics: Topics, rows: Sequence[PartitionBacklog]) -> dict[str, list[Span]]:
    """What waits, by model."""
    found: defaultdict[str, list[Span]] = defaultdict(list)
    for row in rows:
        if row.requests:
            topic = topics.requests(row.model_slug, row.lane)
            found[row.model_slug].append(Span(topic, row.partition, row.end - row.lag, row.end, row.requests))
    return found
