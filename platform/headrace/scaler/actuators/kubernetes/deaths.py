"""Which workers have ended, by what the cluster says of their pods from time to time. No IO."""

from headrace.contracts.events import ENGINE_DIED
from headrace.core.journal import read
from headrace.scaler.actuator import Cause, Exit, Unit
from headrace.scaler.actuators.child import judged
from headrace.scaler.actuators.kubernetes.objects import Pod, Termination

_SIGNALS = range(129, 129 + 64)
"""Exit codes of those that a signal ended."""


class Deaths:
    """Fed with every pod as it comes, changes and goes; gives each end once.

    What had ended before it was fed for the first time is another's to tell. killed: names of pods that we
    have killed; they have no last word.
    """

    def __init__(self) -> None:
        self._told: dict[str, str | None] = {}
        self._over: set[str] = set()
        self.killed: set[str] = set()

    def see(self, pod: Pod, now_s: float) -> Exit | None:
        """The pod is so now."""
        ended = pod.ended.id if pod.ended is not None else None
        if pod.uid not in self._told:
            self._told[pod.uid] = ended
            if pod.is_over:
                self._over.add(pod.uid)
            return None
        if pod.uid in self._over:
            return None
        if pod.is_over:
            return self._end(pod, now_s)
        if pod.ended is None or ended == self._told[pod.uid] or pod.is_leaving:
            return None
        self._told[pod.uid] = ended
        return _restart(pod, pod.ended, now_s)

    def gone(self, pod: Pod, now_s: float) -> Exit | None:
        """The pod is no more; it was so last."""
        found = None if pod.uid in self._over or pod.uid not in self._told else self._end(pod, now_s)
        self._told.pop(pod.uid, None)
        self._over.discard(pod.uid)
        self.killed.discard(pod.name)
        return found

    def _end(self, pod: Pod, now_s: float) -> Exit:
        self._over.add(pod.uid)
        ended = pod.ended
        if ended is not None and (ended.id == self._told[pod.uid] or pod.is_running):
            ended = None  # that was an earlier one; of the last nothing is known
        cause, reason = _judged(pod, ended, is_killed=pod.name in self.killed)
        in_flight = read(ended.message.encode()) if ended is not None else ()
        return Exit(_unit(pod), cause, reason, now_s, in_flight=in_flight)


def _restart(pod: Pod, ended: Termination, now_s: float) -> Exit:
    cause, reason = container(ended)
    reason += ", and begins anew in its pod"
    in_flight = read(ended.message.encode())
    at_s = ended.at_s or pod.anew_at_s or now_s
    return Exit(_unit(pod), cause, reason, at_s, is_gone=False, in_flight=in_flight)


def container(ended: Termination, *, is_stopping: bool = False) -> tuple[Cause, str]:
    """Why a container ended, and how in words. is_stopping: its pod was told to go."""
    if ended.reason == "OOMKilled":
        return Cause.CRASHED, "ran out of memory (OOMKilled)"
    code = ended.exit_code
    cause, words = judged(128 - code if code in _SIGNALS else code, is_stopping=is_stopping)
    is_plain = ended.reason in ("", "Error", "Completed") or code == ENGINE_DIED
    return cause, words if is_plain else f"{words} ({ended.reason})"


def _judged(pod: Pod, ended: Termination | None, *, is_killed: bool) -> tuple[Cause, str]:
    """Of a pod that is over. A worker that drained has left nothing behind, whoever asked it to."""
    if ended is not None:
        cause, words = container(ended, is_stopping=pod.is_leaving and not pod.disruption)
        if cause is Cause.KILLED and pod.disruption:
            words += f": {pod.disruption}"
        return cause, words
    if pod.disruption:
        return Cause.KILLED, f"is gone: {pod.disruption}"
    if is_killed:
        return Cause.KILLED, "was killed"
    if pod.ended is None and not pod.is_running:
        return Cause.ASKED, "was taken away before it began"
    if pod.cost < 0:
        return Cause.ASKED, "has ended"
    return Cause.KILLED, "was deleted by somebody else"


def _unit(pod: Pod) -> Unit:
    """Stopping where it was we who told it to go."""
    return Unit(pod.name, pod.model, pod.version, pod.started_at_s, stopping=pod.cost < 0, note=pod.note)
