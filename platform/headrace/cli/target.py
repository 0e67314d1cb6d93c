"""Which installation a command talks to: the stack of a data folder, unless the environment differs."""

from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from headrace.contracts.errors import SetupError
from headrace.settings import Settings, given, load

DEFAULT_DATA_DIR: Final = Path(".headrace")

DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Data folder of the embedded stack to talk to.", show_default=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def stack_state(data_dir: Path) -> dict[str, Any] | None:
    """What the stack of `data_dir` has written about itself; None when there is none."""
    path = data_dir / "run" / "stack.json"
    try:
        state: dict[str, Any] = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, orjson.JSONDecodeError) as error:
        raise SetupError(f"{path} cannot be read: {error}") from None
    return state


def settings_for(data_dir: Path) -> Settings:
    """Settings for the stack of `data_dir`; HEADRACE_* variables that are set come first.

    Raises:
        SetupError: no stack has run there and the environment names no Kafka.
    """
    state = stack_state(data_dir)
    if state is not None:
        return load(defaults=state.get("environment", {}))
    if "HEADRACE_KAFKA_BOOTSTRAP_SERVERS" not in given():
        raise SetupError(
            f"No stack runs in {data_dir}: start one with `headrace up --data-dir {data_dir}`, "
            "or set HEADRACE_KAFKA_BOOTSTRAP_SERVERS"
        )
    return load()


def no_answer(settings: Settings) -> SetupError:
    """Kafka does not answer, and what to do."""
    return SetupError(
        f"Kafka at {settings.kafka.bootstrap_servers} does not answer; "
        "`headrace status` says whether the stack runs"
    )
