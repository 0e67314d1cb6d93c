"""ONNX Runtime in this process: models in ONNX, on a CPU or a GPU, and embeddings of texts by them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from typing import Final as Constant

import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from pydantic import Field

from headrace.contracts.errors import InvalidRequest, SetupError
from headrace.contracts.manifest import Manifest
from headrace.contracts.tensors import Signature, TensorSpec
from headrace.engines.batching import Halt, Model
from headrace.engines.catalog import arguments
from headrace.engines.embedding import EmbeddingEngine, EmbeddingPlan
from headrace.engines.tensor_engine import BatchArgs, TensorEngine
from headrace.engines.tensors import ANY_LENGTH, Arrays

_SILENT: Constant = 4
"""Its errors are raised too; only what ends the process is logged."""
_WEIGHTS_FOLDER: Constant = "session.model_external_initializers_file_folder_path"
_NO_SPINNING: Constant = "session.intra_op.allow_spinning"
_PLACES: Constant = ("model.onnx", "onnx/model.onnx")
_DATATYPES: Constant[Mapping[str, Any]] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class OnnxArgs(BatchArgs):
    """Arguments of the `onnx` engine.

    intra_op_threads: within one operation; 0 for all cores. inter_op_threads: operations at once, 0 for one.
    providers: of ONNX Runtime, the first that can is used, such as `CUDAExecutionProvider`.
    graph: an .onnx file of the function's own folder, whose weights lie in the model's folder.
    task: `tensors` in and out, or `embeddings` of texts, for which the model's folder has a tokenizer.json.

    Of embeddings:
    pooling: the mean of all tokens' vectors, or that of the first (`cls`). normalize: to length one.
    max_tokens: of one text; a longer one is an error.
    shortens: the vectors' beginnings are vectors too, so that callers may ask for fewer `dimensions`.
    """

    intra_op_threads: int = Field(default=0, ge=0, le=1024)
    inter_op_threads: int = Field(default=0, ge=0, le=1024)
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    graph: str | None = None
    task: Literal["tensors", "embeddings"] = "tensors"
    pooling: Literal["mean", "cls"] = "mean"
    normalize: bool = True
    max_tokens: int = Field(default=512, ge=1)
    shortens: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where the model is. `path`: a file or folder. `graph`: the .onnx file, if it lies elsewhere."""

    name: str
    path: Path
    graph: Path | None = None


class OnnxModel:
    """Fills `engines.batching.Model`."""

    def __init__(self, session: Any, signature: Signature) -> None:
        self._session = session
        self._signature = signature
        self._names = [spec.name for spec in signature.outputs]

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    def run(self, arrays: Arrays, halt: Halt) -> Arrays:
        """Compute."""
        options = onnxruntime.RunOptions()
        options.log_severity_level = _SILENT
        halt.on(lambda: setattr(options, "terminate", True))
        try:
            found = self._session.run(self._names, dict(arrays), options)
        except InvalidArgument as error:
            raise InvalidRequest(
                f"The model cannot be run on these inputs: {_reason(error)}", param="inputs"
            ) from None
        return dict(zip(self._names, found, strict=True))


def load(source: Source, args: OnnxArgs) -> OnnxModel:
    """Load the model; blocks.

    Raises:
        SetupError: there is none, or ONNX Runtime cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.intra_op_threads
    options.inter_op_num_threads = args.inter_op_threads
    options.log_severity_level = _SILENT
    # Threads that spin while they wait take the cores from everybody else.
    options.add_session_config_entry(_NO_SPINNING, "0")
    model: str | bytes
    if source.graph is None:
        model = str(_file(source))
    else:
        model = _graph(source.name, source.graph)
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(source.path))
    _check_providers(source.name, args.providers)
    try:
        session = onnxruntime.InferenceSession(model, options, providers=list(args.providers))
    except Exception as error:  # noqa: BLE001  # a dozen classes of its own, and whatever else
        which = source.graph or source.path
        raise SetupError(
            f"Function '{source.name}': ONNX Runtime cannot load {which}: {_reason(error)}"
        ) from None
    return OnnxModel(session, _signature(source.name, session))


class OnnxEngine(TensorEngine):
    """Fills `core.ports.Engine`: tensors in, tensors out."""

    def __init__(self, args: OnnxArgs, source: Source) -> None:
        super().__init__(args)
        self._onnx_args = args
        self._source = source

    def load(self) -> Model:
        """Load the model."""
        return load(self._source, self._onnx_args)


def create(
    manifest: Manifest, model_path: Path | None, folder: Path | None = None
) -> TensorEngine | EmbeddingEngine:
    """The engine for a manifest; `folder` is the function's own.

    Raises:
        SetupError: the manifest names no model, or its arguments are wrong.
    """
    args = arguments(manifest, OnnxArgs)
    if model_path is None:
        raise SetupError(f"Function '{manifest.name}': engine onnx needs 'model: {{source: …}}'")
    source = Source(manifest.name, model_path, _inside(manifest.name, folder, args.graph))
    if args.task == "tensors":
        return OnnxEngine(args, source)
    tokenizer = (model_path if model_path.is_dir() else model_path.parent) / "tokenizer.json"
    plan = EmbeddingPlan(tokenizer, args.pooling, args.normalize, args.max_tokens, args.shortens)
    return EmbeddingEngine(lambda: load(source, args), plan, args.plan)


def _inside(name: str, folder: Path | None, graph: str | None) -> Path | None:
    if graph is None:
        return None
    path = ((folder or Path()) / graph).resolve()
    if folder is None or not path.is_relative_to(folder.resolve()):
        raise SetupError(f"Function '{name}': engine.args.graph: {graph} is not in the function's folder")
    return path


def _graph(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SetupError(f"Function '{name}': engine.args.graph: {path}: {error.strerror}") from None


def _file(source: Source) -> Path:
    if not source.path.is_dir():
        return source.path
    found = [source.path / place for place in _PLACES if (source.path / place).is_file()]
    found = found[:1] or sorted(source.path.glob("*.onnx"))
    if len(found) != 1:
        there = ", ".join(path.name for path in found) or "none"
        raise SetupError(
            f"Function '{source.name}': {source.path} must have model.onnx or one other .onnx file; there "
            f"are: {there}"
        )
    return found[0]


def _check_providers(name: str, providers: tuple[str, ...]) -> None:
    available = onnxruntime.get_available_providers()
    for provider in providers:
        if provider not in available:
            raise SetupError(
                f"Function '{name}': engine.args.providers: this ONNX Runtime has no {provider}; it has "
                f"{', '.join(available)}"
            )


def _signature(name: str, session: Any) -> Signature:
    return Signature(
        inputs=tuple(_spec(name, each) for each in session.get_inputs()),
        outputs=tuple(_spec(name, each) for each in session.get_outputs()),
    )


def _spec(name: str, node: Any) -> TensorSpec:
    if node.type not in _DATATYPES:
        raise SetupError(
            f"Function '{name}': '{node.name}' is {node.type}, which is no tensor that callers can send"
        )
    shape = tuple(size if isinstance(size, int) else ANY_LENGTH for size in node.shape)
    return TensorSpec(name=node.name, datatype=_DATATYPES[node.type], shape=shape)


def _reason(error: Exception) -> str:
    """Without its codes."""
    return str(error).splitlines()[0].rpartition(" : ")[2] if str(error) else type(error).__name__
