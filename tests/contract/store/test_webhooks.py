"""Webhooks in SQL, on SQLite and PostgreSQL alike."""

import asyncio
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.contracts.states import State
from headrace.core.archive import FinalResult
from headrace.core.webhooks import (
    EVENTS,
    About,
    Attempt,
    DeliveryState,
    Endpoint,
    Next,
    delivery,
    new_secret,
)
from headrace.settings import DatabaseSettings
from headrace.store.database import open_engine
from headrace.store.results import Results
from headrace.store.webhooks import Webhooks

ENDPOINT = Endpoint(
    id="we_1",
    tenant="acme",
    name="n",
    url="https://there.test/",
    events=EVENTS,
    secret=new_secret(b"s" * 32),
    created_at_s=1.5,
)
RESULT = FinalResult(
    request_id="req_1",
    state=State.COMPLETED,
    http_status=200,
    model="m",
    content_type="application/json",
    body=b"{}",
    created_at_s=100.0,
    expires_at_s=900.0,
    tenant="acme",
    path="/v1/chat/completions",
)
MADE = delivery(About("acme", "job.completed", "req_1", 100.0, 900.0), ENDPOINT.url, "we_1")


async def test_endpoints_of_one_tenant(engine: AsyncEngine) -> None:
    webhooks = Webhooks(engine)
    for number in range(3):
        await webhooks.add(replace(ENDPOINT, id=f"we_{number}", created_at_s=float(number)))
    changed = replace(
        ENDPOINT, name="other", events=("job.failed",), enabled=False, old_secret="old", old_until_s=7.5
    )
    assert await webhooks.change(changed)
    assert await webhooks.get("acme", "we_1") == changed
    assert not await webhooks.change(replace(changed, tenant="other"))
    assert await webhooks.get("other", "we_1") is None
    assert [each.id for each in await webhooks.page("acme", 1, None)] == ["we_2", "we_1"]
    assert [each.id for each in await webhooks.page("acme", 9, "we_2")] == ["we_1", "we_0"]
    assert not await webhooks.remove("other", "we_1")
    assert await webhooks.remove("acme", "we_1")
    assert await webhooks.get("acme", "we_1") is None


async def test_a_result_and_its_deliveries_are_one_transaction(engine: AsyncEngine) -> None:
    webhooks, results = Webhooks(engine), Results(engine)
    await webhooks.add(ENDPOINT)
    await webhooks.add(replace(ENDPOINT, id="we_2", tenant="other"))
    asked = replace(RESULT, webhook="https://mine.test/")
    await results.add_many([asked])
    await results.add_many([asked])
    due = await webhooks.take_due(now_s=200.0, until_s=300.0, limit=9)
    assert sorted((each.url, each.endpoint_id) for each in due) == [
        ("https://mine.test/", None),
        ("https://there.test/", "we_1"),
    ]
    assert MADE.id in {each.id for each in due}
    line = replace(asked, request_id="req_batch_1-0", batch_id="batch_1", line=0)
    await results.add_many([line])
    assert await webhooks.take_due(now_s=200.0, until_s=300.0, limit=9) == []


async def test_what_is_taken_is_taken_for_a_while(engine: AsyncEngine, settings: DatabaseSettings) -> None:
    other = open_engine(settings)
    made = [replace(MADE, id=f"evt_{n}", next_at_s=float(n)) for n in range(20)]
    for each in made:
        await Webhooks(engine).add_delivery(each)
    takers = [Webhooks(each).take_due(50.0, 60.0, 5) for each in (engine, other, engine, other)]
    taken = [each.id for found in await asyncio.gather(*takers) for each in found]
    assert len(taken) == len(set(taken)), "nobody gets what another has"
    rest = [each.id for each in await Webhooks(engine).take_due(50.0, 60.0, 99)]
    assert sorted(taken + rest) == sorted(each.id for each in made)
    # Whoever took them has died.
    assert len(await Webhooks(engine).take_due(60.0, 70.0, 99)) == 20
    await other.dispose()


