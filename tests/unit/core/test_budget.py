"""GPUs that there are, and who holds them."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.core.budget import afford
from headrace.core.scaling import Observed, Phase, Start, Stop, Wanted, Worker, decide

GPUS = {"large": 2, "small": 1, "none": 0}


def worker(name, model="large", version="v1", phase=Phase.READY, running=0):
    return Worker(name, model, version, phase, 0.0, running)


def start(model="large", version="v1"):
    return Start(model, version, "because")


def test_only_what_there_is_room_for():
    found = afford([start(), start("small"), start("none")], [worker("a")], GPUS, 3)
    assert found.actions == (start("small"), start("none"))
    assert found.refused == {"large": 1}


def test_whoever_has_not_ended_holds_its_own():
    leaving = [worker("a", phase=Phase.DRAINING)]
    assert afford([start()], leaving, GPUS, 3).actions == ()
    assert afford([start()], [], GPUS, 3).actions == (start(),)


def test_an_old_version_makes_room_one_by_one():
    old = [worker("a", running=3), worker("b", running=1)]
    found = afford([start(version="v2")] * 2, old, GPUS, 5)
    assert [action.worker_id for action in found.actions] == ["b", "a"]
    assert "GPU budget" in found.actions[0].reason
    one = afford([start(version="v2")], old, GPUS, 5)
    assert [action.worker_id for action in one.actions] == ["b"]
    leaving = [worker("a"), worker("b", phase=Phase.DRAINING)]
    assert afford([start(version="v2")], leaving, GPUS, 4).actions == (), "it is on its way"


def test_another_model_makes_no_room():
    found = afford([start()], [worker("a", "small"), worker("b", "small")], GPUS, 2)
    assert found.actions == ()
    stop = Stop("a", "more than 0 workers")
    assert afford([stop, start()], [worker("a", "small")], GPUS, 2).actions == (stop,)


@given(st.integers(1, 4), st.integers(2, 8), st.integers(0, 100))
def test_a_rollover_ends_and_never_has_too_many(workers, most, seed):
    """Whatever ends when: in the end all are of the new version, and there were never more than allowed."""
    wanted = min(workers, most // GPUS["large"])
    crew = {f"old-{n}": worker(f"old-{n}", running=n * seed % 5) for n in range(wanted)}
    for tick in range(60):
        observed = Observed({"large": Wanted("v2", wanted)}, list(crew.values()), {})
        actions = afford(decide(observed, (0.0,), 0.0), list(crew.values()), GPUS, most).actions
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
