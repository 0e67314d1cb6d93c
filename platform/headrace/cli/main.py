"""The command tree. Every failure that a person can mend is one sentence on stderr and exit code 1."""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import typer

from headrace import __version__
from headrace.cli import (
    backlog,
    batch,
    call,
    dashboard,
    dead_letters,
    demo,
    deploy,
    keys,
    new,
    roles,
    schemas,
    simulate,
    stack,
    top,
    topics,
    undeploy,
)
from headrace.contracts.errors import HeadraceError, SetupError

app = typer.Typer(
    name="headrace",
    help="Durable, elastic, cheap inference behind Apache Kafka.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_COMMANDS: Mapping[str, Sequence[Callable[..., None]]] = {
    "Embedded stack": (stack.up, stack.down, stack.status, demo.demo),
    "Work with models": (
        *(deploy.deploy, undeploy.undeploy, call.models, call.call, backlog.backlog),
        *(topics.publish, topics.tail, schemas.schemas, dashboard.dashboard),
    ),
}
for _panel, _commands in _COMMANDS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(new.app, name="new", rich_help_panel="Work with models")
app.add_typer(batch.app, name="batch", rich_help_panel="Work with models")
app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel="Work with models")
app.add_typer(keys.app, name="keys", rich_help_panel="Operate")
app.command(rich_help_panel="Operate")(top.top)
app.command(rich_help_panel="Operate")(simulate.simulate)
roles.register(app)


def _version(*, show: bool) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[bool, typer.Option("--version", callback=_version, help="Print the version.")] = False,
) -> None:
    """Durable, elastic, cheap inference behind Apache Kafka."""


def _end(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def main() -> None:
    """Entry point of `headrace` and `python -m headrace`."""
    if os.getpid() == 1:
        # The first process of a container has no default for it, and a role takes a second to set its own.
        signal.signal(signal.SIGTERM, _end)
    try:
        app()
    except (SetupError, HeadraceError) as error:
        sys.stderr.write(f"headrace: {error}\n")
        raise SystemExit(1) from None
