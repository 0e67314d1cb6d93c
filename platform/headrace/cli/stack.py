"""`headrace up`, `down` and `status`: the embedded stack."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from headrace.cli.target import DEFAULT_DATA_DIR, AsJson, DataDir, stack_state
from headrace.contracts.errors import HeadraceError, SetupError
from headrace.contracts.events import WorkerHeartbeat
from headrace.settings import Settings, load

_FRESH_S: Final = 10.0
_DOWN_S: Final = 90.0
_NOT_RUNNING: Final = 3
"""Exit code of `status`, as the LSB has it for services."""

_Port = Annotated[int, typer.Option(min=0, max=65535, help="0 for any free one.")]


def up(
    functions: Annotated[list[Path] | None, typer.Option(help="Function to deploy; repeatable.")] = None,
    http_port: _Port = 8080,
    kafka_port: _Port = 9092,
    s3_port: _Port = 8333,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written, whole, when requests can be served: addresses as JSON.")
    ] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Deploy functions anew when they change.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Start Kafka, S3, a database and all roles on this machine; Ctrl-C stops them."""
    try:
        from headrace.devstack.stack import Stack, StackSettings  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SetupError(f"`headrace up` needs {error.name}: pip install 'headrace[local]'") from None
    from headrace.registry.function import read_manifest  # noqa: PLC0415

    for path in functions or ():
        read_manifest(path)  # a wrong manifest is told before anything starts
    if ready_file is not None:
        _clear(ready_file)
    logging.basicConfig(level="WARNING", format="%(message)s", stream=sys.stderr)
    started_s = time.monotonic()

    def say(what: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started_s:5.1f} s] {what}\n")
        sys.stderr.flush()

    async def follow(effective: Settings) -> None:
        from headrace.cli.watch import Watcher  # noqa: PLC0415  # a second of imports

        await Watcher(effective, functions or (), say).run()

    beside = follow if watch and functions else None
    settings = StackSettings(data_dir, functions or (), http_port, kafka_port, s3_port, ready_file, beside)

    async def run() -> None:
        stack = Stack(settings, say)
        stop = asyncio.Event()
        asked = 0

        def ask() -> None:
            nonlocal asked
            asked += 1
            stop.set()
            if asked > 1:
                stack.kill()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ask)
        await stack.run(stop)

    asyncio.run(run())


def _clear(ready_file: Path) -> None:
    try:
        ready_file.unlink(missing_ok=True)
    except OSError as error:
        raise SetupError(f"--ready-file {ready_file} cannot be written: {error.strerror}") from None
    if not ready_file.absolute().parent.is_dir():
        raise SetupError(f"--ready-file {ready_file} cannot be written: its folder does not exist")


def down(*, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Stop the stack of a data folder, whatever is left of it."""
    from headrace.devstack.processes import is_alive, sweep  # noqa: PLC0415

    state = stack_state(data_dir)
    if state is None:
        if sweep(data_dir.absolute(), ()):
            typer.echo(f"Ended what a stack in {data_dir} had left")
        else:
            typer.echo(f"No stack runs in {data_dir}")
        return
    supervisor = {"pid": state["pid"], "created_s": state["created_s"]}
    if is_alive(supervisor):
        os.kill(state["pid"], signal.SIGTERM)
        until_s = time.monotonic() + _DOWN_S
        while is_alive(supervisor):
            if time.monotonic() > until_s:
                raise SetupError(
                    f"The stack (pid {state['pid']}) does not stop; its logs are in {data_dir}/logs"
                )
            time.sleep(0.05)
    else:
        sweep(data_dir.absolute(), state["processes"])
        (data_dir / "run" / "stack.json").unlink(missing_ok=True)
    typer.echo(f"Stopped the stack in {data_dir}")


def status(*, as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show every process and every worker. Exit code 3: nothing runs."""
    found = _status(data_dir)
    if as_json:
        typer.echo(orjson.dumps(found))
    else:
        _print(found, data_dir)
    if not found["running"]:
        raise typer.Exit(_NOT_RUNNING)


def _status(data_dir: Path) -> dict[str, Any]:
    from headrace.devstack.processes import is_alive, memory_bytes  # noqa: PLC0415

    state = stack_state(data_dir)
    if state is None:
        return {"running": False, "processes": [], "workers": []}
    supervisor = {"name": "supervisor", "pid": state["pid"], "created_s": state["created_s"]}
    processes = [
        {
            "name": record["name"],
            "pid": record["pid"],
            "alive": is_alive(record),
            "memory_bytes": memory_bytes(record["pid"]) if is_alive(record) else None,
        }
        for record in [supervisor, *state["processes"]]
    ]
    running = is_alive(supervisor)
    workers = asyncio.run(_workers(load(defaults=state["environment"]))) if running else []
    addresses = {name: state[name] for name in ("http_url", "kafka_bootstrap_servers", "s3_endpoint_url")}
    return {"running": running, **addresses, "processes": processes, "workers": workers}


async def _workers(settings: Settings) -> list[dict[str, Any]] | None:
    """Workers by their heartbeats; None when Kafka does not answer."""
    from headrace.kafka.reader import PartitionReader  # noqa: PLC0415

    beats: dict[bytes | None, WorkerHeartbeat] = {}
    topics = {settings.kafka.topics.workers: None}
    try:
        async with asyncio.timeout(_FRESH_S), PartitionReader(settings.kafka, topics) as reader:
            records = await reader.read_to_end()
    except TimeoutError:
        return None
    for record in records:
        beats.pop(record.key, None)
        if record.value is not None:
            with contextlib.suppress(HeadraceError):
                beats[record.key] = WorkerHeartbeat.decode(record.value)
    now_s = time.time()
    return [
        {
            "id": beat.id,
            "pid": beat.pid,
            "model": beat.model,
            "version": beat.version,
            "state": beat.state,
            "in_flight": beat.in_flight,
            "capacity": beat.capacity,
            "completed": beat.completed,
            "reason": beat.reason,
            "canary_at_s": beat.canary_at_s,
            "canary_s": beat.canary_s,
            "ailing": beat.ailing,
        }
        for beat in beats.values()
        if now_s - beat.sent_at_s < _FRESH_S
    ]


def _print(found: dict[str, Any], data_dir: Path) -> None:
    if not found["running"]:
        typer.echo(f"No stack runs in {data_dir}")
        return
    typer.echo(f"{found['http_url']}   Kafka {found['kafka_bootstrap_servers']}")
    for process in found["processes"]:
        size = f"{process['memory_bytes'] >> 20} MiB" if process["memory_bytes"] else "-"
        typer.echo(f"  {process['name']:12} pid {process['pid']:<8} {size:>9}")
    if found["workers"] is None:
        typer.echo("  workers are not known: Kafka does not answer")
    for worker in found["workers"] or ():
        typer.echo(
            f"  worker {worker['id']}  {worker['model']} {worker['version']}  {worker['state']}  "
            f"{worker['in_flight']} in flight"
        )
        if worker["ailing"]:
            typer.echo(f"    its canary failed: {worker['ailing']}")
