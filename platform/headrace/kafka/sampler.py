"""A look at a few of the records that wait: bounded in number and bytes, whatever waits."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from headrace.contracts.errors import Unavailable
from headrace.core.glimpse import Span
from headrace.core.ports import Record
from headrace.kafka.consumer import consumer
from headrace.kafka.records import record
from headrace.settings import KafkaSettings

MAX_RECORDS: Final = 200
_MAX_BYTES: Final = 2**20
_PLACES: Final = 8
"""Where is looked, in all partitions together; at each a run of records is read."""
_ROUNDS: Final = 4
_ANSWER_MS: Final = 500


class Sampler:
    """Use as a context manager. Reads without a group, beside whoever serves."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._raw: Any = None

    async def __aenter__(self) -> Self:
        self._raw = await consumer(
            self._settings,
            "sampler",
            fetch_max_wait_ms=100,
            fetch_max_bytes=_MAX_BYTES,
            max_partition_fetch_bytes=_MAX_BYTES // _PLACES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._raw.stop()

    async def look(self, spans: Sequence[Span]) -> list[tuple[float, Record]]:
        """Some of their records, at most `MAX_RECORDS`, each with the share of its span that is before it.

        Raises:
            Unavailable: Kafka does not answer.
        """
        rounds = places(spans)
        runs = sum(map(len, rounds))
        found: list[tuple[float, Record]] = []
        try:
            for each in rounds:
                found += await self._read(each, MAX_RECORDS // runs)
        except KafkaError as error:
            raise Unavailable(f"Kafka does not show what waits: {error!r}") from None
        finally:
            # Or it would go on fetching. To unsubscribe asks for the metadata of all topics.
            self._raw.pause(*self._raw.assignment())
        return found

    async def _read(self, starts: Sequence[tuple[Span, int]], count: int) -> list[tuple[float, Record]]:
        """A run of so many records from each start; of each partition there is one."""
        begins = {TopicPartition(span.topic, span.partition): (span, start) for span, start in starts}
        self._raw.assign(list(begins))
        for part, (_, start) in begins.items():
            self._raw.seek(part, start)
        found: list[tuple[float, Record]] = []
        for part, (span, _) in begins.items():
            polled = await self._raw.getmany(part, timeout_ms=_ANSWER_MS, max_records=count)
            size = span.end - span.begin
            ours = (raw for raw in polled.get(part, ()) if raw.offset < span.end)
            found += [((raw.offset - span.begin) / size, record(raw)) for raw in ours]
        return found


def places(spans: Sequence[Span]) -> list[list[tuple[Span, int]]]:
    """Where to begin to read: each round has one place in each of the largest partitions.

    The largest of each lane is among them: what is due soonest may be few beside many that have time.
    Together they are spread over all that waits, from the head of the first to the end of the last; where
    there are few partitions, each is looked at in several rounds.
    """
    ordered = sorted((s for s in spans if s.end > s.begin), key=lambda span: span.begin - span.end)
    firsts = {span.topic: span for span in reversed(ordered)}.values()
    largest = sorted(ordered, key=lambda span: span not in firsts)[:_PLACES]
    rounds = min(_ROUNDS, _PLACES // max(1, len(largest)))
    last = max(1, len(largest) * rounds - 1)
    found: list[list[tuple[Span, int]]] = []
    for number in range(rounds):
        found.append([])
        for at, span in enumerate(largest):
            rest = span.end - span.begin - _run(largest, rounds)
            if rest > 0:
                found[-1].append((span, span.begin + rest * (at * rounds + number) // last))
            elif number == 0:
                found[-1].append((span, span.begin))  # all of it is one run
    return [each for each in found if each]


def _run(spans: Sequence[Span], rounds: int) -> int:
    """Records at each place."""
    return MAX_RECORDS // max(1, len(spans) * rounds)