async def test_attempts_until_the_end_and_once_more(engine: AsyncEngine) -> None:
    webhooks = Webhooks(engine)
    await webhooks.add_delivery(MADE)
    first = Attempt(1, 100.0, 2.5, None, "no answer", None)
    await webhooks.note(MADE, first, Next(DeliveryState.PENDING, 105.0), 100.0)
    assert await webhooks.take_due(104.0, 200.0, 9) == []
    (again,) = await webhooks.take_due(105.0, 200.0, 9)
    assert again.attempts == 1
    second = Attempt(2, 105.0, 3.5, 204)
    await webhooks.note(again, second, Next(DeliveryState.DELIVERED), 106.0)
    done = await webhooks.delivery("acme", MADE.id)
    assert done is not None
    assert (done.state, done.attempts, done.finished_at_s) == (DeliveryState.DELIVERED, 2, 106.0)
    assert await webhooks.attempts(MADE.id) == [first, second]
    assert await webhooks.delivery("other", MADE.id) is None
    assert not await webhooks.replay("other", MADE.id, 300.0)
    assert await webhooks.replay("acme", MADE.id, 300.0)
    assert [each.id for each in await webhooks.take_due(300.0, 400.0, 9)] == [MADE.id]


async def test_an_endpoint_that_is_gone_is_told_nothing_more(engine: AsyncEngine) -> None:
    webhooks = Webhooks(engine)
    await webhooks.add(ENDPOINT)
    await webhooks.add_delivery(MADE)
    gone = Attempt(1, 100.0, 1.0, 410)
    await webhooks.note(MADE, gone, Next(DeliveryState.FAILED, disables=True), 100.0)
    off = await webhooks.get("acme", "we_1")
    assert off is not None
    assert (off.enabled, bool(off.disabled_reason)) == (False, True)
    await Results(engine).add_many([replace(RESULT, request_id="req_2")])
    assert await webhooks.take_due(500.0, 600.0, 9) == []
    waiting = replace(MADE, id="evt_2")
    await webhooks.add_delivery(waiting)
    await webhooks.remove("acme", "we_1")
    found = await webhooks.delivery("acme", "evt_2")
    assert found is not None
    assert found.state is DeliveryState.FAILED


async def test_put_back(engine: AsyncEngine) -> None:
    webhooks = Webhooks(engine)
    await webhooks.add_delivery(MADE)
    (taken,) = await webhooks.take_due(100.0, 900.0, 9)
    await webhooks.put_back(taken, 102.0)
    assert await webhooks.take_due(101.0, 900.0, 9) == []
    assert len(await webhooks.take_due(102.0, 900.0, 9)) == 1


async def test_the_secret_of_urls_is_made_once(engine: AsyncEngine) -> None:
    webhooks = Webhooks(engine)
    first = await webhooks.secret_of_urls("acme", "whsec_a", 1.0)
    assert (await webhooks.secret_of_urls("acme", "whsec_b", 2.0)).secret == first.secret == "whsec_a"
    assert (await webhooks.secret_of_urls("", "whsec_c", 2.0)).secret == "whsec_c"
    assert await webhooks.page("acme", 9, None) == [], "it is no endpoint of theirs"


async def test_purge_leaves_what_is_still_to_be_told(engine: AsyncEngine) -> None:
    webhooks = Webhooks(engine)
    for number, state in enumerate(DeliveryState):
        await webhooks.add_delivery(replace(MADE, id=f"evt_{number}", state=state, expires_at_s=5.0))
    await webhooks.note(
        replace(MADE, id="evt_1"), Attempt(1, 1.0, 1.0, 200), Next(DeliveryState.DELIVERED), 1.0
    )
    assert await webhooks.purge(4.0) == 0
    assert await webhooks.purge(5.0) == 2
    assert await webhooks.purge(5.0) == 0
    assert await webhooks.attempts("evt_1") == []
    assert [each.id for each in await webhooks.take_due(500.0, 600.0, 9)] == ["evt_0"]
