"""What every engine of tensors must do.

An engine's test file subclasses `TensorConformance` and has three fixtures, each a started engine:
`linear` (`y = x @ w` for any number of rows of four, in FP32), `fixed` (the same for two rows, no more and no
fewer), and `slow` (a run of it takes long; `slow_body` is a body for it).
"""

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract.engines.conformance import MODEL, Answer, ask, call

from headrace.contracts.errors import InvalidRequest, UnknownPath
from headrace.contracts.requests import CHAT, EMBEDDINGS, INFER, PREDICTIONS
from headrace.core.ports import Call
from headrace.engines.tensor_engine import TensorEngine

Rows = list[list[float]]


def infer(rows: Rows, **more: Any) -> Call:
    """A call with one input, `x`."""
    tensor = {"name": "x", "shape": [len(rows), 4], "datatype": "FP32", "data": rows}
    return call(INFER, inputs=[tensor], **more)._replace(version="1a2b")


def array(answer: Answer, name: str | None = None) -> np.ndarray[Any, Any]:
    """The output, as an array."""
    found = next(each for each in answer.whole["outputs"] if name in (None, each["name"]))
    return np.array(found["data"], dtype=np.float64).reshape(found["shape"])


_row = st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4)
_calls = st.lists(st.lists(_row, min_size=1, max_size=5), min_size=1, max_size=12)


