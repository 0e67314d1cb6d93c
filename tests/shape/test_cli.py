"""Every command and every option says what it does."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from headrace.cli.main import app


def _commands(command: Any, name: str = "headrace") -> Iterator[tuple[str, Any]]:
    yield name, command
    for child_name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, f"{name} {child_name}")


def test_every_command_has_help() -> None:
    assert [name for name, command in _commands(get_command(app)) if not command.help] == []


def test_every_parameter_has_help() -> None:
    silent = [
        f"{name} {parameter.name}"
        for name, command in _commands(get_command(app))
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert silent == []


def test_the_roles_and_the_daily_commands_are_there() -> None:
    names = {name.removeprefix("headrace ") for name, _ in _commands(get_command(app))}
    roles = {"gateway", "worker", "dispatcher", "scaler", "migrate"}
    daily = {"up", "down", "status", "deploy", "models", "call", "publish", "tail", "schemas"}
    assert roles | daily <= names
