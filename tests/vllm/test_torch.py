"""The torch engine, by the conformance suite and by what is its own; here, where torch is installed."""

import pickle
import zipfile
from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from tests.contract.engines.conformance import ask, call
from tests.contract.engines.tensor_conformance import TensorConformance, infer
from tests.parts import lacks

from headrace.contracts.errors import InvalidRequest, SetupError
from headrace.contracts.manifest import parse
from headrace.contracts.requests import INFER
from headrace.engines import catalog
from headrace.engines.tensor_engine import TensorEngine

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 7 - 0.5
SIDE, DEPTH = 1024, 200
SLOW_BODY: Any = [{"name": "x", "shape": [1], "datatype": "FP32", "data": [0.0]}]


def save(path: Path, forward: Callable[..., Any], *examples: Any, rows: bool = True) -> Path:
    """A program; `rows`: any number of them."""
    import torch

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.from_numpy(WEIGHTS))

    Module.forward = forward  # type: ignore[method-assign]
    shapes = [{0: torch.export.Dim.AUTO} if rows else None for _ in examples]
    program = torch.export.export(Module(), examples, dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


def create(path: Path, **args: Any) -> TensorEngine:
    document = {"name": "m", "engine": {"kind": "torch", "args": args}, "model": {"source": "file:x"}}
    engine = catalog.create(parse(document, where="test"), path)
    assert isinstance(engine, TensorEngine)
    return engine


async def started(path: Path, **args: Any) -> TensorEngine:
    engine = create(path, **args)
    await engine.start()
    return engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("torch") is None:
        lacks("torch is not installed here: make test-vllm")
    return tmp_path_factory.mktemp("programs")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def linear(folder: Path) -> AsyncIterator[TensorEngine]:
    import torch

    path = save(folder / "linear.pt2", lambda self, x: {"y": x @ self.w}, torch.zeros(3, 4))
    engine = await started(path, max_batch=8)
    yield engine
    await engine.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fixed(folder: Path) -> AsyncIterator[TensorEngine]:
    import torch

    path = save(folder / "fixed.pt2", lambda self, x: x @ self.w, torch.zeros(2, 4), rows=False)
    engine = await started(path)
    yield engine
    await engine.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slow(folder: Path) -> AsyncIterator[TensorEngine]:
    import torch

    def forward(self: Any, x: Any) -> Any:
        square = x.reshape(1, 1) * torch.ones(SIDE, SIDE)
        for _ in range(DEPTH):
            square = square @ square
        return square[:1, 0]

    engine = await started(save(folder / "slow.pt2", forward, torch.zeros(1), rows=False))
    yield engine
    await engine.stop()


class TestTorch(TensorConformance):
    """By the suite."""

    weights = WEIGHTS
    slow_body = SLOW_BODY


class TestOfItsOwn:
    """What the suite does not ask."""

    async def test_several_outputs_and_datatypes(self, folder: Path) -> None:
        import torch

        def forward(self: Any, x: Any, flags: Any) -> Any:
            return x + 1, flags.logical_not()

        examples = torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.bool)
        engine = await started(save(folder / "two.pt2", forward, *examples))
        tensors = [
            {"name": "x", "shape": [2], "datatype": "INT64", "data": [1, 2]},
            {"name": "flags", "shape": [2], "datatype": "BOOL", "data": [True, False]},
        ]
        outputs = (await ask(engine, call(INFER, inputs=tensors))).whole["outputs"]
        assert [(each["name"], each["datatype"], each["data"]) for each in outputs] == [
            ("output_0", "INT64", [2, 3]),
            ("output_1", "BOOL", [False, True]),
        ]
        await engine.stop()

    async def test_what_the_program_cannot_do_is_the_callers_fault(self, folder: Path) -> None:
        import torch

        def forward(self: Any, x: Any) -> Any:
            return self.w.flatten()[x]

        engine = await started(save(folder / "lookup.pt2", forward, torch.zeros(3, dtype=torch.int64)))
        tensor = {"name": "x", "shape": [1], "datatype": "INT64", "data": [99]}
        with pytest.raises(InvalidRequest, match="cannot be run on these inputs"):
            await ask(engine, call(INFER, inputs=[tensor]))
        tensor["data"] = [3]
        answer = await ask(engine, call(INFER, inputs=[tensor]))
        assert answer.whole["outputs"][0]["data"] == pytest.approx([float(WEIGHTS.ravel()[3])])
        await engine.stop()

    async def test_what_is_no_program_is_told(self, tmp_path: Path) -> None:
        nonsense = tmp_path / "nonsense.pt2"
        nonsense.write_bytes(b"nonsense")
        for path, words in ((nonsense, "torch cannot load"), (tmp_path / "sub", "torch cannot load")):
            with pytest.raises(SetupError, match=words):
                await create(path).start()
        (tmp_path / "other.pt2").write_bytes(b"")
        with pytest.raises(SetupError, match=r"must have one \.pt2 file"):
            await create(tmp_path).start()

    async def test_a_pickle_in_a_program_is_not_run(self, folder: Path, linear: TensorEngine) -> None:
        del linear  # its file is there
        marker = folder / "marker"

        class Evil:
            def __reduce__(self) -> Any:
                return Path.touch, (marker,)

        evil = folder / "evil.pt2"
        swapped = 0
        with zipfile.ZipFile(folder / "linear.pt2") as good, zipfile.ZipFile(evil, "w") as bad:
            for item in good.namelist():
                value = good.read(item)
                if item.endswith(".pt") or "sample_inputs" in item:
                    value, swapped = pickle.dumps(Evil()), swapped + 1
                bad.writestr(item, value)
        assert swapped, "the test attacks nothing"
        engine = create(evil)
        try:
            await engine.start()
            await ask(engine, infer([[0.0] * 4]))
        except SetupError:
            pass
        finally:
            await engine.stop()
        assert not marker.exists()