@pytest.mark.asyncio(loop_scope="module")
class TensorConformance:
    """The tests. `weights`: what `linear` multiplies by. `slow_body`: inputs that `slow` takes long for."""

    weights: np.ndarray[Any, Any]
    slow_body: dict[str, Any]

    async def test_the_answer_is_the_protocols(self, linear: TensorEngine) -> None:
        rows = [[1.0, 2.0, 3.0, 4.0], [0.0, 0.5, 0.0, -0.5]]
        answer = await ask(linear, infer(rows, id="mine"))
        assert linear.signature is not None
        (output,) = linear.signature.outputs
        whole = answer.whole
        assert (whole["model_name"], whole["model_version"], whole["id"]) == (MODEL, "1a2b", "mine")
        (tensor,) = whole["outputs"]
        assert (tensor["name"], tensor["shape"], tensor["datatype"]) == (output.name, [2, 3], "FP32")
        np.testing.assert_allclose(array(answer), np.array(rows) @ self.weights, rtol=1e-5)

    async def test_without_an_id_it_is_the_requests(self, linear: TensorEngine) -> None:
        assert (await ask(linear, infer([[0.0] * 4]))).whole["id"] == "req_abc"

    @pytest.mark.parametrize("stream", [False, True])
    async def test_predictions_are_tensors_by_name(self, linear: TensorEngine, *, stream: bool) -> None:
        assert linear.signature is not None
        (output,) = linear.signature.outputs
        answer = await ask(linear, call(PREDICTIONS, input={"x": [[1, 0, 0, 0.0]]}, stream=stream))
        np.testing.assert_allclose(answer.whole["output"][output.name], self.weights[:1], rtol=1e-5)
        assert [chunk["output"] for chunk in answer.chunks] == [answer.whole["output"]] * stream

    async def test_it_says_what_it_takes(self, linear: TensorEngine) -> None:
        assert linear.signature is not None
        (given,) = linear.signature.inputs
        assert (given.name, given.datatype, given.shape) == ("x", "FP32", (-1, 4))

    @pytest.mark.parametrize(
        ("changes", "param", "said"),
        [
            ({"name": "q"}, "inputs.0.name", "There is no input 'q'; this model takes 'x'"),
            ({"datatype": "FP64"}, "inputs.0.datatype", "Input 'x' is FP64; this model takes FP32"),
            (
                {"shape": [4, 1]},
                "inputs.0.shape",
                r"Input 'x' has shape \[4, 1\]; this model takes \[-1, 4\]",
            ),
            ({"shape": [4]}, "inputs.0.shape", r"Input 'x' has shape \[4\]"),
        ],
    )
    async def test_what_is_wrong_with_an_input_is_named(
        self, linear: TensorEngine, changes: dict[str, Any], param: str, said: str
    ) -> None:
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]} | changes
        with pytest.raises(InvalidRequest, match=said) as refusal:
            await ask(linear, call(INFER, inputs=[tensor]))
        assert refusal.value.param == param
        assert linear.in_flight == 0

    @pytest.mark.parametrize(
        ("given", "param"),
        [
            (7, "input"),
            ({}, "input"),
            ({"q": [[1, 2, 3, 4]]}, "input.q"),
            ({"x": [[1, 2], [3]]}, "input.x"),
            ({"x": [[1, 2, 3, "4"]]}, "input.x"),
            ({"x": [[1, 2, 3, 1e39]]}, "input.x"),
            ({"x": [1, 2, 3, 4]}, "input.x"),
            ({"x": [[]] * 3}, "input.x"),
        ],
    )
    async def test_what_is_wrong_with_a_prediction_is_named(
        self, linear: TensorEngine, given: object, param: str
    ) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            await ask(linear, call(PREDICTIONS, input=given))
        assert refusal.value.param == param

    async def test_outputs_that_there_are_not(self, linear: TensorEngine) -> None:
        with pytest.raises(InvalidRequest, match="There is no output 'q'; this model gives") as refusal:
            await ask(linear, infer([[0.0] * 4], outputs=[{"name": "q"}]))
        assert refusal.value.param == "outputs.0.name"

    async def test_other_paths_are_refused(self, linear: TensorEngine) -> None:
        for other in (
            call(CHAT, messages=[{"role": "user", "content": "a"}]),
            call(EMBEDDINGS, input="a"),
        ):
            with pytest.raises(UnknownPath):
                await ask(linear, other)

    async def test_no_rows_give_no_rows(self, linear: TensorEngine) -> None:
        assert array(await ask(linear, infer([]))).shape == (0, 3)

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(calls=_calls)
    async def test_batched_results_are_those_of_one_at_a_time(
        self, linear: TensorEngine, calls: list[Rows]
    ) -> None:
        together = await asyncio.gather(*(ask(linear, infer(rows)) for rows in calls))
        for rows, answer in zip(calls, together, strict=True):
            alone = array(await ask(linear, infer(rows)))
            np.testing.assert_allclose(array(answer), alone, rtol=1e-5, atol=1e-4)
            np.testing.assert_allclose(alone, np.array(rows) @ self.weights, rtol=1e-4, atol=1e-3)

    async def test_a_fixed_first_axis_is_kept(self, fixed: TensorEngine) -> None:
        calls = [infer([[float(number)] * 4] * 2) for number in range(6)]
        answers = await asyncio.gather(*(ask(fixed, each) for each in calls))
        for number, answer in enumerate(answers):
            np.testing.assert_allclose(array(answer), [number * self.weights.sum(axis=0)] * 2, rtol=1e-5)
        with pytest.raises(InvalidRequest, match="has shape"):
            await ask(fixed, infer([[0.0] * 4] * 3))

    async def test_a_cancelled_call_leaves_nothing(self, slow: TensorEngine) -> None:
        tasks = [asyncio.create_task(ask(slow, call(INFER, inputs=self.slow_body))) for _ in range(3)]
        async with asyncio.timeout(10):
            while slow.in_flight < 3:
                await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)
        assert slow.in_flight == 0

    async def test_the_loop_is_free_while_it_computes(self, slow: TensorEngine) -> None:
        task = asyncio.create_task(ask(slow, call(INFER, inputs=self.slow_body)))
        turns = 0
        while not task.done() and turns < 20:
            await asyncio.sleep(0.005)
            turns += 1
        assert turns == 20
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_a_deadline_ends_it(self, slow: TensorEngine) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ask(slow, call(INFER, inputs=self.slow_body))
        assert slow.in_flight == 0
