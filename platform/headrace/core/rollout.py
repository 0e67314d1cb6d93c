"""Whether a version has shown that it is well, and when it is taken out again. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from headrace.core.scaling import Failures, Phase, Worker

STABLE_S: Final = 10.0
"""A version is trusted when a worker of it has been ready for so long."""


def stable(
    workers: Iterable[Worker], version: str, ready_s: Mapping[str, float], now_s: float
) -> list[float]:
    """Since when those workers of the version have been ready that have been for a while.

    ready_s: since when each has been.
    """
    since_s = (
        ready_s.get(worker.id, now_s)
        for worker in workers
        if worker.phase is Phase.READY and worker.version == version
    )
    return [each for each in since_s if now_s - each >= STABLE_S]


def is_over(failures: Failures, stable_s: Sequence[float], wanted: int) -> bool:
    """Whether nobody fails any more: one that came later is stable, or all that are wanted are.

    Who was well before says nothing of those that fail beside it.
    """
    return bool(stable_s) and (max(stable_s) > failures.last_at_s or len(stable_s) >= wanted)


def unfit(version: str, trusted: str | None, failures: Failures, limit: int) -> str | None:
    """Why the version is to make place for the trusted one; None when it is not.

    A version that was trusted once stays: what fails then is more likely around it than in it, and another
    version would fail as well.
    """
    if trusted is None or trusted == version or failures.count < limit:
        return None
    what = "its worker" if failures.count == 1 else f"{failures.count} workers in a row"
    return f"{what} failed, at last: {failures.reason}"
