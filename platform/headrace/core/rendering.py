"""An answer in the form that its caller wants. Pure."""

import csv
import io
from typing import Any, Final

import orjson

from headrace.contracts.errors import EngineFailed
from headrace.contracts.formats import CSV, NPY, SAFETENSORS, TEXT, Format
from headrace.core import tensor_files

_MISSING: Final = object()


def render(answer: bytes, form: Format) -> bytes:
    """The bytes of `answer`, which is JSON, in that form.

    Text is a string as it is, and anything else as JSON. A table is a list of objects (their keys become the
    first line), of lists, or an object of columns; what stands in a cell is a value, or JSON. Tensors are
    those of the Open Inference Protocol, or nested lists.

    Raises:
        EngineFailed: the answer has no such part, or it is no table or tensor.
    """
    if form.is_plain:
        return answer
    found = _select(orjson.loads(answer), form.select)
    if form.type == TEXT:
        return found.encode() if isinstance(found, str) else orjson.dumps(found)
    if form.type == CSV:
        return _table(found, form.select)
    if form.type == NPY:
        return tensor_files.npy(found, form.select)
    if form.type == SAFETENSORS:
        return tensor_files.safetensors(found, form.select)
    return orjson.dumps(found)


def _select(document: Any, pointer: str) -> Any:
    found = document
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name, _MISSING)
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            found = _MISSING
        if found is _MISSING:
            raise EngineFailed(f"The answer has nothing at {pointer}, which is what was asked for")
    return found


def _table(found: Any, pointer: str) -> bytes:
    rows = _rows(found)
    if rows is None:
        raise EngineFailed(f"The answer is no table at {pointer or 'its root'}, so it cannot be given as CSV")
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)  # lines end with CRLF, as RFC 4180 has it
    writer.writerows([[_cell(each) for each in row] for row in rows])
    return buffer.getvalue().encode()


def _rows(found: Any) -> list[list[Any]] | None:
    if isinstance(found, dict) and found and all(isinstance(column, list) for column in found.values()):
        columns = list(found.values())
        if len({len(column) for column in columns}) > 1:
            return None
        return [list(found), *map(list, zip(*columns, strict=True))]
    if not isinstance(found, list):
        return None
    if all(isinstance(row, list) for row in found):
        return found
    if all(isinstance(row, dict) for row in found):
        names = list(dict.fromkeys(name for row in found for name in row))
        return [names, *([row.get(name) for name in names] for row in found)]
    return [[each] for each in found] if not any(isinstance(each, dict | list) for each in found) else None


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
