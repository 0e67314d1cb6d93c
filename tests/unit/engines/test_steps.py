"""In virtual time a step takes exactly as long as it says."""

import asyncio

import pytest
from tests.unit.engines.virtual_time import in_virtual_time

from headrace.engines.steps import OwnPace, Pace, SharedPace, SharedSteps

STEP_S = 10.0


async def _run(pace: Pace, tokens: int, *, after_s: float = 0.0, rest_s: float = 0.0) -> list[float]:
    """When each token came. `rest_s`: what the reader does between two tokens."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(after_s)
    times = []
    async with pace:
        for number in range(1, tokens + 1):
            await pace.token(number)
            times.append(round(loop.time(), 3))
            await asyncio.sleep(rest_s)
    return times


@in_virtual_time
async def test_one_alone_gets_a_token_per_step() -> None:
    steps = SharedSteps(STEP_S, 100)
    assert await _run(SharedPace(steps, 3), 3) == [10, 20, 30]


@in_virtual_time
async def test_all_advance_together_and_who_comes_late_waits_for_the_next_step() -> None:
    steps = SharedSteps(STEP_S, 100)
    first, second, third = await asyncio.gather(
        _run(SharedPace(steps, 5), 5),
        _run(SharedPace(steps, 3), 3, after_s=1),
        _run(SharedPace(steps, 1), 1, after_s=19),
    )
    assert first == [10, 20, 30, 40, 50]
    assert second == [20, 30, 40]
    assert third == [30]


@in_virtual_time
async def test_many_take_no_longer_than_one() -> None:
    steps = SharedSteps(STEP_S, 100)
    runs = await asyncio.gather(*(_run(SharedPace(steps, 4), 4) for _ in range(100)))
    assert runs[0] == [10, 20, 30, 40]
    assert all(run == [20, 30, 40, 50] for run in runs[1:]), "the first step began without them"


@in_virtual_time
async def test_tokens_do_not_wait_for_their_reader() -> None:
    steps = SharedSteps(STEP_S, 100)
    assert await _run(SharedPace(steps, 4), 4, rest_s=15) == [10, 25, 40, 55]


@in_virtual_time
async def test_steps_end_with_the_last_request_and_begin_anew() -> None:
    steps = SharedSteps(STEP_S, 100)
    assert await _run(SharedPace(steps, 1), 1) == [10]
    assert await _run(SharedPace(steps, 2), 2, after_s=3) == [23, 33]


@in_virtual_time
async def test_who_leaves_early_holds_nobody_up() -> None:
    steps = SharedSteps(STEP_S, 100)
    leaver = asyncio.create_task(_run(SharedPace(steps, 1000), 1000))
    stayer = asyncio.create_task(_run(SharedPace(steps, 2), 2))
    await asyncio.sleep(5)
    leaver.cancel()
    assert await stayer == [20, 30]
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert len(asyncio.all_tasks()) == 1


@in_virtual_time
async def test_who_waits_begins_with_the_step_after_that_in_which_another_ends() -> None:
    steps = SharedSteps(STEP_S, 2)
    runs = await asyncio.gather(*(_run(SharedPace(steps, 2), 2) for _ in range(5)))
    assert runs[0] == [10, 20]
    assert runs[1] == [20, 30], "the first step began without it"
    assert runs[2:] == [[30, 40], [40, 50], [50, 60]]


@in_virtual_time
async def test_a_slot_that_is_left_early_is_taken_with_the_next_step() -> None:
    steps = SharedSteps(STEP_S, 1)
    leaver = asyncio.create_task(_run(SharedPace(steps, 9), 9))
    impatient = asyncio.create_task(_run(SharedPace(steps, 9), 9))
    stayer = asyncio.create_task(_run(SharedPace(steps, 1), 1))
    await asyncio.sleep(5)
    impatient.cancel()
    leaver.cancel()
    assert await stayer == [20]
    await asyncio.gather(leaver, impatient, return_exceptions=True)
    assert await _run(SharedPace(steps, 1), 1) == [30], "the only slot is free again"


@in_virtual_time
async def test_own_steps_begin_at_once() -> None:
    first, second = await asyncio.gather(_run(OwnPace(STEP_S), 2), _run(OwnPace(STEP_S), 2, after_s=3))
    assert first == [10, 20]
    assert second == [13, 23]
