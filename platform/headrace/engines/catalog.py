"""Chooses an engine by the manifest, importing only the one that is chosen."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from headrace.contracts.errors import SetupError
from headrace.contracts.manifest import Manifest
from headrace.core.ports import Engine
from headrace.engines.handler import load_handler
from headrace.sdk import Loading

# kind -> module with `create`, and the extra that installs what it imports
_ENGINES: Final = {
    "echo": ("headrace.engines.echo", None),
    "llamacpp": ("headrace.engines.llamacpp", "llamacpp"),
    "vllm": ("headrace.engines.vllm", "vllm"),
    "onnx": ("headrace.engines.onnx", "onnx"),
    "torch": ("headrace.engines.torch", "torch"),
}
_IN_FOLDER: Final = frozenset({"onnx"})
"""Those that look into the function's own folder too."""

ArgsT = TypeVar("ArgsT", bound=BaseModel)


def create(
    manifest: Manifest,
    model_path: Path | None,
    folder: Path | None = None,
    adapters: Mapping[str, Path] | None = None,
) -> Engine:
    """Make the engine of a manifest, with the hooks of its handler round it; `start` then loads the model.

    folder: the function's own; None when it has no files but its manifest.
    adapters: a folder for each of the manifest's.

    Raises:
        SetupError: the engine is not installed or not in this release, its arguments are wrong, or the
            handler cannot be imported.
    """
    handler = None if folder is None else load_handler(folder)
    loading = Loading(folder or Path(), model_path, manifest.engine.args)
    if manifest.engine.kind == "python":
        module: Any = import_module("headrace.engines.python")
        engine: Engine = module.create(manifest, handler, loading)
        return engine
    engine = _plain(manifest, model_path, folder, adapters or {})
    if handler is None or not handler.has_hooks:
        return engine
    module = import_module("headrace.engines.hooked")
    hooked: Engine = module.Hooked(engine, handler, loading)
    return hooked


def _plain(
    manifest: Manifest, model_path: Path | None, folder: Path | None, adapters: Mapping[str, Path]
) -> Engine:
    kind = manifest.engine.kind
    if ":" in kind:
        foreign: Engine = _foreign(kind)(manifest, model_path)
        return foreign
    module_name, extra = _ENGINES[kind]
    try:
        module: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        raise SetupError(
            f"Engine '{kind}' needs {error.name}: install it with pip install 'headrace[{extra}]'"
        ) from None
    # Only engines that have a use for them know the words.
    more: dict[str, Any] = {"folder": folder} if kind in _IN_FOLDER else {}
    if adapters:
        more["adapters"] = adapters
    engine: Engine = module.create(manifest, model_path, **more)
    return engine


def _foreign(kind: str) -> Any:
    """The function behind `MODULE:FUNCTION`."""
    module_name, _, function = kind.partition(":")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise SetupError(
            f"Engine '{kind}': {error}; install the package that has it where workers run"
        ) from error
    made = getattr(module, function, None)
    if not callable(made):
        raise SetupError(f"Engine '{kind}': module {module_name} has no function '{function}'")
    return made


def arguments(manifest: Manifest, kind: type[ArgsT]) -> ArgsT:
    """Check an engine's arguments against its own model of them."""
    try:
        return kind.model_validate(manifest.engine.args)
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in ("engine", "args", *item["loc"]))
        raise SetupError(f"Function '{manifest.name}': {where}: {item['msg']}") from None
