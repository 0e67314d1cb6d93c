"""The process that is connected with the Ray cluster; it speaks with the scaler by lines of JSON on a socket.

Ray ends a process whose cluster it has lost, so it is not the scaler's own. It ends when the scaler does.
"""

import asyncio
import logging
import socket
import sys
from typing import Any, Final

import ray
from ray.exceptions import ActorUnavailableError, RayError

from headrace import __version__
from headrace.contracts.errors import SetupError
from headrace.scaler.actuators.ray.ledger import NAME, Ledger
from headrace.scaler.actuators.ray.messages import ASKS, WORDS, Word
from headrace.settings import RaySettings, load

_HEAD: Final = "node:__internal_head__"
"""A resource that Ray gives to the head alone: without its head a cluster is none."""
_REACH_S: Final = 5.0
_AGAIN_S: Final = 0.5
_SAID_CHARS: Final = 400
_LIMIT_BYTES: Final = 64 << 20


def main() -> None:
    """Run until the socket of the file number that is the argument ends."""
    asyncio.run(_serve(socket.socket(fileno=int(sys.argv[1])), load().ray))


async def _serve(channel: socket.socket, settings: RaySettings) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=channel, limit=_LIMIT_BYTES)
    try:
        _connect(settings)
        ledger = await _ledger()
        tasks = [
            asyncio.create_task(_watch(ledger, writer)),
            asyncio.create_task(_obey(ledger, reader, writer)),
        ]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except SetupError as error:
        _say(writer, Word(wrong=str(error)))
    except RayError as error:
        _say(writer, Word(wrong=f"The ledger on Ray was lost: {_said(error)}"))
    await writer.drain()


def _connect(settings: RaySettings) -> None:
    where = "on this machine" if settings.address == "auto" else f"at {settings.address}"
    try:
        if settings.address != "auto":
            # Ray itself waits for half a minute, and then does not say what for.
            host, _, port = settings.address.rpartition(":")
            socket.create_connection((host, int(port)), _REACH_S).close()
        ray.init(
            address=settings.address,
            namespace=settings.namespace,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise SetupError(
            f"There is no Ray cluster {where} that can be used ({_said(error)}): make this machine a "
            "node of one, with its versions of Ray and Python, and set HEADRACE_RAY_ADDRESS to its HOST:PORT"
        ) from None


async def _ledger() -> Any:
    """The cluster's ledger, open; one of another version of ours gives way."""
    while True:
        ledger = (
            ray.remote(Ledger)
            .options(
                name=NAME,
                lifetime="detached",
                get_if_exists=True,
                max_restarts=-1,
                num_cpus=0,
                resources={_HEAD: 0.001},
            )
            .remote()
        )
        try:
            version = await ledger.open.remote()
        except ActorUnavailableError:
            await asyncio.sleep(_AGAIN_S)  # it is being started anew
            continue
        except RayError as error:
            raise SetupError(
                f"The ledger cannot run on the Ray cluster: is headrace {__version__} installed on its head? "
                f"({_said(error)})"
            ) from None
        if version == __version__:
            return ledger
        ray.kill(ledger)
        await asyncio.sleep(_AGAIN_S)


async def _watch(ledger: Any, writer: asyncio.StreamWriter) -> None:
    """Pass on each state."""
    version = 0
    while True:
        state = await ledger.watch.remote(version)
        version = state.seen.version
        _say(writer, Word(state))
        await writer.drain()


async def _obey(ledger: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on each order, and its answer."""
    async for line in reader:
        ask = ASKS.validate_json(line)
        if ask.told:
            await ledger.told.remote(ask.told)
        if ask.order is not None:
            state, refused = await ledger.act.remote(ask.order)
            _say(writer, Word(state, answered=True, refused=refused))


def _say(writer: asyncio.StreamWriter, word: Word) -> None:
    writer.write(WORDS.dump_json(word) + b"\n")


def _said(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())[:_SAID_CHARS] or repr(error)


if __name__ == "__main__":
    main()
