"""What the scaler's metrics say."""

import pytest
from tests.unit.scaler.test_fleet import TOPICS, deployed, record

from headrace.contracts.decisions import Learned
from headrace.core.scaling import Phase, Worker
from headrace.scaler.actuator import Cause, Exit, Unit
from headrace.scaler.fleet import Fleet
from headrace.scaler.known import Depth
from headrace.scaler.meters import Meters
from headrace.settings import ScalerSettings
from headrace.telemetry import metrics
from headrace.telemetry.instruments import Gathering


@pytest.fixture
def gathered():
    return Gathering("scaler")


@pytest.fixture
def meters(gathered):
    return Meters(gathered)


@pytest.fixture
def fleet():
    fleet = Fleet(TOPICS, ScalerSettings())
    fleet.update([record(TOPICS.models, "chat", deployed(workers=0))])
    fleet.known["chat"].remember(
        Learned(model="chat", work_s=2.0, mean=(8.0, 2.0, 100.0), starts_s=(4.0,), at_s=0.0)
    )
    return fleet


def values(gathered, metric):
    return {labels: series.now for labels, series in dict(gathered.all())[metric]}


def counts(gathered, metric):
    return {labels: (sum(series.counts), series.sum) for labels, series in dict(gathered.all())[metric]}


def worker(phase=Phase.READY, running=0):
    return Worker("w", "chat", "v1", phase, 0.0, running)


def tick(meters, fleet, depth, workers, now_s):
    fleet.measure({"chat": depth}, now_s)
    fleet.plan(workers, now_s)
    meters.tell(fleet, workers, 0.0, now_s)


def test_where_requests_stand_and_what_they_are(meters, gathered, fleet):
    fleet.returning({"chat": [99.0]})
    tick(meters, fleet, Depth(10, 100, 13, 2), [worker(running=4)], 1.0)
    stages = {labels[1]: number for labels, number in values(gathered, metrics.STAGES).items()}
    assert stages == {"waiting": 6, "running": 4, "retrying": 1, "uncommitted": 3}
    assert values(gathered, metrics.LAG) == {("chat",): 13}
    assert values(gathered, metrics.WORK) == {("chat",): 12.0}
    assert values(gathered, metrics.WAITING_TOKENS) == {("chat",): 60.0}
    assert values(gathered, metrics.REQUEST_WORK) == {("chat",): 2.0}
    assert values(gathered, metrics.WORKERS) == {("chat", "ready"): 1}
    assert values(gathered, metrics.UNSEEN) == {("chat",): 0.0}


def test_since_when_a_model_is_not_read(meters, gathered, fleet):
    fleet.update([record(TOPICS.models, name, deployed(name)) for name in ("chat", "shut")])
    for known in fleet.known.values():
        known.deployed = known.deployed.model_copy(update={"deployed_at_s": 0.0})
    meters.tell(fleet, [], 3.0, 10.0)
    assert values(gathered, metrics.UNSEEN) == {("chat",): 7.0, ("shut",): 7.0}
    tick(meters, fleet, Depth(1, 1), [], 20.0)
    assert values(gathered, metrics.UNSEEN) == {("chat",): 0.0, ("shut",): 20.0}
    fleet.measure({}, 25.0, {"chat": "no leader"})
    meters.tell(fleet, [], 3.0, 25.0)
    assert values(gathered, metrics.UNSEEN) == {("chat",): 5.0, ("shut",): 22.0}


def test_models_that_are_gone_and_scalers_that_do_not_act_say_nothing(meters, gathered, fleet):
    meters.leads(7)
    tick(meters, fleet, Depth(10, 100), [], 1.0)
    assert (values(gathered, metrics.LEADS), values(gathered, metrics.EPOCH)) == ({(): 1}, {(): 7})
    meters.leads(None)
    meters.tell_nothing()
    assert values(gathered, metrics.LEADS) == {(): 0}
    for metric in (metrics.EPOCH, metrics.TARGET, metrics.STAGES, metrics.UNACCOUNTED, metrics.UNSEEN):
        assert values(gathered, metric) == {}


def test_the_reaction_to_a_request_where_no_worker_is(meters, gathered, fleet):
    tick(meters, fleet, Depth(1, 1), [], 10.0)
    meters.started("chat", 10.5)
    meters.started("chat", 10.5)  # another for the same work
    tick(meters, fleet, Depth(1, 1), [worker(Phase.STARTING)], 11.0)
    tick(meters, fleet, Depth(1, 1), [worker()], 14.0)
    fleet.known["chat"].told += 1
    tick(meters, fleet, Depth(0, 1), [worker()], 15.0)
    tick(meters, fleet, Depth(1, 2), [worker()], 16.0)
    found = {labels[1]: pair for labels, pair in counts(gathered, metrics.REACTION).items()}
    assert found == {"decided": (1, 0.5), "warm": (1, 4.0), "answered": (1, 5.0)}


def test_what_was_cancelled_before_is_no_reaction(meters, gathered, fleet):
    tick(meters, fleet, Depth(1, 1), [], 10.0)
    tick(meters, fleet, Depth(0, 1), [], 11.0)
    tick(meters, fleet, Depth(1, 2), [], 20.0)
    meters.started("chat", 20.5)
    assert counts(gathered, metrics.REACTION) == {("chat", "decided"): (1, 0.5)}


def test_what_alerts_see_grow_is_there_before_it_happens(meters, gathered, fleet):
    tick(meters, fleet, Depth(0, 0), [], 1.0)
    assert values(gathered, metrics.ROLL_BACKS) == {("chat",): 0}
    causes = ("asked", "overdue", "killed", "failed")
    assert values(gathered, metrics.WORKER_ENDS) == {("chat", cause): 0 for cause in causes}


def test_idle_time_is_of_ready_workers_without_requests(meters, gathered, fleet):
    for now_s, running in ((1.0, 0), (3.0, 0), (4.0, 2), (9.0, 0)):
        tick(meters, fleet, Depth(0, 1), [worker(running=running)], now_s)
    assert values(gathered, metrics.IDLE) == {("chat",): 7.0}


@pytest.mark.parametrize(
    ("stopping", "cause", "said"),
    [
        (True, Cause.ASKED, "asked"),
        (True, Cause.KILLED, "overdue"),
        (False, Cause.KILLED, "killed"),
        (False, Cause.CRASHED, "failed"),
    ],
)
def test_ends_of_workers_and_how_long_drains_take(meters, gathered, stopping, cause, said):
    if stopping:
        meters.stopped("w", 10.0)
    meters.ended(Exit(Unit("w", "chat", "v1", 0.0, stopping), cause, "because", 13.0))
    assert values(gathered, metrics.WORKER_ENDS) == {("chat", said): 1}
    assert counts(gathered, metrics.DRAIN_DURATION) == ({("chat",): (1, 3.0)} if stopping else {})
