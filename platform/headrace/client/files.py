"""Batches as files: JSONL with a request a line."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import orjson

_IN_MEMORY_BYTES: Final = 1 << 20


@contextmanager
def opened(requests: Path | Iterable[Mapping[str, Any]], path: str) -> Iterator[tuple[str, IO[bytes]]]:
    """A batch's name and its content: of the file, or of one that is made of the bodies."""
    if isinstance(requests, Path):
        with requests.open("rb") as content:
            yield requests.name, content
        return
    with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as content:
        for number, body in enumerate(requests):
            line = {"custom_id": str(number), "method": "POST", "url": path, "body": body}
            content.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        content.seek(0)
        yield "requests.jsonl", content
