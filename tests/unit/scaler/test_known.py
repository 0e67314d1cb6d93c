"""One model, from its heartbeats and its topics to a number of workers."""

import pytest

from headrace.contracts.decisions import Learned
from headrace.contracts.events import ModelDeployed, WorkerHeartbeat, WorkerState
from headrace.contracts.manifest import Manifest
from headrace.contracts.topics import Lane
from headrace.core.glimpse import Seen
from headrace.core.scaling import Phase, Worker
from headrace.scaler.known import Depth, Known, depths
from headrace.settings import ScalerSettings


def deployed(version="v1", partitions=70, kind="echo", **scaling):
    manifest = Manifest.model_validate(
        {
            "name": "chat",
            "engine": {"kind": kind},
            "scaling": {"min_workers": 0, "max_workers": 8} | scaling,
        }
    )
    return ModelDeployed(
        name="chat", slug="chat", version=version, package_url="s3://b/k", manifest=manifest,
        partitions=partitions, deployed_at_s=0,
    )  # fmt: skip


def beat(completed=0, busy_s=0.0, slot_s=0.0, *, version="v1", state=WorkerState.READY, tokens=0):
    return WorkerHeartbeat(
        id="w", pid=1, host="h", model="chat", version=version, state=state, in_flight=0, capacity=4,
        completed=completed, busy_s=busy_s, slot_s=slot_s, held_s=slot_s,
        tokens=tokens, tokens_out=tokens // 5, started_at_s=0, sent_at_s=0,
    )  # fmt: skip


def worker(phase=Phase.READY, running=0, started_at_s=0.0):
    return Worker("w", "chat", "v1", phase, started_at_s, running)


@pytest.fixture
def known():
    return Known(deployed(), ScalerSettings(cold_start_s=10.0))


def test_what_a_request_costs_is_heard(known):
    known.hear(beat(), beat(100, 10.0, 40.0, tokens=500))
    assert known.work_s == pytest.approx(0.1)
    assert known.calibration.mean == (4.0, 1.0, 0.0)


def test_another_version_or_one_that_does_not_serve_says_nothing(known):
    known.hear(beat(version="v0"), beat(100, 10.0, 40.0, version="v0"))
    known.hear(beat(), beat(100, 10.0, 40.0, state=WorkerState.FAILED))
    assert known.work_s is None


def test_the_manifest_says_it_until_it_is_measured():
    known = Known(deployed(work_s=3.0), ScalerSettings())
    assert known.work_s == 3.0
    known.hear(beat(), beat(100, 10.0, 40.0))
    assert known.work_s == pytest.approx(0.1)


def test_what_was_learned_is_the_first_guess_of_a_new_version(known):
    known.remember(Learned(model="chat", work_s=2.0, mean=(5.0, 2.0, 20.0), starts_s=(1.0, 5.0), at_s=0.0))
    known.deploy(deployed("v2"))
    assert (known.work_s, known.cold_start_s, known.deployed.version) == (2.0, 5.0, "v2")


def test_costs_of_a_version_that_was_there_before_are_known_again(known):
    known.hear(beat(), beat(100, 10.0, 40.0))
    known.deploy(deployed("v2"))
    for _ in range(50):
        known.hear(beat(version="v2"), beat(100, 100.0, 400.0, version="v2"))
    assert known.work_s == pytest.approx(1.0, rel=0.01)
    known.deploy(deployed("v1"))
    assert known.work_s == pytest.approx(0.1)


def test_of_old_versions_only_the_latest_are_remembered(known):
    known.hear(beat(), beat(100, 10.0, 40.0))
    for number in range(2, 100):
        known.deploy(deployed(f"v{number}"))
    assert len(known._before) == 8
    known.deploy(deployed("v98"))
    assert known.calibration.completed == 0.0
    assert known.work_s == pytest.approx(0.1)


def test_another_engine_is_measured_anew(known):
    known.hear(beat(), beat(100, 10.0, 40.0))
    known.deploy(deployed("v2", kind="llamacpp"))
    assert known.work_s is None


