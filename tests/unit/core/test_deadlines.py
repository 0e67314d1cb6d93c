"""How long a request may wait, and how long it may run."""

import pytest

from headrace.contracts.events import ModelDeployed
from headrace.contracts.manifest import Manifest
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.topics import REQUEST_RETENTION_MS, Lane
from headrace.core.deadlines import expires_at_s, patience_s, run_until_s
from headrace.core.ports import Place, Record

MANIFEST = Manifest.model_validate({"name": "m", "engine": {"kind": "echo"}, "limits": {"deadline_s": 100}})
DEPLOYED = ModelDeployed(
    name="m", slug="m", version="1", package_url="s3://b/k", manifest=MANIFEST, partitions=1, deployed_at_s=0
)
JOB = RequestHead(id="r", source="/t")
WAITED_FOR = JOB._replace(reply=ReplyAddress("replies.here"))


def record(lane: Lane) -> Record:
    return Record(Place(f"headrace.requests.m.{lane}", 0, 0), None, b"{}", {}, 1_000)


@pytest.mark.parametrize("lane", list(Lane))
def test_a_job_waits_as_long_as_its_lane_keeps_it_but_not_until_it_is_gone(lane: Lane) -> None:
    end_s = expires_at_s(record(lane), JOB, DEPLOYED)
    assert end_s == 1 + patience_s(lane)
    assert 100 < end_s < REQUEST_RETENTION_MS[lane] / 1000


def test_who_waits_waits_as_long_as_the_model_says() -> None:
    assert expires_at_s(record(Lane.FLEX), WAITED_FOR, DEPLOYED) == 101
    kept = WAITED_FOR._replace(durable=True)
    assert expires_at_s(record(Lane.FLEX), kept, DEPLOYED) == 1 + patience_s(Lane.FLEX)


def test_a_deadline_of_its_own_can_only_be_sooner() -> None:
    assert expires_at_s(record(Lane.DEFAULT), JOB._replace(expires_at_s=50.0), DEPLOYED) == 50
    late = WAITED_FOR._replace(expires_at_s=5_000.0)
    assert expires_at_s(record(Lane.DEFAULT), late, DEPLOYED) == 101


def test_a_job_runs_no_longer_than_somebody_would_wait() -> None:
    assert run_until_s(9_000, JOB, DEPLOYED, now_s=5_000) == 5_100
    assert run_until_s(5_050, JOB, DEPLOYED, now_s=5_000) == 5_050
    assert run_until_s(9_000, WAITED_FOR, DEPLOYED, now_s=5_000) == 9_000
