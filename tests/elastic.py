"""A model on a whole stack, whose workers come and go: who asks it, and what was decided and answered."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, Final

import httpx
from tests.stack import START_S, Stack, wait_until

from headrace.contracts import headers as h
from headrace.contracts.decisions import Decision, Leader, Learned
from headrace.contracts.topics import Topics
from headrace.core.ports import Record
from headrace.kafka.reader import PartitionReader
from headrace.settings import KafkaSettings

# A request takes two seconds, four beside one another as long as one: half a second of a worker.
MANIFEST: Final = """\
schema: headrace.function/v1
name: elastic
engine:
  kind: echo
  args: {slots: 4, token_ms: 100, step_batching: false, output_tokens: 20, start_ms: 500}
scaling: {min_workers: 0, max_workers: 4, idle_s: 2, drain_target_s: 5}
"""

# A scaler whose windows are so short that a test can wait for them.
HURRY: Final = {
    "HEADRACE_SCALER_UP_STEP_S": "2",
    "HEADRACE_SCALER_DOWN_WINDOW_S": "2",
    "HEADRACE_SCALER_DOWN_STEP_S": "1",
}

_TOPICS: Final = Topics()


class Elastic:
    """What it reads is all that there has been since the stack began."""

    def __init__(self, stack: Stack, model: str = "elastic") -> None:
        self.stack = stack
        self.model = model

    @property
    def kafka(self) -> KafkaSettings:
        return KafkaSettings(bootstrap_servers=self.stack.kafka_bootstrap_servers)

    def post(self, text: str = "hello", prefer: str = "wait=60") -> httpx.Response:
        """One message, whatever comes of it."""
        body = {"model": self.model, "messages": [{"role": "user", "content": text}]}
        url = f"{self.stack.http_url}/v1/chat/completions"
        return httpx.post(url, json=body, headers={"prefer": prefer}, timeout=90)

    def ask(self, text: str = "hello", prefer: str = "wait=60") -> httpx.Response:
        """One message that is taken."""
        return self.post(text, prefer).raise_for_status()

    def submit(self, number: int) -> set[str]:
        """So many jobs at once; their ids."""
        with ThreadPoolExecutor(8) as pool:
            names = set(pool.map(lambda _: self.ask(prefer="respond-async").json()["id"], range(number)))
        assert len(names) == number, "each has a name of its own"
        return names

    def workers(self) -> dict[str, dict[str, Any]]:
        """What those of this model say of themselves, by their ids."""
        return {each["id"]: each for each in self.stack.status()["workers"] if each["model"] == self.model}

    def ready(self) -> dict[str, dict[str, Any]]:
        return {name: each for name, each in self.workers().items() if each["state"] == "ready"}

    def until_none(self) -> None:
        wait_until(lambda: not self.workers(), "no worker", 60)

    def read(self, topic: str) -> list[Record]:
        async def all_of_it() -> list[Record]:
            async with PartitionReader(self.kafka, {topic: None}) as reader:
                return await reader.read_to_end()

        return asyncio.run(all_of_it())

    def decisions(self) -> list[Decision]:
        """Those about this model."""
        found = [Decision.decode(record.value or b"") for record in self.read(_TOPICS.decisions)]
        return [each for each in found if each.model == self.model]

    def started(self) -> list[str]:
        """Ids of the workers that were started, as the decisions say."""
        actions = [action for each in self.decisions() for action in each.actions]
        return [action.split()[1].rstrip(":") for action in actions if action.startswith("start ")]

    def leaders(self) -> list[int]:
        """Process ids of the scalers that acted, one after the other."""
        records = (each for each in self.read(_TOPICS.scaler) if each.key == b"leader")
        return [pid for pid, _ in groupby(Leader.decode(each.value or b"").pid for each in records)]

    def learned(self) -> Learned:
        """What the next scaler would be told of this model."""
        key = f"learned/{self.model}".encode()
        return Learned.decode(
            [each.value for each in self.read(_TOPICS.scaler) if each.key == key][-1] or b""
        )

    def answers(self) -> Counter[str]:
        """How often each request was answered."""
        return Counter(each.headers[h.CAUSATION_ID].decode() for each in self.read(_TOPICS.results))

    def not_once(self, names: set[str]) -> dict[str, int]:
        """Those of them that were not answered exactly once, and how often they were."""
        told = self.answers()
        return {name: told[name] for name in names if told[name] != 1}

    def repeats(self, names: set[str]) -> int:
        """How many answers too many. Each was answered.

        A worker that is killed may have answered as many as it has slots and not yet committed them.
        """
        found = self.not_once(names).values()
        assert 0 not in found
        return sum(times - 1 for times in found)

    def until_done(self, names: set[str], timeout_s: float = START_S) -> None:
        """Wait until all of them are answered."""
        wait_until(lambda: names <= self.answers().keys(), "all answers", timeout_s)