def test_what_waits_is_measured_by_its_size(known):
    known.remember(Learned(model="chat", work_s=1.0, mean=(100.0, 10.0, 500.0), starts_s=(10.0,), at_s=0.0))
    known.measure(Depth(10, 10), 50.0)
    long = [Seen(Lane.DEFAULT, 0.5, 45.0, 650.0, 5000)]
    known.look(long, {Lane.DEFAULT: 10}, 50.0)
    known.decide([], 0, 50.0)
    # A prompt ten times as long: 1000 tokens read, at a tenth of a written one, and 10 written; 20 are usual.
    assert known.waiting_work_s == pytest.approx(5.5)
    assert (known.backlog_s, known.backlog_tokens) == (pytest.approx(55), pytest.approx(10_100))
    assert known.oldest_s(50.0) == 5.0
    assert [due.in_s for due in known.load.due] == [600.0]
    known.decide([], 0, 61.0)
    assert known.waiting_work_s == 1.0, "that was long ago"
    assert known.load.due == ()


def test_what_comes_back_soon_is_not_idleness_and_what_comes_later_is(known):
    known.remember(Learned(model="chat", work_s=1.0, starts_s=(10.0,), at_s=0.0))
    known.returns_s = [105.0, 109.0, 300.0]
    known.measure(Depth(0, 1), 100.0)
    known.decide([worker()], 4, 100.0)
    assert (known.load.retrying, known.load.idle_s) == (2, 0.0)
    known.measure(Depth(0, 1), 99.0)
    known.returns_s = [300.0]
    known.decide([worker()], 4, 180.0)
    assert (known.load.retrying, known.target) == (0, 0)
    known.measure(Depth(0, 1), 291.0)
    assert known.busy_at_s == 291.0, "it is about to come"


def test_what_is_committed_and_not_told_is_unaccounted(known):
    known.told = 100
    for now_s in range(30):
        known.measure(Depth(0, 100), float(now_s))
    assert known.unaccounted == 0
    for now_s in range(30, 60):
        known.measure(Depth(0, 103), float(now_s))
    assert known.unaccounted == 3
    known.silent = 5
    assert known.unaccounted == 3, "nothing is left that they could run"
    known.measure(Depth(2, 105), 61.0)
    assert known.unaccounted == 5


def test_as_many_as_the_backlog_needs(known):
    known.remember(Learned(model="chat", work_s=1.0, starts_s=(10.0,), at_s=0.0))
    known.measure(Depth(100, 1000), 50.0)
    plan = known.decide([], 0, 50.0)
    # 0.8 * (30 - 10) = 16 seconds of each.
    assert (plan.needed, known.target) == (7, 7)
    assert (known.load.waiting, known.load.running) == (100, 0)


def test_partitions_are_a_limit_that_is_told():
    known = Known(deployed(partitions=4), ScalerSettings(cold_start_s=10.0))
    known.remember(Learned(model="chat", work_s=1.0, starts_s=(10.0,), at_s=0.0))
    known.measure(Depth(1000, 1000), 50.0)
    known.decide([], 0, 50.0)
    assert known.target == 4
    assert known.reason.startswith("more than 4 workers would have no partition (at most 4, ")


def test_what_runs_does_not_wait(known):
    known.remember(Learned(model="chat", work_s=1.0, starts_s=(10.0,), at_s=0.0))
    known.measure(Depth(5, 1000), 50.0)
    known.decide([worker(running=4)], 0, 50.0)
    assert (known.load.waiting, known.load.running, known.crew.warm) == (1, 4, 1)
    known.decide([worker(running=9)], 0, 50.0)
    assert (known.load.waiting, known.load.running) == (0, 5), "a heartbeat may be late"


def test_idle_from_the_last_thing_there_was_to_do(known):
    known.remember(Learned(model="chat", work_s=1.0, starts_s=(10.0,), at_s=0.0))
    known.measure(Depth(1, 1), 0.0)
    known.decide([], 0, 0.0)
    known.measure(Depth(0, 1), 30.0)
    known.decide([worker()], 4, 30.0)
    assert (known.load.idle_s, known.target) == (30.0, 1)
    known.measure(Depth(0, 2), 31.0)
    known.decide([worker()], 4, 60.0)
    assert known.load.idle_s == 29.0, "one came and went between two looks"
    known.decide([worker()], 4, 91.0)
    assert known.target == 0


