"""Which decisions are written, and when."""

import pytest
from tests.unit.scaler.test_known import deployed, worker

from headrace.contracts.decisions import Learned
from headrace.core.costs import Cost
from headrace.core.scaling import Phase
from headrace.scaler.known import Depth, Known
from headrace.scaler.ledger import Ledger
from headrace.settings import ScalerSettings


@pytest.fixture
def known():
    known = Known(deployed(), ScalerSettings(cold_start_s=10.0))
    known.remember(Learned(model="chat", work_s=1.0, mean=(2.0, 1.0, 9.0), starts_s=(10.0,), at_s=0.0))
    known.measure(Depth(0, 5), 0.0)
    known.decide([], 0, 0.0)
    return known


def written(ledger, known, now_s, workers=(), actions=()):
    return ledger.decisions(7, {"chat": known}, workers, {"chat": actions}, now_s)


def test_the_first_and_then_once_a_minute_when_nothing_happens(known):
    ledger = Ledger()
    times = [now_s for now_s in range(0, 181, 1) if written(ledger, known, float(now_s))]
    assert times == [0, 60, 120, 180]


def test_every_second_while_there_is_work(known):
    ledger = Ledger()
    written(ledger, known, 0.0)
    known.measure(Depth(3, 8), 0.5)
    known.decide([worker(running=3)], 1, 0.5)
    half_seconds = [0.5, 1.0, 1.5, 2.0]
    assert [bool(written(ledger, known, now_s)) for now_s in half_seconds] == [False, True, False, True]


def test_at_once_when_something_is_done_or_changes(known):
    ledger = Ledger()
    written(ledger, known, 0.0)
    (found,) = written(ledger, known, 0.1, actions=("start w-1: why",))
    assert found.actions == ("start w-1: why",)
    known.deploy(deployed("v2"))
    assert written(ledger, known, 0.2)
    assert not written(ledger, known, 0.3)


def test_at_once_when_it_cannot_be_read_and_when_it_can_again(known):
    ledger = Ledger()
    written(ledger, known, 0.0)
    known.unread = "t-3 has no leader"
    (found,) = written(ledger, known, 0.1)
    assert found.unread == "t-3 has no leader"
    assert found.reason.startswith("cannot be read, so nothing changes: t-3 has no leader")
    assert not written(ledger, known, 0.2)
    known.unread = ""
    (found,) = written(ledger, known, 0.3)
    assert "cannot be read" not in found.reason


def test_what_it_says(known):
    known.measure(Depth(100, 105), 1.0)
    known.decide([worker(running=4), worker(Phase.STARTING)], 0, 1.0)
    crew = [worker(running=4), worker(Phase.STARTING), worker(Phase.DRAINING)]
    (found,) = written(Ledger(), known, 1.0, crew)
    assert (found.epoch, found.seq, found.model, found.version) == (7, 1, "chat", "v1")
    assert (found.waiting, found.running, found.arrived) == (96, 4, 105)
    assert (found.warm, found.starting, found.draining) == (1, 1, 1)
    assert (found.work_s, found.tokens, found.cold_start_s) == (1.0, 3.0, 10.0)
    assert found.needed == found.target > 1
    assert "96.0 s of work" in found.reason
    assert (found.backlog_tokens, found.backlog_s) == (288, 96.0)
    assert (found.lag, found.lagging, found.oldest_s, found.unaccounted) == (0, 0, None, 0)


def test_what_was_learned_is_written_when_it_has_changed(known):
    ledger = Ledger()
    (found,) = ledger.learned({"chat": known}, 0.0)
    assert (found.work_s, found.starts_s) == (1.0, (10.0,))
    assert (found.mean, found.cost) == ((2.0, 1.0, 9.0), Cost())
    assert not ledger.learned({"chat": known}, 100.0)
    known.started(12.0)
    assert not ledger.learned({"chat": known}, 5.0), "not every moment"
    assert ledger.learned({"chat": known}, 10.0)[0].starts_s == (10.0, 12.0)


def test_what_was_learned_of_pauses_is_written_when_there_is_more(known):
    ledger = Ledger()
    assert ledger.learned({"chat": known}, 0.0)[0].pauses_s == ()
    known.pauses.tell(100.0)
    assert not ledger.learned({"chat": known}, 100.0), "it has just had something to do"
    known.pauses.tell(150.04)
    assert ledger.learned({"chat": known}, 150.0)[0].pauses_s == (50.0,)
    known.pauses.tell(170.04)
    assert not ledger.learned({"chat": known}, 159.0), "not every moment"
    assert ledger.learned({"chat": known}, 171.0)[0].pauses_s == (50.0, 20.0)
    assert not ledger.learned({"chat": known}, 1000.0)


def test_nothing_learned_is_nothing_written():
    assert not Ledger().learned({"chat": Known(deployed(), ScalerSettings())}, 0.0)
