"""The one fake of these tests: a node whose containers are processes of this machine, without images.

What else a kubelet does for a pod of one container is done as it does it: environment, arguments, SIGTERM, a
grace period, restarts in place with a back-off, statuses, and the termination message, whose file is not
mounted into the container but put in place of its path.
"""

import asyncio
import contextlib
import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lightkube import ApiError, AsyncClient
from lightkube.models.core_v1 import Container
from lightkube.resources.core_v1 import ConfigMap, NodeStatus, Pod, PodStatus
from lightkube.types import PatchType
from tests.kubernetes.control_plane import ControlPlane

PROCESSES: Final = {"headrace.dev/nodes": "processes"}
"""Label of the node."""

_BEAT_S: Final = 10.0
_BACKOFF_S: Final = (0.0, 1.0, 2.0)
"""Before the n-th restart; Kubernetes' own goes from 10 s to five minutes."""
_MESSAGE_BYTES: Final = 4096
_KILLED_S: Final = 5.0


@dataclass
class Run:
    """A process that was a container. `exit_code` is negative for a signal; None while it runs."""

    pod: str
    pid: int
    exit_code: int | None = None


class Leaving(asyncio.Event):
    """Set when the pod is to end, within so many seconds."""

    grace_s: float = 0.0


class Kubelet:
    """A node, played by a thread; `stop` leaves no process behind."""

    def __init__(self, plane: ControlPlane, node: str, folder: Path) -> None:
        self._plane = plane
        self._node = node
        self._folder = folder
        self._stopped = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._play, name="kubelet")
        self._pods: dict[str, Leaving] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.runs: list[Run] = []

    def start(self) -> None:
        """Play the node, which is there already."""
        self._thread.start()

    def stop(self) -> None:
        """Kill what runs on it; raises what went wrong with it."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    @property
    def alive(self) -> dict[str, int]:
        """Process ids by pod."""
        return {run.pod: run.pid for run in self.runs if run.exit_code is None}

    def _play(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        async with self._plane.client() as client:
            self._tasks |= {asyncio.create_task(self._beat(client)), asyncio.create_task(self._watch(client))}
            await _first(self._stopped.wait(), *self._tasks)
            for task in self._tasks:
                task.cancel()
            done = await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in done:
            if isinstance(each, Exception):
                raise each

    async def _beat(self, client: AsyncClient) -> None:
        while True:
            ready = {"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": _now()}
            change = {"status": {"conditions": [ready | {"lastTransitionTime": _now()}]}}
            await client.patch(NodeStatus, self._node, change, patch_type=PatchType.STRATEGIC)
            await asyncio.sleep(_BEAT_S)

    async def _watch(self, client: AsyncClient) -> None:
        """Begin with each pod that is bound to the node, and let those go that are deleted."""
        async for what, pod in client.watch(Pod, namespace="*", fields={"spec.nodeName": self._node}):
            uid = pod.metadata.uid
            if uid not in self._pods and what != "DELETED" and pod.metadata.deletionTimestamp is None:
                self._pods[uid] = Leaving()
                task = asyncio.create_task(self._live(client, pod, self._pods[uid]))
                self._tasks.add(task)
            leaving = self._pods.get(uid)
            if leaving is not None and (what == "DELETED" or pod.metadata.deletionTimestamp is not None):
                is_gone = what == "DELETED"
                leaving.grace_s = 0.0 if is_gone else float(pod.metadata.deletionGracePeriodSeconds or 0)
                leaving.set()

    async def _live(self, client: AsyncClient, pod: Pod, leaving: Leaving) -> None:
        """Run the pod's container, time and again, until it is to go."""
        last: dict[str, Any] = {}
        for number in range(1000):
            began = _now()
            path = self._folder / f"{pod.metadata.name}.message"
            path.write_bytes(b"")
            process = await self._spawn(client, pod, path)
            run = Run(pod.metadata.name, process.pid)
            self.runs.append(run)
            running = {"running": {"startedAt": began}}
            await _report(client, pod, "Running", number, running, last)
            try:
                await _first(process.wait(), leaving.wait())
                if leaving.is_set():
                    await _end(process, leaving)
            finally:
                if process.returncode is None:  # the test is over
                    process.kill()
                run.exit_code = await process.wait()
            ended = _terminated(process, path, began, number)
            if leaving.is_set():
                phase = "Failed" if process.returncode else "Succeeded"
                await _report(client, pod, phase, number, ended, last)
                with contextlib.suppress(ApiError):
                    await client.delete(
                        Pod, pod.metadata.name, namespace=pod.metadata.namespace, grace_period=0
                    )
                return
            last = ended
            held = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
            await _report(client, pod, "Running", number, held, last)
            pause_s = _BACKOFF_S[min(number, len(_BACKOFF_S) - 1)]
            await _first(asyncio.sleep(pause_s), leaving.wait())

    async def _spawn(self, client: AsyncClient, pod: Pod, message: Path) -> asyncio.subprocess.Process:
        (container,) = pod.spec.containers
        variables = await _environment(client, pod, container)
        command = [*(container.command or ()), *(container.args or ())]
        for name, value in variables.items():
            command = [each.replace(f"$({name})", value) for each in command]
        command = [str(message) if each == container.terminationMessagePath else each for each in command]
        log = (self._folder / f"{pod.metadata.name}.log").open("ab")
        with log:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_inherited() | variables,
                start_new_session=True,
            )


