"""Runs a scenario: a warm-up, then rounds in which the arms take turns."""

from dataclasses import dataclass

from loadtests.answers import judge, questions, stream_events
from loadtests.arms import Arm, Load
from loadtests.measures import Round, Turns
from loadtests.processes import cpu_s
from loadtests.rig import own_pid
from loadtests.scenarios import Scenario


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to ask: `requests` in each round of each arm, `concurrency` at once, `rounds` of them."""

    rounds: int = 5
    requests: int = 2000
    concurrency: int = 64

    def requests_of(self, scenario: Scenario) -> int:
        """Requests in a round of this scenario."""
        return max(1, round(self.requests * scenario.share))

    def concurrency_of(self, scenario: Scenario) -> int:
        """Requests at once in this scenario."""
        return scenario.concurrency or self.concurrency


async def run(scenario: Scenario, arms: dict[str, Arm], plan: Plan) -> dict[str, Turns]:
    """Ask in turns A B C A B C ...; the first turn of each warms it up and does not count."""
    found = {name: Turns() for name in scenario.arms}
    load = Load(plan.concurrency_of(scenario))
    for number in range(plan.rounds + 1):
        for name in scenario.arms:
            one = await _round(arms[name], plan.requests_of(scenario), load)
            found[name].verdict += one.verdict
            if number:
                found[name].rounds.append(one)
    return found


async def _round(arm: Arm, count: int, load: Load) -> Round:
    asked = questions(count, arm.shape)
    pids = arm.pids | own_pid()
    before = cpu_s(pids)
    run = await arm.run(asked, load)
    after = cpu_s(pids)
    # Only now, so that checking costs no measured time.
    verdict = judge(asked, run.answers, arm.shape.text_of)
    verdict.repeated += run.repeated
    good = [answer for answer in run.answers if answer.body is not None]
    streamed = [answer.body for answer in good if answer.body is not None and arm.shape.stream]
    return Round(
        wall_s=run.wall_s,
        verdict=verdict,
        latencies_s=[answer.latency_s for answer in good],
        firsts_s=[answer.first_s for answer in good] if arm.shape.stream else [],
        chunks=sum(len(stream_events(body)) - 1 for body in streamed),
        cpu_s={name: after[name] - before[name] for name in after.keys() & before.keys()},
    )
