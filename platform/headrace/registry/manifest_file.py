"""`function.yaml` as a file: what is wrong with it, and on which line."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import yaml
from pydantic import ValidationError

from headrace.contracts.errors import SetupError
from headrace.contracts.manifest import FILE_NAME, Manifest

_MAX_BYTES: Final = 1_000_000

Where: TypeAlias = tuple[int | str, ...]


def read_manifest(folder: Path) -> Manifest:
    """Read `function.yaml` of a function's folder (or the file itself).

    Raises:
        SetupError: there is none, or it is wrong; names the file, the line and the field.
    """
    path = folder if folder.name == FILE_NAME else folder / FILE_NAME
    text = _read(path)
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        lines = {} if root is None else dict(_lines(root, ()))
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise SetupError(f"{path}{line}: {error.problem or error}") from None
    except yaml.YAMLError as error:
        raise SetupError(f"{path} is not YAML: {error}") from None
    if not isinstance(document, dict):
        raise SetupError(f"{path}: a manifest is a mapping of keys such as 'name' and 'engine'")
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        problems = [
            _explain(path, item["loc"], item["msg"], lines) for item in error.errors(include_url=False)
        ]
        raise SetupError("; ".join(problems)) from None


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        if len(data) > _MAX_BYTES:
            raise SetupError(f"{path} has {len(data)} bytes; a manifest has up to {_MAX_BYTES}")
        return data.decode()
    except FileNotFoundError:
        raise SetupError(f"{path.parent} is not a function: it has no {FILE_NAME}") from None
    except UnicodeDecodeError:
        raise SetupError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}") from None


def _lines(node: yaml.Node, where: Where) -> Iterator[tuple[Where, int]]:
    """The line of every key and item, from 1.

    Raises:
        yaml.MarkedYAMLError: a key is there twice; YAML would quietly take the last.
    """
    yield where, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"'{key.value}' is there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
            yield from _lines(value, (*where, key.value))
            yield (*where, key.value), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _lines(item, (*where, number))


def _explain(path: Path, where: Sequence[int | str], message: str, lines: Mapping[Where, int]) -> str:
    found = tuple(where)
    while found not in lines:  # a field that is missing has no line: its parent's
        found = found[:-1]
    return f"{path}:{lines[found]}: {'.'.join(map(str, where)) or 'manifest'}: {message}"