def test_a_clock_that_was_set_back_keeps_nobody(known):
    known.remember(Learned(model="chat", work_s=1.0, starts_s=(10.0,), at_s=0.0))
    known.measure(Depth(1, 1), 3600.0)
    known.decide([], 0, 3600.0)
    for now_s in (0.0, 61.0):
        known.measure(Depth(0, 1), now_s)
        known.decide([worker()], 4, now_s)
    assert known.target == 0


def test_targets_stay_within_what_the_manifest_says_now(known):
    known.remember(Learned(model="chat", work_s=1.0, starts_s=(10.0,), at_s=0.0))
    known.measure(Depth(100, 1000), 50.0)
    known.decide([], 0, 50.0)
    known.deploy(deployed("v2", min_workers=1, max_workers=3))
    assert known.target == 3
    assert not known.is_fixed
    known.deploy(deployed("v3", min_workers=9, max_workers=9))
    assert known.target == 9
    assert known.is_fixed


def test_one_that_is_to_go_works_off_what_it_has_and_goes():
    known = Known(deployed(min_workers=2, max_workers=2), ScalerSettings(cold_start_s=10.0))
    known.remember(Learned(model="chat", work_s=1.0, starts_s=(10.0,), at_s=0.0))
    known.measure(Depth(1, 1), 100.0)
    known.decide([worker(), worker()], 8, 100.0)
    known.deploy(
        deployed(min_workers=2, max_workers=2).model_copy(update={"retiring": True, "deployed_at_s": 101.0})
    )
    known.measure(Depth(1, 1), 102.0)
    known.decide([worker(), worker()], 8, 102.0)
    assert known.target == 2
    known.measure(Depth(0, 1), 106.0)
    known.decide([worker(), worker()], 8, 106.0)
    assert known.target == 0
    assert known.is_done(106.0)
    assert not Known(deployed(), ScalerSettings()).is_done(1e9)


def test_one_that_is_to_go_and_has_no_worker_gets_one_for_what_it_has():
    parked = deployed(max_workers=0).model_copy(update={"retiring": True})
    known = Known(parked, ScalerSettings())
    assert not known.is_done(1e9), "its topics were not read yet"
    known.measure(Depth(3, 3), 50.0)
    known.decide([], 0, 50.0)
    assert known.target == 1
    assert not known.is_done(60.0)


def test_depths_of_models_from_their_partitions():
    rows = [("a", 0, 2, 5, 10), ("a", 0, 1, 1, 4), ("a", 1, 0, 3, 7), ("b", 0, 0, 0, 9)]
    assert depths(rows) == {"a": Depth(3, 21, 9, 1), "b": Depth(0, 9, 0, 0)}


def test_how_long_it_had_nothing_to_do_is_remembered(known):
    for start_s in (0.0, 100.0, 200.0, 300.0):
        known.measure(Depth(1, 1 + int(start_s)), start_s)
        known.measure(Depth(0, 1 + int(start_s)), start_s + 1)
    known.decide([], 0, 310.0)
    assert known.load.pauses_s == (100.0, 100.0, 100.0)


def test_more_workers_that_bring_no_more_are_not_followed_by_others():
    known = Known(deployed(work_s=1.0, max_workers=64), ScalerSettings(cold_start_s=10.0))
    known.measure(Depth(100_000, 100_000), 0.0)
    for warm, begin_s in ((2, 0), (4, 200)):
        workers = [Worker(f"w{n}", "chat", "v1", Phase.READY, 0.0, 4) for n in range(warm)]
        for second in range(begin_s, begin_s + 200):
            # Whatever is there, ten a second are done.
            known.told += 10
            known.decide(workers, 0, float(second))
    assert known.crew.enough == 2
    assert "brought" in known.plan.reason
