"""What one scaler has learned of pauses, spells and lulls, and what the next one makes of it."""

import pytest
from tests.unit.scaler.test_fleet import TOPICS, record
from tests.unit.scaler.test_known import beat, deployed, worker

from headrace.contracts.decisions import Learned
from headrace.core.experience import Experience
from headrace.scaler.fleet import Fleet
from headrace.scaler.known import Depth
from headrace.scaler.ledger import Ledger
from headrace.settings import ScalerSettings

TAUGHT = Experience((300.0,) * 3, (5.0,) * 3, ((40.0,) * 3, (50.0,) * 3))
OLD = b'{"kind":"learned","model":"chat","work_s":1.0,"mean":[2.0,1.0,9.0],"starts_s":[10.0],"at_s":0.0}'


def learned(experience=TAUGHT, work_s=1.0, starts_s=(10.0,)):
    event = Learned(
        model="chat",
        work_s=work_s,
        starts_s=starts_s,
        pauses_s=experience.pauses_s,
        spells_s=experience.spells_s,
        lulls_s=experience.lulls_s,
        at_s=0.0,
    )
    return record(TOPICS.scaler, "learned/chat", event)


class Scaler:
    """One that is told what its topics say, and acts."""

    def __init__(self, *records):
        self.fleet = Fleet(TOPICS, ScalerSettings(cold_start_s=10.0))
        self.fleet.update([record(TOPICS.models, "chat", deployed()), *records])
        self.known = self.fleet.known["chat"]

    def look(self, backlog, total, now_s):
        """The number of workers then."""
        self.fleet.measure({"chat": Depth(backlog, total)}, now_s)
        self.fleet.plan([worker()], now_s)
        return self.known.target

    def waves(self, times, total=1000, now_s=0.0):
        """Twenty seconds of work for some workers, and then none for 280, looked at every second."""
        for _ in range(times):
            for second in range(300):
                total += 10 * (second < 20)
                self.look(100 * (second < 20), total, now_s)
                now_s += 1.0
        return total, now_s


def test_the_next_one_begins_with_what_was_learned():
    before = Scaler(learned(Experience()))
    total, now_s = before.waves(5)
    (event,) = Ledger().learned(before.fleet.known, now_s)
    after = Scaler(record(TOPICS.scaler, "learned/chat", event))
    assert after.known.experience == before.known.experience
    assert set(after.known.experience.pauses_s) == {281.0}
    assert set(after.known.experience.spells_s) == {19.0}
    assert len(after.known.experience.lulls_s) > 1
    assert all(len(lengths_s) >= 3 for lengths_s in after.known.experience.lulls_s)
    # And lets a worker go that would be kept for a minute.
    assert [after.look(0, total, now_s + second) for second in (0.0, 9.0, 11.0)] == [1, 1, 0]
    ignorant = Scaler(learned(Experience()))
    assert [ignorant.look(0, total, now_s + second) for second in (0.0, 11.0, 59.0)] == [1, 1, 1]


def test_nothing_is_learned_of_the_time_in_which_no_scaler_acted():
    scaler = Scaler(learned())
    scaler.look(50, 100, 10_000.0)
    assert scaler.known.experience == TAUGHT
    scaler.look(0, 100, 10_001.0)
    scaler.look(50, 150, 10_100.0)
    assert scaler.known.experience.pauses_s == (*TAUGHT.pauses_s, 100.0)
    assert scaler.known.experience.spells_s == TAUGHT.spells_s, "the first one has begun at no known time"


def test_nothing_is_learned_of_the_time_in_which_another_acted():
    scaler = Scaler(learned())
    total, now_s = scaler.waves(2)
    taught = scaler.known.experience
    scaler.fleet.resign()
    total, now_s = scaler.waves(1, total + 500, now_s + 2000.0)
    assert scaler.known.experience == taught
    scaler.look(100, total + 1, now_s)
    assert scaler.known.experience.pauses_s == (*taught.pauses_s, 281.0)


def test_requests_that_came_while_another_acted_were_no_idleness():
    scaler = Scaler(learned(Experience()))
    scaler.look(0, 100, 1000.0)
    scaler.fleet.resign()
    assert scaler.look(0, 100, 1050.0) == 1
    assert scaler.known.load.idle_s == 50.0, "none came"
    scaler.fleet.resign()
    assert scaler.look(0, 101, 1500.0) == 1
    assert scaler.known.load.idle_s == 0.0


def test_whoever_does_not_act_takes_what_the_other_learns():
    scaler = Scaler(learned(Experience()))
    scaler.look(0, 100, 0.0)
    scaler.fleet.resign()
    scaler.fleet.update([learned()])
    assert scaler.known.experience == TAUGHT
    scaler.look(50, 100, 100.0)
    assert scaler.known.experience == TAUGHT


def test_whoever_acts_knows_better_than_its_own_record():
    scaler = Scaler(learned(Experience()))
    scaler.waves(3)
    taught = scaler.known.experience
    scaler.fleet.update([learned()])
    assert scaler.known.experience == taught


def test_costs_that_it_has_heard_of_itself_are_not_taken_from_another():
    scaler = Scaler()
    scaler.known.hear(beat(), beat(100, 10.0, 40.0))
    scaler.fleet.update([learned()])
    assert (scaler.known.work_s, scaler.known.experience) == (pytest.approx(0.1), TAUGHT)


@pytest.mark.parametrize("is_deployed", [True, False])
def test_of_several_records_the_latest_counts(is_deployed):
    deployment = record(TOPICS.models, "chat", deployed())
    records = [learned(Experience(), 5.0, (50.0,)), learned()]
    fleet = Fleet(TOPICS, ScalerSettings())
    fleet.update([deployment, *records] if is_deployed else [*records, deployment])
    known = fleet.known["chat"]
    assert (known.work_s, known.cold_start_s, known.experience) == (1.0, 10.0, TAUGHT)


def test_a_record_of_an_older_scaler_says_nothing_of_it():
    scaler = Scaler(record(TOPICS.scaler, "learned/chat", Learned.decode(OLD)))
    assert (scaler.known.work_s, scaler.known.cold_start_s) == (1.0, 10.0)
    assert scaler.known.experience == Experience()
