"""The onnx engine, by the conformance suite and by what is its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from tests.contract.engines import tensor_models as models
from tests.contract.engines.conformance import ask, call
from tests.contract.engines.tensor_conformance import TensorConformance, array, infer

from headrace.contracts.errors import InvalidRequest, SetupError
from headrace.contracts.manifest import parse
from headrace.contracts.requests import INFER
from headrace.engines import catalog
from headrace.engines.onnx import OnnxEngine
from headrace.engines.tensor_engine import TensorEngine

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


def create(path: Path, folder: Path | None = None, **args: Any) -> OnnxEngine:
    document = {"name": "m", "engine": {"kind": "onnx", "args": args}, "model": {"source": "file:x"}}
    engine = catalog.create(parse(document, where="test"), path, folder)
    assert isinstance(engine, OnnxEngine)
    return engine


async def started(path: Path, **args: Any) -> OnnxEngine:
    engine = create(path, **args)
    await engine.start()
    return engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def linear(folder: Path) -> AsyncIterator[TensorEngine]:
    engine = await started(models.linear(folder / "linear.onnx"), max_batch=8)
    yield engine
    await engine.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fixed(folder: Path) -> AsyncIterator[TensorEngine]:
    engine = await started(models.linear(folder / "fixed.onnx", rows=2))
    yield engine
    await engine.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slow(folder: Path) -> AsyncIterator[TensorEngine]:
    engine = await started(models.endless(folder / "endless.onnx"), max_batch=4)
    yield engine
    await engine.stop()


def turns(times: int) -> list[dict[str, Any]]:
    return [
        {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]},
        {"name": "times", "shape": [1], "datatype": "INT64", "data": [times]},
    ]


class TestOnnx(TensorConformance):
    """By the suite."""

    weights = models.WEIGHTS
    slow_body = turns(10**9)


class TestOfItsOwn:
    """What only ONNX Runtime has."""

    async def test_every_datatype_of_the_protocol(self, folder: Path) -> None:
        engine = await started(models.every_datatype(folder / "every.onnx"))
        values = {"BOOL": [True, False], "BYTES": ["ä", ""], "UINT64": [0, 2**64 - 1], "FP16": [0.5, -2.0]}
        assert engine.signature is not None
        names = [spec.name for spec in engine.signature.inputs]
        tensors = [
            {"name": name, "shape": [1, 2], "datatype": name, "data": values.get(name, [0, 127])}
            for name in names
        ]
        outputs = (await ask(engine, call(INFER, inputs=tensors))).whole["outputs"]
        assert {each["datatype"]: each["data"] for each in outputs} == {
            each["datatype"]: each["data"] for each in tensors
        }
        one = await ask(engine, call(INFER, inputs=tensors, outputs=[{"name": "same_BYTES"}]))
        assert [each["name"] for each in one.whole["outputs"]] == ["same_BYTES"]
        with pytest.raises(InvalidRequest, match="Input 'BYTES' is missing"):
            await ask(engine, call(INFER, inputs=tensors[:-1]))
        await engine.stop()

    async def test_one_bad_call_does_not_spoil_its_batch(self, folder: Path) -> None:
        engine = await started(models.lookup(folder / "lookup.onnx"), batch_delay_ms=100)
        numbers = [0, 3, 9, 1]
        calls = [
            call(INFER, inputs=[{"name": "x", "shape": [1], "datatype": "INT64", "data": [number]}])
            for number in numbers
        ]
        found = await asyncio.gather(*(ask(engine, each) for each in calls), return_exceptions=True)
        bad = found.pop(2)
        assert isinstance(bad, InvalidRequest)
        assert "out of data bounds" in bad.message
        assert [float(array(each)[0]) for each in found] == [0.5, 3.5, 1.5]  # type: ignore[arg-type]
        await engine.stop()

    async def test_a_model_that_mixes_its_rows_is_run_for_each_call(self, folder: Path) -> None:
        engine = await started(models.total(folder / "total.onnx"), batch_delay_ms=100)
        tensors = [
            [{"name": "x", "shape": [rows, 2], "datatype": "FP32", "data": [1] * rows * 2}]
            for rows in (1, 2, 3)
        ]
        found = await asyncio.gather(*(ask(engine, call(INFER, inputs=each)) for each in tensors))
        assert [float(array(each)[0, 0]) for each in found] == [2, 4, 6]
        await engine.stop()

    async def test_who_leaves_a_batch_that_runs_leaves_the_others_their_answers(
        self, slow: TensorEngine
    ) -> None:
        going = asyncio.create_task(ask(slow, call(INFER, inputs=turns(2_000_000))))
        staying = asyncio.create_task(ask(slow, call(INFER, inputs=turns(2_000_000))))
        await asyncio.sleep(0.02)
        going.cancel()
        assert array(await staying).shape == (1,)
        with pytest.raises(asyncio.CancelledError):
            await going
        assert slow.in_flight == 0

    async def test_a_call_larger_than_a_batch_runs_alone(self, linear: TensorEngine) -> None:
        assert array(await ask(linear, infer([[1.0] * 4] * 20))).shape == (20, 3)

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            ({"max_batch": 0}, "engine.args.max_batch"),
            ({"threads": 2}, "engine.args.threads"),
            ({"providers": ["QuantumExecutionProvider"]}, "has no QuantumExecutionProvider; it has"),
            ({"graph": "../x.onnx"}, "not in the function's folder"),
            ({"graph": "none.onnx"}, r"engine.args.graph: .*No such file"),
        ],
    )
    async def test_wrong_arguments_are_named(
        self, linear: TensorEngine, folder: Path, args: dict[str, Any], said: str
    ) -> None:
        del linear  # whose model this is
        with pytest.raises(SetupError, match=said):
            await create(folder / "linear.onnx", folder, **args).start()

    async def test_what_is_no_model_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "text.onnx").write_text("no model")
        with pytest.raises(SetupError, match=r"cannot load .*text\.onnx: .*Protobuf"):
            await started(tmp_path / "text.onnx")
        with pytest.raises(SetupError, match=r"cannot load .*none\.onnx"):
            await started(tmp_path / "none.onnx")
        (tmp_path / "other.onnx").write_text("nor this")
        with pytest.raises(SetupError, match=r"there are: other\.onnx, text\.onnx"):
            await started(tmp_path)

    async def test_a_folder_with_a_model_will_do(self, tmp_path: Path) -> None:
        models.linear(tmp_path / "onnx" / "model.onnx")
        engine = await started(tmp_path)
        assert array(await ask(engine, infer([[0.0] * 4]))).shape == (1, 3)
        await engine.stop()

    async def test_weights_lie_in_the_folder_or_are_refused(self, tmp_path: Path) -> None:
        inside = tmp_path / "model"
        models.with_outside_weights(inside / "model.onnx", "weights.bin")
        (inside / "weights.bin").write_bytes(models.WEIGHTS.tobytes())
        engine = await started(inside)
        np.testing.assert_allclose(array(await ask(engine, infer([[1.0, 0, 0, 0]]))), models.WEIGHTS[:1])
        await engine.stop()
        (tmp_path / "weights.bin").write_bytes(models.WEIGHTS.tobytes())
        for location in ("../weights.bin", str(tmp_path / "weights.bin")):
            models.with_outside_weights(inside / "model.onnx", location)
            with pytest.raises(SetupError, match="cannot load"):
                await started(inside)

    async def test_a_graph_of_the_function_takes_weights_of_the_model(self, tmp_path: Path) -> None:
        models.with_outside_weights(tmp_path / "function" / "graph.onnx", "weights.bin")
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "weights.bin").write_bytes(models.WEIGHTS.tobytes())
        engine = create(tmp_path / "weights", tmp_path / "function", graph="graph.onnx")
        await engine.start()
        np.testing.assert_allclose(array(await ask(engine, infer([[1.0, 0, 0, 0]]))), models.WEIGHTS[:1])
        await engine.stop()

    async def test_it_is_silent(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        engine = await started(models.lookup(folder / "silent.onnx"))
        tensor = {"name": "x", "shape": [1], "datatype": "INT64", "data": [9]}
        with pytest.raises(InvalidRequest):
            await ask(engine, call(INFER, inputs=[tensor]))
        await engine.stop()
        assert capfd.readouterr() == ("", "")
