"""Which models there are, and which reply partition is free."""

import time
from typing import Any

import pytest
from tests.unit.gateway.parts import TOPICS, deployed, news

from headrace.contracts.errors import UnknownModel
from headrace.contracts.events import GatewayHeartbeat, WorkerHeartbeat, WorkerState
from headrace.contracts.topics import REPLY_PARTITIONS
from headrace.core.ports import Record
from headrace.gateway.directory import Directory


def beat(gateway_id: str, partition: int, *, age_s: float = 0.0):
    event = GatewayHeartbeat(
        id=gateway_id, pid=1, host="h", reply_partition=partition, sent_at_s=time.time() - age_s
    )
    return news(TOPICS.workers, gateway_id, event.encode())


def test_models_come_change_and_go():
    directory = Directory(TOPICS)
    directory.update([news(TOPICS.models, "echo", deployed(partitions=4).encode())])
    directory.update([news(TOPICS.models, "echo", deployed(partitions=8).encode())])
    assert directory.model("echo").partitions == 8
    directory.update([news(TOPICS.models, "echo", None), news(TOPICS.models, "never", None)])
    with pytest.raises(UnknownModel, match="'echo'"):
        directory.model("echo")


def test_a_model_that_is_to_go_takes_no_more_requests_and_is_still_known():
    directory = Directory(TOPICS)
    event = deployed().model_copy(update={"retiring": True})
    directory.update([news(TOPICS.models, "echo", event.encode())])
    with pytest.raises(UnknownModel, match="'echo' is being removed"):
        directory.model("echo")
    assert directory.models() == []
    assert directory.find("echo") == event


def test_records_that_cannot_be_read_are_left_out(caplog):
    directory = Directory(TOPICS)
    directory.update(
        [
            news(TOPICS.models, "bad", b"{"),
            news(TOPICS.workers, "bad", b'{"kind":"gateway"}'),
            news(TOPICS.workers, "bad", b"\xff"),
            news(TOPICS.models, "echo", deployed().encode()),
        ]
    )
    assert [model.name for model in directory.models()] == ["echo"]
    assert caplog.text.count("ignored") == 3


def test_a_gateway_takes_a_partition_that_no_living_one_reads():
    directory = Directory(TOPICS)
    directory.update([beat(f"g{n}", n) for n in range(REPLY_PARTITIONS) if n not in (7, 9, 11)])
    directory.update([beat("dead", 9, age_s=11), beat("left", 11), news(TOPICS.workers, "left", None)])
    directory.update([beat("g7", 7)])
    chosen = {directory.free_reply_partition(time.time()) for _ in range(200)}
    assert chosen == {9, 11}


def test_when_all_are_taken_any_will_do():
    directory = Directory(TOPICS)
    directory.update([beat(f"g{n}", n) for n in range(REPLY_PARTITIONS)])
    chosen = {directory.free_reply_partition(time.time()) for _ in range(200)}
    assert len(chosen) > 10
    assert chosen <= set(range(REPLY_PARTITIONS))


def _beat(sent_at_s: float, completed: int, **more: Any) -> Record:
    worker = WorkerHeartbeat(
        id="w",
        pid=1,
        host="h",
        model="echo",
        version="v",
        state=WorkerState.READY,
        in_flight=0,
        capacity=1,
        completed=completed,
        started_at_s=0.0,
        sent_at_s=sent_at_s,
        **more,
    )
    return news(TOPICS.workers, "w", worker.encode())


def test_how_fast_a_models_workers_are_and_what_they_run() -> None:
    directory = Directory(TOPICS)
    assert directory.rate_per_s("echo", 100.0) == 0
    directory.update([_beat(100.0, 50)])
    assert directory.rate_per_s("echo", 100.0) == 0, "one beat says nothing"
    directory.update([_beat(102.0, 60), _beat(104.0, 90, running=("req_1",))])
    assert directory.rate_per_s("echo", 105.0) == 10.0
    assert directory.rate_per_s("other", 105.0) == 0
    assert directory.runs("req_1", 105.0)
    assert not directory.runs("req_2", 105.0)
    assert directory.rate_per_s("echo", 200.0) == 0, "it is silent"
    assert not directory.runs("req_1", 200.0)
