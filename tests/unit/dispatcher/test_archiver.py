"""The archiver on a real SQLite file; Kafka's side is scripted, so that it can fail at will."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from headrace.contracts import headers as h
from headrace.contracts import replies
from headrace.contracts.errors import BodyTooLarge, HeadraceError, Unavailable
from headrace.contracts.replies import ReplyHead
from headrace.contracts.states import State
from headrace.contracts.topics import Topics
from headrace.core.archive import FinalResult
from headrace.core.ports import Outgoing, Place, Record
from headrace.dispatcher import archiver, insisting
from headrace.dispatcher.archiver import Archiver, Parts
from headrace.settings import DatabaseSettings, DispatcherSettings
from headrace.store.database import open_engine
from headrace.store.results import Results
from headrace.store.upgrade import upgrade

_TOPICS = Topics()


class _Source:
    """Gives its batches one by one, then stops the archiver."""

    def __init__(self, stop: asyncio.Event, *batches: Sequence[Record]) -> None:
        self._stop = stop
        self._batches = list(batches)
        self.commits = 0

    async def poll(self, timeout_s: float, max_records: int) -> Sequence[Record]:
        if self._batches:
            return self._batches.pop(0)
        self._stop.set()
        return []

    async def commit(self) -> bool:
        self.commits += 1
        return True


class _Publisher:
    """Keeps what is sent; raises the given errors first."""

    def __init__(self, *errors: HeadraceError) -> None:
        self._errors = list(errors)
        self.sent: list[Outgoing] = []

    async def send(self, record: Outgoing) -> "asyncio.Future[Place]":
        if self._errors:
            raise self._errors.pop(0)
        self.sent.append(record)
        receipt: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        receipt.set_result(Place(record.topic, 0, 0))
        return receipt

    async def partitions(self, topic: str) -> int:
        return 1


class _Flaky:
    """An archive that does not serve at first."""

    def __init__(self, results: Results, failures: int) -> None:
        self._results = results
        self.failures = failures

    async def add_many(self, rows: Sequence[FinalResult]) -> int:
        if self.failures:
            self.failures -= 1
            raise Unavailable("The database is down")
        return await self._results.add_many(rows)

    async def purge(self, now_s: float) -> int:
        return await self._results.purge(now_s)


def _record(offset: int, request_id: str = "req_1", **changes: bytes | None) -> Record:
    headers = dict(replies.write(ReplyHead(request_id, State.COMPLETED, "/w")))
    value = changes.pop("value", b'{"ok":true}')
    headers.update({f"ce_{name}": given for name, given in changes.items() if given is not None})
    return Record(Place(_TOPICS.results, 0, offset), request_id.encode(), value, headers, 1_790_000_000_125)


@pytest.fixture
async def results(tmp_path: Path) -> AsyncIterator[Results]:
    settings = DatabaseSettings(url=f"sqlite:///{tmp_path}/headrace.db")
    await upgrade(settings)
    found = Results(open_engine(settings))
    yield found
    await found.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insisting, "_RETRY_S", (0.01,))


async def _run(
    archive: Results | _Flaky,
    publisher: _Publisher,
    *batches: Sequence[Record],
    stop: asyncio.Event | None = None,
) -> _Source:
    stop = stop or asyncio.Event()
    source = _Source(stop, *batches)
    await Archiver(Parts(source, archive, publisher, _TOPICS, DispatcherSettings())).run(stop)
    return source


async def test_results_are_kept_and_then_committed(results: Results) -> None:
    publisher = _Publisher()
    source = await _run(results, publisher, [_record(0), _record(1, "req_2")], [_record(2, value=b"again")])
    found = await results.get("req_1")
    assert found == FinalResult(
        request_id="req_1",
        state=State.COMPLETED,
        http_status=200,
        model=None,
        content_type="application/json",
        body=b'{"ok":true}',
        created_at_s=1_790_000_000.125,
        expires_at_s=1_790_086_400.125,
    )
    assert await results.get("req_2") is not None
    assert (source.commits, publisher.sent) == (2, [])


@pytest.mark.parametrize(
    "bad",
    [
        _record(1, type=b"headrace.inference.request.v1"),
        _record(1, type=replies.CHUNK_TYPE.encode()),
        _record(1, value=None),
        _record(1, causationid=b""),
        _record(1, causationid=b"x" * 257),
        _record(1, causationid=b"a\0b"),
        _record(1, subject=b"\xff"),
        _record(1, httpstatus=b"99999999999"),
    ],
)
async def test_a_bad_record_is_dead_lettered_and_holds_up_nobody(results: Results, bad: Record) -> None:
    publisher = _Publisher()
    source = await _run(results, publisher, [_record(0), bad, _record(2, "req_2")])
    assert source.commits == 1
    assert await results.get("req_1") is not None
    assert await results.get("req_2") is not None
    (dead,) = publisher.sent
    headers = dict(dead.headers or ())
    assert (dead.topic, dead.value, dead.key) == (_TOPICS.dead_letters, bad.value or b"", bad.key)
    assert headers[h.ORIGIN_TOPIC] == _TOPICS.results.encode()
    assert headers[h.ORIGIN_OFFSET] == b"1"
    assert headers[h.ERROR_CODE] == b"invalid_request"
    assert bad.headers.items() <= headers.items()


async def test_a_row_that_the_database_refuses_is_found_out(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unbounded(record: Record, retention_s: float) -> FinalResult:
        status = 2**80 if record.place.offset == 1 else 200
        return FinalResult(f"req_{record.place.offset}", State.FAILED, status, None, "a/b", b"", 1.0, 2.0)

    monkeypatch.setattr(archiver, "final_result", unbounded)
    publisher = _Publisher()
    source = await _run(results, publisher, [_record(offset) for offset in range(3)])
    assert source.commits == 1
    assert [dict(dead.headers or ())[h.ORIGIN_OFFSET] for dead in publisher.sent] == [b"1"]
    assert await results.get("req_2") is not None


async def test_while_the_database_is_down_nothing_is_committed_and_then_all_is_kept(results: Results) -> None:
    source = await _run(_Flaky(results, failures=3), _Publisher(), [_record(0)])
    assert source.commits == 1
    assert await results.get("req_1") is not None


async def test_told_to_stop_while_the_database_is_down(results: Results) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, stop.set)
    source = await _run(_Flaky(results, failures=10**9), _Publisher(), [_record(0)], stop=stop)
    assert source.commits == 0


async def test_a_dead_letter_that_kafka_does_not_take_is_tried_again(results: Results) -> None:
    publisher = _Publisher(Unavailable("no broker"), Unavailable("no broker"))
    source = await _run(results, publisher, [_record(0, value=None)])
    assert (source.commits, len(publisher.sent)) == (1, 1)


async def test_a_dead_letter_that_is_too_large_goes_without_its_value(results: Results) -> None:
    publisher = _Publisher(BodyTooLarge("too large"))
    bad = _record(0, causationid=b"", value=b"x" * 1000)
    source = await _run(results, publisher, [bad])
    assert source.commits == 1
    assert [dead.value for dead in publisher.sent] == [b""]


async def test_expired_results_are_purged(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiver, "_PURGE_INTERVAL_S", 0.0)
    old = _record(0)._replace(timestamp_ms=1_000)
    await _run(results, _Publisher(), [old, _record(1, "req_2")._replace(timestamp_ms=99_999_999_999_999)])
    assert await results.get("req_1") is None
    assert await results.get("req_2") is not None
