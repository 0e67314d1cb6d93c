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


def test_a_clock_that_was_set_back_holds_up_no_start():
    failures = {"chat": Failures(5, last_at_s=3700.0)}
    assert len(run({"chat": Wanted("v1", 1)}, failures=failures, now_s=100.0)) == 1


def acts(actions):
    """Names of those that go, and how many come."""
    return [a.worker_id for a in actions if isinstance(a, Stop)], sum(isinstance(a, Start) for a in actions)


def test_while_others_serve_one_worker_tries_a_new_version():
    old = [worker(f"old{n}", "v1") for n in range(4)]
    assert acts(run({"chat": Wanted("v2", 4)}, old)) == ([], 1)
    assert acts(run({"chat": Wanted("v2", 4)}, [*old, worker("new", "v2", Phase.STARTING)])) == ([], 0)
    assert acts(run({"chat": Wanted("v2", 4)}, [*old, worker("new", "v2")])) == (["old0"], 3)


def test_with_nobody_serving_a_new_version_gets_all_its_workers():
    assert acts(run({"chat": Wanted("v2", 4)}, [])) == ([], 4)


def test_an_old_worker_goes_for_each_new_one_that_is_ready():
    old = [worker("old0", "v1"), worker("old1", "v1")]
    two = [worker("new0", "v2"), worker("new1", "v2")]
    starting = worker("new2", "v2", Phase.STARTING)
    assert acts(run({"chat": Wanted("v2", 3)}, [*old, *two, starting])) == (["old0"], 0)


def test_fewer_are_needed_during_a_change_of_version():
    old = [worker(f"old{n}", "v1", started_at_s=n) for n in range(4)]
    assert acts(run({"chat": Wanted("v2", 2)}, old)) == (["old3", "old2"], 1)


def test_what_is_at_fault_is_ended_by_force_and_replaced():
    hung = Worker("hung", "chat", "v1", Phase.STARTING, 0.0, fault="is not ready 900 s after its start")
    end, start = run({"chat": Wanted("v1", 1)}, [hung])
    assert end == Stop("hung", "is not ready 900 s after its start", force=True)
    assert isinstance(start, Start)
