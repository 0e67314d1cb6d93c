"""The lines of a batch's files: what goes in, what comes out. Pure."""

from array import array
from collections.abc import Callable
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Final, NamedTuple

import orjson

from headrace.contracts import bodies
from headrace.contracts.errors import HeadraceError, InvalidRequest
from headrace.contracts.events import ModelDeployed
from headrace.contracts.states import State
from headrace.core import admission
from headrace.core.archive import FinalResult
from headrace.core.batches import Fault

MAX_FAULTS: Final = 100
"""Of a file with more, the first are told."""
MAX_LINE_BYTES: Final = 1_000_000
"""A line becomes a Kafka record, which holds no more."""
MARK_LINES: Final = 1024
_MAX_CUSTOM_ID_CHARS: Final = 512
_GOOD: Final = frozenset({State.COMPLETED, State.INCOMPLETE})


class Split:
    """Cuts pieces of a file into lines, in whatever way the pieces were cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that are whole now, without their ends.

        Raises:
            InvalidRequest: one is too long.
        """
        found = (self._rest + piece).split(b"\n")
        self._rest = found.pop()
        if len(self._rest) > MAX_LINE_BYTES:
            raise InvalidRequest(f"A line is over {MAX_LINE_BYTES} bytes", param="body")
        return found

    def end(self) -> list[bytes]:
        """The last line, if the file does not end with one's end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class Checker:
    """Reads a batch's input file once before any of it is queued; memory grows by 16 bytes a line."""

    def __init__(self, path: str, find: Callable[[str], ModelDeployed], max_lines: int) -> None:
        self._path = path
        self._find = find
        self._max_lines = max_lines
        self._digests = array("Q")
        self._places = array("L")
        self._marks = array("Q")
        self._row = 0
        self._offset = 0
        self.model: str | None = None
        self._deployed: ModelDeployed | None = None
        self.faults: list[Fault] = []

    @property
    def total(self) -> int:
        """Lines so far that are not blank."""
        return len(self._digests)

    @property
    def marks(self) -> bytes:
        """Where every 1024th line begins: eight bytes each, the lowest first."""
        return b"".join(mark.to_bytes(8, "little") for mark in self._marks)

    @property
    def is_full(self) -> bool:
        """Whether reading on tells nothing new."""
        return len(self.faults) >= MAX_FAULTS or self.total > self._max_lines

    def take(self, raw: bytes) -> None:
        """The next line."""
        self._row += 1
        begins_at, self._offset = self._offset, self._offset + len(raw) + 1
        if not raw.strip() or self.is_full:
            return
        if self.total % MARK_LINES == 0:
            self._marks.append(begins_at)
        custom_id = f"\0{self._row}"  # of a line without one: no other is like it
        try:
            custom_id = self._check(raw)
        except _Refused as refused:
            self.faults.append(Fault(refused.code, refused.message, self._row, refused.param))
        except HeadraceError as error:
            self.faults.append(Fault(error.code, error.message, self._row, error.param))
        self._digests.append(digest(custom_id))
        self._places.append(self._row)

    def end(self) -> list[Fault]:
        """What is wrong with the file, at most the first 100 faults in the order of lines."""
        if self.total > self._max_lines:
            return [Fault("too_many_tasks", f"The file has over {self._max_lines} lines: split it")]
        if not self.total:
            return [Fault("empty_file", "The file has no line")]
        faults = self.faults + self._doubled()
        return sorted(faults, key=lambda fault: fault.line or 0)[:MAX_FAULTS]

    def _doubled(self) -> list[Fault]:
        ordered = sorted(self._digests)
        doubled = {here for here, following in pairwise(ordered) if here == following}
        found: list[Fault] = []
        seen: set[int] = set()
        if not doubled:
            return found
        for value, row in zip(self._digests, self._places, strict=True):
            if value in doubled and value in seen:
                message = "An earlier line has the same custom_id"
                found.append(Fault("duplicate_custom_id", message, row, "custom_id"))
            seen.add(value)
        return found

    def _check(self, raw: bytes) -> str:
        line = read(raw)
        if line.method != "POST":
            raise _Refused("invalid_method", "'method' must be POST", "method")
        if line.url != self._path:
            raise _Refused("invalid_url", f"'url' must be the batch's endpoint, {self._path}", "url")
        value = orjson.dumps(line.body)
        body = bodies.parse(self._path, value)
        if body.model is None:
            raise _Refused("missing_required_parameter", "'body.model' is required", "body.model")
        if self.model is None:
            self._deployed = self._find(body.model)
            self.model = body.model
        deployed = self._deployed
        if body.model != self.model or deployed is None:
            sentence = f"'body.model' must be the same in all lines; the first has {self.model!r}"
            raise _Refused("mismatched_model", sentence, "body.model")
        if body.stream:
            raise _Refused("invalid_request", "'body.stream' must be false in a batch", "body.stream")
        admission.check_path(deployed, self._path)
        admission.check_size(deployed, len(value))
        admission.check_body(deployed, body)
        return line.custom_id


