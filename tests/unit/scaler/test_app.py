"""What one tick of the scaler does, with a Kafka that is played here: one that refuses cannot be had."""

import asyncio
import time

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from tests.unit.scaler.test_fleet import TOPICS, deployed, heartbeat, record

from headrace.contracts.decisions import Decision
from headrace.contracts.errors import SetupError, Unavailable
from headrace.contracts.events import ModelDeployed, WorkerState
from headrace.contracts.topics import LANES
from headrace.core.ports import Place
from headrace.kafka.backlog import Backlog, PartitionBacklog
from headrace.scaler.actuator import Unit
from headrace.scaler.app import Parts, Scaler
from headrace.settings import ScalerSettings, Settings
from headrace.telemetry.instruments import Gathering


class Kafka:
    """Fills what the scaler asks of Kafka. waiting: requests of each model; None: nobody answers.

    faults: why some models cannot be read. hidden: those whose topics nobody sees.
    """

    def __init__(self):
        self.waiting = {}
        self.faults = {}
        self.hidden = set()
        self.is_deaf = False
        self.refusal = None
        self.deleted = []
        self.made = []
        self.deployed = []
        self.sent = []
        self.failures = []
        self.epoch = 1
        self.may_lead = True
        self.changed = asyncio.Event()
        self.meanwhile = lambda: None

    async def follow_backlog(self, slugs, live):
        if self.waiting is None:
            raise Unavailable("no broker")
        rows = [
            PartitionBacklog(slug, lane, 0, self.waiting.get(slug, 0), self.waiting.get(slug, 0), 100)
            for slug in slugs
            if slug not in self.faults and slug not in self.hidden
            for lane in LANES[:1]
        ]
        return Backlog(rows, self.faults, self.is_deaf)

    async def delete_topics(self, names):
        if self.refusal is not None:
            raise self.refusal
        self.deleted += names

    async def renew_topics(self, plans):
        if self.refusal is not None:
            raise self.refusal
        self.made += [plan.name for plan in plans]
        return 12

    async def commit_initial_offsets(self, group, plans):
        self.made.append(group)

    async def models(self):
        for each in self.deployed:
            yield each

    async def confirm(self):
        self.meanwhile()
        return True

    async def send(self, outgoing):
        if self.failures:
            raise self.failures.pop()
        self.sent.append(outgoing)
        receipt = asyncio.get_running_loop().create_future()
        receipt.set_result(Place(outgoing.topic, 0, len(self.sent)))
        return receipt


class Actuator:
    """Remembers what it was told."""

    names_units = True

    def __init__(self, *units):
        self.changed = asyncio.Event()
        self.led = None
        self.found = {unit.id: unit for unit in units}
        self.orders = []

    def units(self):
        return self.found

    async def act(self, orders):
        self.orders.append(orders)

    def exits(self):
        return []

    async def lead(self, epoch):
        self.led = epoch

    async def stand_back(self):
        """Nothing goes for that."""


class Refusing(Actuator):
    """One that does nothing of what it is told, and says so."""

    async def act(self, orders):
        self.orders.append(orders)
        raise Unavailable("the Deployment of another model cannot be changed")


@pytest.fixture
def kafka():
    return Kafka()


@pytest.fixture
def scaler(kafka):
    settings = Settings(scaler=ScalerSettings(cold_start_s=10.0))
    made = Scaler(settings, Parts(kafka, kafka, kafka, Gathering("scaler"), kafka.models))
    made.actuator = Actuator()
    return made


def deploy(scaler, *events):
    """Written and read."""
    records = [record(TOPICS.models, event.name, event) for event in events]
    scaler._producer.deployed += records
    scaler.fleet.update(records)


def leaving(name):
    """A model that is to go, and has had nothing to do for long."""
    return deployed(name, workers=0).model_copy(update={"retiring": True, "deployed_at_s": 1.0})


