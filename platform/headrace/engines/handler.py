"""A function's own code: `handler.py`, loaded by its path.

What it may define, all of it optional and each either plain or `async`:

- `load(loading)`: once, before the first request; what it returns is `context.state`
- `predict(input, context)`: the whole answer to a prediction; a generator's pieces are streamed
- `before(body, context)`: returns the body that the engine gets
- `after(answer, context)`: returns the answer that the caller gets

`predict` whose first parameter is annotated with a pydantic model gets one, or the caller hears which field
is wrong. Plain functions run in threads.
"""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, get_type_hints

from pydantic import BaseModel

from headrace.contracts.errors import SetupError

FILE_NAME: Final = "handler.py"
_NAMES: Final = ("load", "predict", "before", "after")

Hook = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Handler:
    """What a `handler.py` defines. `takes`: the pydantic model of `predict`'s input, if it has one."""

    path: Path
    load: Hook | None = None
    predict: Hook | None = None
    before: Hook | None = None
    after: Hook | None = None
    takes: type[BaseModel] | None = None

    @property
    def has_hooks(self) -> bool:
        """Whether it has something to do round an engine."""
        return self.load is not None or self.before is not None or self.after is not None


def load_handler(folder: Path) -> Handler | None:
    """The handler of a function's folder; None when there is none.

    Raises:
        SetupError: it cannot be imported, or defines something else than it should; names file and line.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    module = _import(path)
    hooks = {name: getattr(module, name) for name in _NAMES if hasattr(module, name)}
    if not hooks:
        raise SetupError(f"{path} defines none of {', '.join(_NAMES)}")
    for name, hook in hooks.items():
        if not callable(hook):
            raise SetupError(f"{path.name}: '{name}' must be a function")
        _check(path, name, hook)
    return Handler(path, **hooks, takes=_takes(path, hooks.get("predict")))


def where(error: BaseException, path: Path) -> str:
    """The place in a handler where an error came from, as `handler.py:12`."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f"{path.name}:{lines[-1]}" if lines else path.name


def _import(path: Path) -> ModuleType:
    # Its neighbours can be imported by their names; the function's folder is on no path of ours else.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("headrace_handler", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pydantic look their module up by name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a person's code raises
        raise SetupError(f"{where(error, path)}: {type(error).__name__}: {error}") from error
    return module


def _check(path: Path, name: str, hook: Hook) -> None:
    wanted = 1 if name == "load" else 2
    try:
        inspect.signature(hook).bind(*range(wanted))
    except TypeError:
        line = inspect.getsourcelines(hook)[1] if inspect.isfunction(hook) else 1
        arguments = {"load": "loading", "predict": "input, context"}.get(name, "body, context")
        raise SetupError(f"{path.name}:{line}: '{name}' must take ({arguments})") from None


def _takes(path: Path, predict: Hook | None) -> type[BaseModel] | None:
    if predict is None:
        return None
    first = next(iter(inspect.signature(predict).parameters))
    try:
        hint = get_type_hints(predict).get(first)
    except NameError as error:
        raise SetupError(f"{path.name}: 'predict': {error}") from None
    return hint if isinstance(hint, type) and issubclass(hint, BaseModel) else None
