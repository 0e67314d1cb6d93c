"""Scaling decisions: how many, which version, how soon after a failure."""

from headrace.core.scaling import Failures, Observed, Phase, Start, Stop, Wanted, Worker, decide

BACKOFF_S = (0.0, 1.0, 5.0)


def worker(name, version="v1", phase=Phase.READY, model="chat", started_at_s=0.0):
    return Worker(name, model, version, phase, started_at_s)


def run(models=None, workers=(), failures=None, now_s=100.0):
    return decide(Observed(models or {}, workers, failures or {}), BACKOFF_S, now_s)


def test_missing_workers_are_started():
    actions = run({"chat": Wanted("v1", 2)}, [worker("a")])
    assert [type(action) for action in actions] == [Start]
    assert actions[0].reason == "1 of 2 workers of version v1"


def test_one_that_starts_counts():
    assert run({"chat": Wanted("v1", 1)}, [worker("a", phase=Phase.STARTING)]) == ()


def test_one_that_drains_does_not_count():
    actions = run({"chat": Wanted("v1", 1)}, [worker("a", phase=Phase.DRAINING)])
    assert [type(action) for action in actions] == [Start]


def test_surplus_goes_newest_first():
    actions = run({"chat": Wanted("v1", 1)}, [worker("old", started_at_s=1), worker("new", started_at_s=2)])
    assert [action.worker_id for action in actions if isinstance(action, Stop)] == ["new"]


def test_the_old_version_serves_until_the_new_one_can():
    starting = [worker("old", "v1"), worker("new", "v2", Phase.STARTING)]
    assert run({"chat": Wanted("v2", 1)}, starting) == ()
    ready = [worker("old", "v1"), worker("new", "v2", Phase.READY)]
    assert [a.worker_id for a in run({"chat": Wanted("v2", 1)}, ready)] == ["old"]


def test_undeployed_models_lose_their_workers():
    assert [a.worker_id for a in run({}, [worker("a"), worker("b", phase=Phase.STARTING)])] == ["a", "b"]


def test_zero_workers_wanted():
    assert [a.worker_id for a in run({"chat": Wanted("v1", 0)}, [worker("a")])] == ["a"]


def test_the_first_failure_costs_no_wait_and_the_next_ones_do():
    models = {"chat": Wanted("v1", 1)}
    assert run(models, failures={"chat": Failures(1, 100.0)}) != ()
    assert run(models, failures={"chat": Failures(2, 99.5)}) == ()
    assert run(models, failures={"chat": Failures(2, 99.0)}) != ()
    assert run(models, failures={"chat": Failures(9, 96.0)}) == ()
    assert run(models, failures={"chat": Failures(9, 95.0)}) != ()