async def retire(scaler):
    """A tick after the model has had nothing to do for as long as it must."""
    await scaler._tick()
    for known in scaler.fleet.known.values():
        known.busy_at_s = time.time() - 60.0
    await scaler._tick()


def serving(scaler, *names):
    """Workers that others have started, each with a request."""
    for name in names:
        beat = heartbeat(name, WorkerState.READY).model_copy(update={"in_flight": 1, "version": "v1"})
        scaler.fleet.update([record(TOPICS.workers, name, beat)])
        scaler.actuator.found[name] = Unit(name, "chat", "v1", time.time() - 60.0)


async def test_whoever_takes_over_and_cannot_read_keeps_all_workers(scaler, kafka):
    deploy(scaler, deployed("chat", workers=0))
    serving(scaler, "a", "b")
    kafka.waiting = None
    await scaler._tick()
    assert scaler.actuator.orders[-1].ends == []
    assert scaler.actuator.orders[-1].targets == {"chat": 2}


@pytest.mark.parametrize("how", ["fault", "hidden"])
async def test_a_model_that_cannot_be_read_keeps_its_workers_and_the_others_go_on(scaler, kafka, how):
    deploy(scaler, deployed("chat", workers=0), deployed("other", workers=0))
    serving(scaler, "a", "b")
    kafka.waiting = {"chat": 2}
    await scaler._tick()
    now = scaler.actuator.orders[-1].targets["chat"]
    if how == "fault":
        kafka.faults = {"chat": "headrace.requests.chat.default-3 has no leader"}
    else:
        kafka.hidden = {"chat"}
    known = scaler.fleet.known["chat"]
    known.busy_at_s -= 100_000.0  # for all that was read it has long been idle
    known.depth = known.depth._replace(backlog=0)
    kafka.waiting = {"other": 5}
    for _ in range(3):
        await scaler._tick()
    orders = scaler.actuator.orders[-1]
    assert orders.ends == []
    assert orders.targets["chat"] == now > 0
    assert [new.model for new in orders.starts] == ["other"]
    said = [Decision.decode(sent.value) for sent in kafka.sent if sent.key == b"chat"][-1]
    assert said.reason.startswith("cannot be read, so nothing changes: ")
    assert ("no leader" if how == "fault" else "not there") in said.unread
    kafka.faults, kafka.hidden = {}, set()
    kafka.waiting = {"chat": 2, "other": 5}
    await scaler._tick()
    said = [Decision.decode(sent.value) for sent in kafka.sent if sent.key == b"chat"][-1]
    assert said.unread == ""


async def test_a_model_on_its_way_out_stays_while_it_cannot_be_read(scaler, kafka):
    deploy(scaler, leaving("old"))
    await scaler._tick()
    kafka.faults = {"old": "no leader"}
    await retire(scaler)
    assert kafka.deleted == []
    kafka.faults = {}
    await retire(scaler)
    assert kafka.deleted


async def test_nobody_is_lost_while_heartbeats_cannot_be_read(scaler, kafka):
    deploy(scaler, deployed("chat", workers=1))
    serving(scaler, "a")
    beat = scaler.fleet.heartbeats["a"]
    scaler.fleet.heartbeats["a"] = beat.model_copy(update={"sent_at_s": time.time() - 600.0})
    kafka.is_deaf = True
    await scaler._tick()
    assert scaler.actuator.orders[-1].ends == []
    with pytest.raises(Unavailable):
        scaler._heard()
    kafka.is_deaf = False
    scaler.fleet.deaf(0.0)
    await scaler._tick()
    assert [end.unit_id for end in scaler.actuator.orders[-1].ends] == ["a"]


async def test_who_leads_says_so_even_where_units_are_not_known(scaler, kafka):
    def unknown():
        raise Unavailable("the ledger is of another release")

    scaler.actuator.units = unknown
    kafka.epoch, kafka.may_lead = None, False
    await scaler._tick()
    assert scaler.actuator.led is None
    kafka.epoch = 7
    with pytest.raises(Unavailable):
        await scaler._tick()
    assert scaler.actuator.led == 7