class InputLine(NamedTuple):
    """A line of the input file."""

    custom_id: str
    method: str
    url: str
    body: dict[str, Any]


def read(raw: bytes) -> InputLine:
    """Read a line.

    Raises:
        InvalidRequest: it is none; the message says why.
    """
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _Refused("invalid_json_line", f"The line is not valid JSON: {error}", None) from None
    if not isinstance(line, dict):
        raise _Refused("invalid_json_line", "The line must be a JSON object", None)
    for name in ("custom_id", "method", "url"):
        if not isinstance(line.get(name), str) or not line[name]:
            raise _Refused("missing_required_parameter", f"'{name}' must be a string", name)
    if len(line["custom_id"]) > _MAX_CUSTOM_ID_CHARS:
        sentence = f"'custom_id' is over {_MAX_CUSTOM_ID_CHARS} characters"
        raise _Refused("invalid_custom_id", sentence, "custom_id")
    if not isinstance(line.get("body"), dict):
        raise _Refused("missing_required_parameter", "'body' must be an object", "body")
    return InputLine(line["custom_id"], line["method"], line["url"], line["body"])


def mark(marks: bytes | None, line: int) -> tuple[int, int]:
    """A line at or before this one of which it is known where it begins: its number, and where."""
    index = line // MARK_LINES
    return index * MARK_LINES, int.from_bytes((marks or b"")[8 * index : 8 * index + 8], "little")


def digest(custom_id: str) -> int:
    """Eight bytes that stand for a custom_id."""
    return int.from_bytes(blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=8).digest())


class Written(NamedTuple):
    """A line of the output file (`is_good`) or of the error file."""

    value: bytes
    is_good: bool
    is_expired: bool = False


def answered(name: tuple[str, str], result: FinalResult, body: bytes) -> Written:
    """The line of a result. `name`: the batch line's own id and its custom_id. `body`: of the answer."""
    if result.state is State.EXPIRED:
        return unanswered(name, is_cancelled=False)
    if result.state is State.CANCELLED:
        return unanswered(name, is_cancelled=True)
    is_good = result.state in _GOOD and result.http_status < 400
    response = {
        "status_code": result.http_status,
        "request_id": result.request_id,
        "body": orjson.Fragment(body),
    }
    line = {"id": name[0], "custom_id": name[1], "response": response, "error": None}
    return Written(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE), is_good)


def unanswered(name: tuple[str, str], *, is_cancelled: bool) -> Written:
    """The line of a request that never ran to its end."""
    if is_cancelled:
        code, message = "batch_cancelled", "The batch was cancelled before this line ran"
    else:
        code, message = "batch_expired", "The batch's window closed before this line ran"
    error = {"code": code, "message": message}
    line = {"id": name[0], "custom_id": name[1], "response": None, "error": error}
    return Written(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE), False, not is_cancelled)


def lost(name: tuple[str, str], message: str) -> Written:
    """The line of a request whose answer cannot be read any more."""
    error = {"code": "internal_error", "message": message}
    line = {"id": name[0], "custom_id": name[1], "response": None, "error": error}
    return Written(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE), False)


def line_name(batch_id: str, line: int, custom_id: str) -> tuple[str, str]:
    """Id and custom_id of a line in the files."""
    return f"batch_req_{batch_id.removeprefix('batch_')}-{line}", custom_id


class _Refused(InvalidRequest):
    """A line that is refused for a reason of batches' own."""

    def __init__(self, code: str, message: str, param: str | None) -> None:
        super().__init__(message, param=param)
        self.code = code  # type: ignore[misc]  # of OpenAI's own table of batch errors
