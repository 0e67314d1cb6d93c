"""Recorded arrivals from a CSV file: time, prompt tokens, generated tokens."""

import csv
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from headrace.contracts.errors import SetupError
from headrace.core.simulation import Job

_DAY_S: Final = 86_400.0
_LONGEST_S: Final = 366 * _DAY_S
"""Whatever is longer has its times in another unit, or in two."""


class Speed(NamedTuple):
    """Tokens a second of one full worker."""

    prompt: float
    output: float


def read(path: Path, speed: Speed) -> list[Job]:
    """Requests in the order of their times, which count from the first one.

    The first line may be a header. Times are seconds, or dates as ISO 8601 writes them; those without a zone
    are of one that knows no summer.

    Raises:
        SetupError: the file cannot be read, or a line of it is not such a request.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            found = sorted(_jobs(path, csv.reader(file), speed))
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SetupError(f"{path} is not text: {error}") from None
    if not found:
        raise SetupError(f"{path} holds no requests")
    first_s = found[0].at_s
    if found[-1].at_s - first_s > _LONGEST_S:
        days = (found[-1].at_s - first_s) / _DAY_S
        raise SetupError(f"{path} goes on for {days:.0f} days; times are dates or seconds, all alike")
    return [Job(job.at_s - first_s, job.work_s) for job in found]


def _jobs(path: Path, rows: Iterator[list[str]], speed: Speed) -> Iterator[Job]:
    lines = ((number, row) for number, row in enumerate(rows, start=1) if row)
    for place, (number, row) in enumerate(lines):
        try:
            at, prompt, output = row[:3]
            work_s = _number(prompt) / speed.prompt + _number(output) / speed.output
            yield Job(_time_s(at), work_s)
        except (ValueError, OverflowError):
            if place == 0 and not any(map(_is_known, row[:3])):
                continue  # the header
            raise SetupError(
                f"{path}:{number}: not a request: {','.join(row)[:80]!r}; "
                "a line is time,prompt tokens,generated tokens"
            ) from None


def _is_known(text: str) -> bool:
    """Whether it is a number or a time, as no name of a column is."""
    try:
        _time_s(text)
    except (ValueError, OverflowError):
        return False
    return True


def _number(text: str) -> float:
    """Of tokens."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError(text)
    return number


def _time_s(text: str) -> float:
    try:
        at_s = float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(at_s):
        raise ValueError(text)
    return at_s