async def test_whoever_acts_again_does_not_undo_what_another_did_meanwhile(scaler, kafka):
    deploy(scaler, deployed("chat", workers=0))
    await scaler._tick()
    kafka.epoch, kafka.may_lead = None, False
    await scaler._tick()
    serving(scaler, "a", "b", "c")
    kafka.epoch, kafka.waiting = 3, {"chat": 3}
    await scaler._tick()
    assert scaler.actuator.orders[-1].ends == []
    kafka.epoch, kafka.waiting = None, None
    await scaler._tick()
    kafka.epoch = 5
    serving(scaler, "d")
    await scaler._tick()
    assert scaler.actuator.orders[-1].targets == {"chat": 4}, "what was read once is old"


async def test_what_was_decided_in_one_epoch_is_not_done_in_another(scaler, kafka):
    deploy(scaler, deployed("chat", workers=1))
    kafka.meanwhile = lambda: setattr(kafka, "epoch", 5)
    await scaler._tick()
    assert scaler.actuator.orders == []
    await scaler._tick()
    assert [(orders.epoch, len(orders.starts)) for orders in scaler.actuator.orders] == [(5, 1)]


async def test_whoever_acts_by_a_later_epoch_does_not_undo_what_another_did_between_two_ticks(scaler, kafka):
    deploy(scaler, deployed("chat", workers=0))
    await scaler._tick()
    serving(scaler, "a", "b", "c")
    kafka.epoch, kafka.waiting = 3, {"chat": 3}
    await scaler._tick()
    assert scaler.actuator.orders[-1].ends == []
    assert scaler.actuator.orders[-1].targets == {"chat": 3}


async def test_a_scaler_that_hears_no_more_ends_and_not_its_workers(scaler, kafka):
    deploy(scaler, deployed("chat", workers=1))
    serving(scaler, "a")

    class Refused:
        async def poll(self, timeout_s):
            raise TopicAuthorizationFailedError("headrace.workers")

    following = asyncio.create_task(scaler.follow(Refused()))
    async with asyncio.timeout(10):
        with pytest.raises(TopicAuthorizationFailedError):
            await scaler.run(asyncio.Event(), [following])
    assert not any(orders.ends for orders in scaler.actuator.orders)


async def test_who_falls_silent_is_found_out_though_the_actuator_fails(kafka):
    settings = Settings(scaler=ScalerSettings(tick_s=0.01, lost_s=0.1))
    parts = Parts(kafka, kafka, kafka, Gathering("scaler"), kafka.models)
    scaler, stop = Scaler(settings, parts), asyncio.Event()
    scaler.actuator = Refusing()
    deploy(scaler, deployed("chat", workers=1))
    serving(scaler, "a")
    running = asyncio.create_task(scaler.run(stop, ()))
    async with asyncio.timeout(10):
        while not any(end.force for orders in scaler.actuator.orders for end in orders.ends):
            await asyncio.sleep(0.01)
    stop.set()
    await running


@pytest.mark.parametrize("leap_s", [3600.0, -3600.0])
async def test_who_was_stopped_for_an_hour_or_whose_clock_has_leapt_ends_nobody(
    scaler, kafka, monkeypatch, leap_s
):
    deploy(scaler, deployed("chat", workers=1))
    serving(scaler, "a")
    await scaler._tick()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + leap_s)
    await scaler._tick()
    await scaler._forget()
    assert [orders.ends for orders in scaler.actuator.orders] == [[], []]


async def test_topics_are_read_on_after_a_clock_was_set_back(scaler, kafka, monkeypatch):
    event = deployed("chat", workers=2)
    scaling = event.manifest.scaling.model_copy(update={"max_workers": 2})
    manifest = event.manifest.model_copy(update={"scaling": scaling})
    deploy(scaler, event.model_copy(update={"manifest": manifest}))
    await scaler._tick()
    kafka.waiting = {"chat": 5}
    await scaler._tick()
    assert scaler.fleet.known["chat"].depth.backlog == 0, "no load changes anything, so they are read seldom"
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600.0)
    await scaler._tick()
    assert scaler.fleet.known["chat"].depth.backlog == 5


