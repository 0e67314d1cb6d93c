"""Whether a version has shown that it is well, and when it is taken out again. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from headrace.core.scaling import Failures, Phase, Worker

STABLE_S: Final = 10.0
"""A version is trusted when a worker of it has been ready for so long."""


def is_stable(workers: Iterable[Worker], version: str, ready_s: Mapping[str, float], now_s: float) -> bool:
    """Whether some worker of the version has been ready for a while. ready_s: since when each has been."""
    return any(
        worker.phase is Phase.READY
        and worker.version == version
        and now_s - ready_s.get(worker.id, now_s) >= STABLE_S
        for worker in workers
    )


def unfit(version: str, trusted: str | None, failures: Failures, limit: int) -> str | None:
    """Why the version is to make place for the trusted one; None when it is not.

    A version that was trusted once stays: what fails then is more likely around it than in it, and another
    version would fail as well.
    """
    if trusted is None or trusted == version or failures.count < limit:
        return None
    what = "its worker" if failures.count == 1 else f"{failures.count} workers in a row"
    return f"{what} failed, at last: {failures.reason}"