def _inherited() -> dict[str, str]:
    """What an image would bring."""
    kept = ("HEADRACE_CACHE_DIR",)
    return {n: value for n, value in os.environ.items() if not n.startswith("HEADRACE_") or n in kept}


async def _environment(client: AsyncClient, pod: Pod, container: Container) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container.envFrom or ():
        listed = await client.get(ConfigMap, source.configMapRef.name, namespace=pod.metadata.namespace)
        found |= listed.data
    for each in container.env or ():
        is_name = each.valueFrom is not None and each.valueFrom.fieldRef.fieldPath == "metadata.name"
        found[each.name] = pod.metadata.name if is_name else each.value or ""
    return found


async def _first(*waits: Any) -> None:
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _end(process: asyncio.subprocess.Process, leaving: Leaving) -> None:
    """SIGTERM, and SIGKILL when the grace period is over."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate() if leaving.grace_s else process.kill()
    try:
        await asyncio.wait_for(process.wait(), leaving.grace_s or _KILLED_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _terminated(
    process: asyncio.subprocess.Process, message: Path, began: str, number: int
) -> dict[str, Any]:
    code = process.returncode or 0
    return {
        "terminated": {
            "exitCode": 128 - code if code < 0 else code,
            "reason": "Error" if code else "Completed",
            "message": message.read_bytes()[-_MESSAGE_BYTES:].decode() if message.exists() else "",
            "startedAt": began,
            "finishedAt": _now(),
            "containerID": f"process://{process.pid}-{number}",
        }
    }


async def _report(
    client: AsyncClient, pod: Pod, phase: str, number: int, state: dict[str, Any], last: dict[str, Any]
) -> None:
    is_ready = "running" in state
    (container,) = pod.spec.containers
    said = {"name": container.name, "image": container.image, "imageID": "", "restartCount": number}
    said |= {"ready": is_ready, "started": is_ready, "state": state, "lastState": last}
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": _now()},
        {"type": "Ready", "status": str(is_ready), "lastTransitionTime": _now()},
    ]
    status = {"phase": phase, "conditions": conditions, "containerStatuses": [said]}
    with contextlib.suppress(ApiError):  # it is gone
        await client.patch(
            PodStatus,
            pod.metadata.name,
            {"status": status},
            namespace=pod.metadata.namespace,
            patch_type=PatchType.MERGE,
        )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
