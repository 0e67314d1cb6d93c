"""What models may have of workers, GPUs and places, as the fleet works it out."""

from dataclasses import replace

from tests.unit.scaler.test_fleet import TOPICS, deployed, record

from headrace.core.scaling import Phase, Start, Stop, Worker, decide
from headrace.scaler.fleet import Fleet
from headrace.scaler.known import Depth
from headrace.settings import ScalerSettings


class TestBudgets:
    """Workers and GPUs of all models together."""

    def fleet(self, surge=None, **settings):
        fleet = Fleet(TOPICS, ScalerSettings(**settings))
        for name in ("chat", "other"):
            event = deployed(name, workers=3)
            scaling = event.manifest.scaling.model_copy(
                update={"min_workers": 0, "max_workers": 3, "gpus": 2, "surge": surge}
            )
            manifest = event.manifest.model_copy(update={"scaling": scaling})
            fleet.update([record(TOPICS.models, name, event.model_copy(update={"manifest": manifest}))])
            fleet.known[name].pace = replace(fleet.known[name].pace, target=3)
        return fleet

    def test_no_more_gpus_than_there_are(self):
        fleet = self.fleet(max_gpus=7)
        observed = fleet.observe([], 0.0)
        assert {name: wanted.workers for name, wanted in observed.models.items()} == {"chat": 2, "other": 1}
        assert fleet.known["other"].allowed == 1
        assert observed.models["other"].reason == "GPU budget: 1 of 3"

    def test_workers_are_another_budget(self):
        observed = self.fleet(max_workers=3, max_gpus=100).observe([], 0.0)
        assert observed.models["other"].reason == "budget of workers: 1 of 3"
        assert self.fleet().observe([], 0.0).models["other"].workers == 3

    def test_models_take_turns_where_there_is_one_worker_for_all(self):
        fleet = self.fleet(max_workers=1, cold_start_s=20.0)
        for known in fleet.known.values():
            known.load = known.load._replace(waiting=5)

        def served(now_s):
            return [name for name, wanted in fleet.observe([], now_s).models.items() if wanted.workers]

        assert [served(now_s) for now_s in (0.0, 199.0)] == [["chat"]] * 2
        assert [served(now_s) for now_s in (200.0, 399.0)] == [["other"]] * 2
        assert served(400.0) == ["chat"]
        fleet.known["chat"].load = fleet.known["chat"].load._replace(waiting=0, idle_s=19.0)
        assert served(450.0) == ["chat"], "between two requests it stays"
        fleet.known["chat"].load = fleet.known["chat"].load._replace(idle_s=20.0)
        assert served(451.0) == ["other"]

    def test_where_nobody_has_anything_to_do_nobody_takes_turns(self):
        fleet = self.fleet(max_workers=1, cold_start_s=20.0)
        for known in fleet.known.values():
            known.load = known.load._replace(idle_s=20.0)
        found = [fleet.observe([], now_s).models for now_s in (0.0, 200.0, 400.0)]
        assert [(each["chat"].workers, each["other"].workers) for each in found] == [(1, 0)] * 3

    def test_a_trial_ends_no_turn_between_two_requests(self):
        fleet = self.fleet(max_workers=1, cold_start_s=20.0)
        busy = fleet.known["other"].load._replace(waiting=5)
        fleet.known["chat"].load = busy
        assert fleet.observe([], 0.0).models["chat"].workers == 1
        fleet.known["other"].load = busy
        fleet.known["chat"].is_tried = True
        fleet.known["chat"].load = busy._replace(waiting=0, idle_s=1.0)
        assert fleet.observe([], 10.0).models["chat"].workers == 1
        fleet.known["chat"].load = busy._replace(waiting=0, idle_s=20.0)
        assert fleet.observe([], 30.0).models["chat"].workers == 0

    def test_who_has_workers_when_a_scaler_takes_over_has_its_turn(self):
        fleet = self.fleet(max_workers=1, cold_start_s=20.0)
        workers = [Worker("w-1", "other", "v1", Phase.READY, 0.0)]

        def served(now_s):
            fleet.measure({name: Depth(5, 5) for name in fleet.known}, now_s)
            fleet.plan(workers, now_s)
            return [name for name, wanted in fleet.observe(workers, now_s).models.items() if wanted.workers]

        assert [served(now_s) for now_s in (1000.0, 1199.0, 1200.0)] == [["other"], ["other"], ["chat"]]
        fleet.resign()
        assert served(1300.0) == ["other"], "whoever acted meanwhile let it have them"

    def test_nobody_starts_while_others_hold_the_gpus(self):
        fleet = self.fleet(max_gpus=4)
        workers = [Worker(f"w-{n}", "chat", "v1", Phase.DRAINING, 0.0) for n in (1, 2)]
        fleet.observe(workers, 0.0)
        start = Start("other", "v1", "because")
        assert fleet.afford([start], workers, 0.0) == ()
        assert fleet.known["other"].reason == "GPU budget: 1 wait until others have ended"
        assert fleet.afford([start], workers[:1], 0.0) == (start,)
        assert self.fleet().afford([start], workers, 0.0) == (start,)

    def test_a_turn_begins_when_those_before_have_ended(self):
        fleet = self.fleet(max_gpus=2, cold_start_s=1.0)
        for known in fleet.known.values():
            known.load = known.load._replace(waiting=5)

        def given(workers, now_s):
            observed = fleet.observe(workers, now_s)
            actions = fleet.afford(decide(observed, [0.0], now_s), workers, now_s)
            return [each.model for each in actions if isinstance(each, Start)]

        mine = Worker("w-1", "chat", "v1", Phase.READY, 0.0)
        assert given([], 0.0) == ["chat"]
        for now_s in range(60, 301, 20):
            assert given([replace(mine, phase=Phase.DRAINING)], now_s) == []
            assert fleet.known["other"].allowed == 1
        assert given([], 301.0) == ["other"]
        theirs = [Worker("w-2", "other", "v1", Phase.STARTING, 301.0)]
        assert given(theirs, 359.0) == []
        assert [known.allowed for known in fleet.known.values()] == [0, 1]
        # Whose own worker of an older version ends has had its turn all the while.
        given([replace(theirs[0], version="v0", phase=Phase.DRAINING)], 358.0)
        given(theirs, 361.0)
        assert [known.allowed for known in fleet.known.values()] == [1, 0]

    def test_an_older_version_holds_as_many_gpus_as_it_took(self):
        fleet = self.fleet(max_gpus=2)
        before = fleet.known["chat"].deployed
        fleet.trust(before)
        scaling = before.manifest.scaling.model_copy(update={"gpus": 1})
        manifest = before.manifest.model_copy(update={"scaling": scaling})
        fleet.deploy(before.model_copy(update={"manifest": manifest, "version": "v2"}))
        workers = [Worker("w-1", "chat", "v1", Phase.READY, 0.0)]
        fleet.observe(workers, 0.0)
        (stop,) = fleet.afford([Start("chat", "v2", "because")], workers, 0.0)
        assert stop == Stop("w-1", "makes room for version v2: GPU budget")

    def test_a_change_of_version_has_so_many_places(self):
        fleet = self.fleet(surge=0)
        workers = [Worker(f"w-{n}", "chat", "v1", Phase.READY, 0.0) for n in (1, 2, 3)]
        start = Start("chat", "v2", "because")
        fleet.observe(workers, 0.0)
        assert fleet.afford([start], workers, 0.0) == (Stop("w-1", "makes room for version v2: surge"),)
        assert fleet.known["chat"].reason == "surge: 1 wait until others have ended"
        assert fleet.afford([start], workers[:2], 0.0) == (start,)
        assert self.fleet(surge=1).afford([start], workers, 0.0) == (start,)
