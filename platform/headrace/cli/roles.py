"""The roles, as commands: how each runs in production."""

import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.serve import serve
from headrace.cli.simulate import replay
from headrace.settings import load

_ParentPipe = Annotated[
    bool,
    typer.Option("--parent-pipe", hidden=True, help="Stop when standard input ends: the parent is gone."),
]

# Each command imports its room when it runs: a gateway needs no engine, a worker no database.


def gateway(*, parent_pipe: _ParentPipe = False) -> None:
    """Run a gateway: the HTTP facade. Several may run beside each other."""
    from headrace.gateway.app import run  # noqa: PLC0415

    serve("gateway", run, parent_pipe=parent_pipe)


def worker(
    model: Annotated[str, typer.Option(help="Name of the deployed model.")],
    version: Annotated[
        str,
        typer.Option(
            help="Its version, as `headrace models` prints it; without it the one that is deployed, until "
            "another is.",
            show_default=False,
        ),
    ] = "",
    id_: Annotated[str | None, typer.Option("--id", help="This worker's own id; unique.")] = None,
    unit: Annotated[
        str | None, typer.Option(help="What it runs in, as the scaler's actuator calls it: a pod's name.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="File for what is in flight, read by whoever sees this worker crash.")
    ] = None,
    *,
    parent_pipe: _ParentPipe = False,
) -> None:
    """Run a worker: one model version on one engine."""
    from headrace.worker.app import run  # noqa: PLC0415
    from headrace.worker.heartbeat import WorkerSpec  # noqa: PLC0415

    id_ = id_ or f"w-{uuid.uuid4().hex[:12]}"
    spec = WorkerSpec(id=id_, model=model, version=version, journal=journal, unit=unit)
    serve("worker", lambda settings, stop: run(settings, stop, spec), parent_pipe=parent_pipe)


def dispatcher(*, parent_pipe: _ParentPipe = False) -> None:
    """Run the dispatcher: results into the database."""
    from headrace.dispatcher.app import run  # noqa: PLC0415

    serve("dispatcher", run, parent_pipe=parent_pipe)


def scaler(context: typer.Context, *, parent_pipe: _ParentPipe = False) -> None:
    """Run the scaler: starts and stops workers."""
    if context.invoked_subcommand is not None:
        return
    from headrace.scaler.app import run  # noqa: PLC0415

    serve("scaler", run, parent_pipe=parent_pipe)


def migrate() -> None:
    """Bring the database's tables up to date; safe to run at any time, and twice."""
    from headrace.store.migrate import migrate as run  # noqa: PLC0415

    run(load().database)


def register(app: Any) -> None:
    """Add the commands to `app`."""
    for command in (gateway, worker, dispatcher, migrate):
        app.command(rich_help_panel="Roles")(command)
    scaling = typer.Typer(invoke_without_command=True, callback=scaler)
    scaling.command()(replay)
    app.add_typer(scaling, name="scaler", rich_help_panel="Roles")