async def test_whoever_begins_when_kafka_is_back_ends_nobody_for_the_outage(scaler, kafka):
    deploy(scaler, deployed("chat", workers=1))
    serving(scaler, "a")
    beat = scaler.fleet.heartbeats["a"]
    old = beat.model_copy(update={"sent_at_s": beat.sent_at_s - 600.0})
    scaler.fleet.update([record(TOPICS.workers, "a", old)])
    await scaler._tick()
    assert scaler.actuator.orders[-1].ends == []


async def test_who_stands_by_takes_no_name_off_the_list(scaler, kafka):
    kafka.epoch = None
    beat = heartbeat("theirs", WorkerState.READY, time.time() - 600.0)
    scaler.fleet.update([record(TOPICS.workers, "theirs", beat)])
    await scaler._tick()
    await scaler._forget()
    assert kafka.sent == []


async def test_that_a_version_is_well_is_written_down_however_often_that_fails(scaler, kafka):
    deploy(scaler, deployed("chat", workers=0))
    serving(scaler, "a")
    kafka.waiting = {"chat": 1}
    await scaler._tick()
    scaler.fleet._ready_s["a"] -= 60.0
    kafka.failures = [Unavailable("no broker")]
    with pytest.raises(Unavailable):
        await scaler._tick()
    for _ in range(2):
        await scaler._tick()
    assert [sent.key for sent in kafka.sent].count(b"trusted/chat") == 1


@pytest.mark.parametrize("refusal", [SetupError("topics are not deleted here"), Unavailable("no broker")])
async def test_a_model_that_cannot_be_removed_holds_up_no_other(scaler, kafka, refusal):
    deploy(scaler, leaving("old"), deployed("chat", workers=0))
    kafka.refusal = refusal
    await retire(scaler)
    kafka.waiting = {"chat": 5}
    await scaler._tick()
    assert [new.model for new in scaler.actuator.orders[-1].starts] == ["chat"]


async def test_what_is_deployed_again_meanwhile_stays(scaler, kafka):
    deploy(scaler, leaving("old"))
    kafka.meanwhile = lambda: deploy(scaler, deployed("old", workers=0))
    await retire(scaler)
    assert kafka.deleted == []
    kafka.meanwhile = lambda: None
    deploy(scaler, leaving("old"))
    await retire(scaler)
    assert set(kafka.deleted) == {TOPICS.requests("old", lane) for lane in LANES}
    last = kafka.sent[-1]
    assert (last.topic, last.key, last.value) == (TOPICS.models, b"old", None)


async def test_what_is_deployed_again_and_not_read_yet_stays(scaler, kafka):
    deploy(scaler, leaving("old"))
    kafka.deployed.append(record(TOPICS.models, "old", deployed("old", workers=0)))
    await retire(scaler)
    assert kafka.deleted == []


async def test_what_is_deployed_while_it_is_removed_comes_back_with_its_topics(scaler, kafka):
    back = leaving("old").model_copy(update={"returning": True})
    deploy(scaler, back)
    kafka.refusal = Unavailable("no broker")
    await scaler._tick()
    assert not any(each.topic == TOPICS.models for each in kafka.sent)
    kafka.refusal = None
    await retire(scaler)
    await scaler._tick()
    assert kafka.made == [*(TOPICS.requests("old", lane) for lane in LANES), TOPICS.group("old")]
    (told,) = [each.value for each in kafka.sent if each.topic == TOPICS.models]
    changes = {"retiring": False, "returning": False, "partitions": 12}
    assert ModelDeployed.decode(told) == back.model_copy(update=changes)
    assert kafka.deleted == []
