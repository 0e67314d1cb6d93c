"""What the shells need from adapters. Only `app.py` files choose which adapter fills a port."""

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import Any, NamedTuple, Protocol

from headrace.contracts.bodies import Body
from headrace.contracts.headers import Headers


class Call(NamedTuple):
    """One request, as an engine sees it.

    value: the exact JSON body, for engines that take it as it is.
    body: the same, checked.
    model: the public name to answer with. version: of the function.
    adapter: the one of the model's adapters to use.
    """

    id: str
    model: str
    path: str
    value: bytes
    body: Body
    created_s: int
    version: str = ""
    adapter: str | None = None


class Partial(NamedTuple):
    """One chunk of a stream: the exact JSON of an OpenAI chunk."""

    value: bytes


class Final(NamedTuple):
    """The whole answer: the exact JSON of an OpenAI response. `incomplete` when it was cut short."""

    value: bytes
    incomplete: bool = False


class Engine(Protocol):
    """What runs a model inside a worker.

    `run` yields `Partial`s when the body asks for a stream, then exactly one `Final`. Closing the generator,
    or cancelling the task that awaits it, aborts the work inside the engine: when that returns nothing runs
    on. It raises `InvalidRequest` (or a subclass) for what this model cannot do, and `EngineDied` when it can
    serve nothing any more; any other exception is a failure on this request. Up to `capacity` calls run at
    once; up to `lookahead` more wait inside.
    """

    @property
    def capacity(self) -> int:
        """How many calls may run at once."""
        ...

    @property
    def lookahead(self) -> int:
        """How many more it takes beside them, to begin each the moment that another ends."""
        ...

    async def start(self) -> None:
        """Load the model; returns when the engine can serve."""
        ...

    def run(self, call: Call) -> AsyncGenerator[Partial | Final, None]:
        """Serve one call."""
        ...

    async def stop(self) -> None:
        """Free everything. No call is running."""
        ...


class Place(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int


class Record(NamedTuple):
    """A consumed record. `headers` by name; `timestamp_ms` by the log's or the producer's clock."""

    place: Place
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    timestamp_ms: int


class Outgoing(NamedTuple):
    """A record to publish; `partition` None lets the producer choose."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers | None = None
    partition: int | None = None


class Receipt(Protocol):
    """The broker's acknowledgement of a record, given when it is durable.

    Both `await` and `add_done_callback` work, as on `asyncio.Future`. Failing raises `Unavailable` (the
    record may or may not have been written) or `BodyTooLarge` (it was not).
    """

    def __await__(self) -> Generator[Any, None, Place]:
        """Wait for the acknowledgement."""
        ...

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Call back when acknowledged or failed."""
        ...

    def exception(self) -> BaseException | None:
        """Why it failed, once done."""
        ...

    def result(self) -> Place:
        """Where the record lies, once done."""
        ...


class Publisher(Protocol):
    """Writes records, acknowledged by every in-sync replica."""

    async def send(self, record: Outgoing) -> Receipt:
        """Hand the record over. Records to one partition keep their order.

        Raises:
            Unavailable: no broker, or no such topic or partition; nothing was written.
            NotPermitted: the broker's permissions or the topic's rules forbid it; nothing was written.
            BodyTooLarge: Kafka would not take a record of this size; nothing was written.
        """
        ...

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has; 0 when there is no such topic."""
        ...


class BulkPublisher(Publisher, Protocol):
    """The same for those who have many at once."""

    async def send_all(self, records: Sequence[Outgoing]) -> Sequence[Receipt]:
        """Hand over records that name their partitions; all are acknowledged when all receipts are there.

        A receipt is of several, and says where the first of them is: so each costs less than by `send`.
        Those of one partition keep their order, but for large ones, which may come before smaller ones.

        Raises as `send` does; earlier ones may then be on their way.
        """
        ...


class WorkSource(Protocol):
    """Where a worker's requests come from: its share of the group's partitions."""

    async def take(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Requests to start now, higher lanes first; each is in flight until `complete`."""
        ...

    def complete(self, place: Place) -> None:
        """The request's fate is durable; it will be committed and not come again."""
        ...

    def abort(self, place: Place) -> None:
        """The request was given up without a fate: whoever has its partition runs it anew."""
        ...

    @property
    def run(self) -> str:
        """Generation and worker: tells runs of one request apart."""
        ...


class Reader(Protocol):
    """Reads partitions without a group."""

    async def poll(self, timeout_s: float) -> Sequence[Record]:
        """The next records, in order by partition; empty after `timeout_s`."""
        ...
