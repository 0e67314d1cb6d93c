"""What there is room for, and who makes it."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.core.budget import Pool, afford
from headrace.core.scaling import Observed, Phase, Start, Stop, Wanted, Worker, decide

GPUS = {"large": 2, "small": 1, "none": 0}


def gpus(most):
    return [Pool("GPU budget", GPUS, most)]


def places(most):
    return [Pool("surge", {"large": 1}, most)]


def worker(name, model="large", version="v1", phase=Phase.READY, running=0):
    return Worker(name, model, version, phase, 0.0, running)


def start(model="large", version="v1"):
    return Start(model, version, "because")


def names(found):
    return [action.worker_id for action in found.actions]


def test_only_what_there_is_room_for():
    found = afford([start(), start("small"), start("none")], [worker("a")], gpus(3))
    assert found.actions == (start("small"), start("none"))
    assert found.refused == {"large": (1, "GPU budget")}


def test_whoever_has_not_ended_holds_its_own():
    leaving = [worker("a", phase=Phase.DRAINING)]
    assert afford([start()], leaving, gpus(3)).actions == ()
    assert afford([start()], [], gpus(3)).actions == (start(),)


def test_old_workers_make_room_for_one_after_the_other():
    old = [worker("a", running=3), worker("b", running=1)]
    found = afford([start(version="v2")] * 2, old, gpus(5))
    assert names(found) == ["b"]
    assert found.actions[0].reason == "makes room for version v2: GPU budget"
    leaving = [worker("a"), worker("b", phase=Phase.DRAINING)]
    assert names(afford([start(version="v2")] * 2, leaving, gpus(4))) == [], "it is on its way"
    coming = [worker("a"), worker("c", version="v2", phase=Phase.STARTING)]
    assert names(afford([start(version="v2")], coming, gpus(4))) == [], "one comes"
    there = [worker("a"), worker("c", version="v2")]
    assert names(afford([start(version="v2")], there, gpus(4))) == ["a"]


def test_as_many_go_as_one_new_worker_needs():
    takes = {"large": 2}
    halves = [worker(name) for name in "abcd"]
    pools = [Pool("GPU budget", takes, 9), Pool("surge", {"large": 1}, 5)]
    assert names(afford([start(version="v2")], halves, pools)) == ["a"]
    assert names(afford([start(version="v2")], halves, [Pool("GPU budget", takes, 7)])) == ["a", "b"]


def test_nobody_goes_for_what_others_hold():
    both = [worker("a"), worker("b", "small"), worker("c", "small"), worker("d", "small")]
    assert names(afford([start(version="v2")], both, gpus(5))) == ["a"]
    assert names(afford([start(version="v2")], both, gpus(4))) == [], "more are held than there are"


def test_an_older_version_holds_what_it_took():
    many = Pool("GPU budget", {"large": 1, "small": 1}, 4, {("large", "v1"): 4})
    found = afford([start(version="v2"), start("small")], [worker("a")], [many])
    assert found.actions == (Stop("a", "makes room for version v2: GPU budget"),), "none is free yet"
    few = Pool("GPU budget", {"large": 2}, 4, {("large", "v1"): 1})
    assert names(afford([start(version="v2")], [worker(name) for name in "abcd"], [few])) == ["a", "b"]
    none = Pool("GPU budget", {"large": 0, "small": 2}, 2, {("large", "v1"): 2})
    found = afford([start(version="v2"), start("small")], [worker("a")], [none])
    assert found.actions == (start(version="v2"),)


def test_another_model_makes_no_room():
    found = afford([start()], [worker("a", "small"), worker("b", "small")], gpus(2))
    assert found.actions == ()
    stop = Stop("a", "more than 0 workers")
    assert afford([stop, start()], [worker("a", "small")], gpus(2)).actions == (stop,)


def test_places_of_one_model_are_limited_as_gpus_are():
    old = [worker("a"), worker("b", running=1)]
    found = afford([start(version="v2"), start("small")], old, places(2))
    assert found.actions == (start("small"), Stop("a", "makes room for version v2: surge"))
    assert found.refused == {"large": (1, "surge")}
    assert afford([start(version="v2")], old, places(3)).actions == (start(version="v2"),)


@given(st.integers(1, 4), st.integers(2, 8), st.integers(0, 100))
def test_a_rollover_ends_and_never_has_too_many(workers, most, seed):
    """Whatever ends when: in the end all are of the new version, and there were never more than allowed."""
    wanted = min(workers, most // GPUS["large"])
    crew = {f"old-{n}": worker(f"old-{n}", running=n * seed % 5) for n in range(wanted)}
    for tick in range(60):
        observed = Observed({"large": Wanted("v2", wanted)}, list(crew.values()), {})
        actions = afford(decide(observed, (0.0,), 0.0), list(crew.values()), gpus(most)).actions
        for number, action in enumerate(actions):
            if isinstance(action, Start):
                name = f"new-{tick}-{number}"
                crew[name] = worker(name, version="v2", phase=Phase.STARTING)
            else:
                crew[action.worker_id] = worker(action.worker_id, phase=Phase.DRAINING)
        assert len(crew) * GPUS["large"] <= most
        for name, each in list(crew.items()):
            if each.phase is Phase.DRAINING and (seed + tick) % 2:
                del crew[name]
            elif each.phase is Phase.STARTING and (seed + tick) % 3:
                crew[name] = worker(name, version="v2")
    assert [each.version for each in crew.values()] == ["v2"] * wanted
