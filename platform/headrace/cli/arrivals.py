"""Recorded arrivals from a CSV file: time, prompt tokens, generated tokens."""

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from headrace.contracts.errors import SetupError
from headrace.core.simulation import Job


class Speed(NamedTuple):
    """Tokens a second of one full worker."""

    prompt: float
    output: float


def read(path: Path, speed: Speed) -> list[Job]:
    """Requests in the order of their times, which count from the first one.

    The first line may be a header. Times are seconds, or dates as ISO 8601 writes them.

    Raises:
        SetupError: the file cannot be read, or a line of it is not such a request.
    """
    try:
        with path.open(newline="") as file:
            found = sorted(_jobs(path, csv.reader(file), speed))
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SetupError(f"{path} is not text") from None
    if not found:
        raise SetupError(f"{path} holds no requests")
    first_s = found[0].at_s
    return [Job(job.at_s - first_s, job.work_s) for job in found]


def _jobs(path: Path, rows: Iterator[list[str]], speed: Speed) -> Iterator[Job]:
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        try:
            at, prompt, output = row[:3]
            work_s = float(prompt) / speed.prompt + float(output) / speed.output
            yield Job(_time_s(at), work_s)
        except ValueError:
            if number == 1:
                continue  # the header
            raise SetupError(
                f"{path}:{number}: not a request: {','.join(row)[:80]!r}; "
                "a line is time,prompt tokens,generated tokens"
            ) from None


def _time_s(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # Python reads six digits of a second; others write seven.
        head, dot, digits = text.partition(".")
        return datetime.fromisoformat(f"{head}{dot}{digits[:6]}").timestamp()
