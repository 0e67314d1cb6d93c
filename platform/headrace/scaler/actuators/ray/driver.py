"""The process that is connected with the Ray cluster; it speaks with the scaler by lines of JSON on a socket.

Ray ends a process whose cluster it has lost, so it is not the scaler's own. It ends when the scaler does.
"""

import asyncio
import contextlib
import logging
import socket
import sys
from typing import Any, Final, TypeAlias

import ray
from ray.exceptions import ActorUnavailableError, RayError

from headrace import __version__
from headrace.contracts.errors import SetupError
from headrace.scaler.actuators.ray.ledger import NAME, Ledger
from headrace.scaler.actuators.ray.messages import ASKS, WORDS, Ask, Word
from headrace.settings import RaySettings, load

_HEAD: Final = "node:__internal_head__"
"""A resource that Ray gives to the head alone: without its head a cluster is none."""
_REACH_S: Final = 5.0
_AGAIN_S: Final = 0.5
_LOOK_S: Final = 2.0
_SAID_CHARS: Final = 400
_LIMIT_BYTES: Final = 64 << 20

_Asks: TypeAlias = asyncio.Queue[Ask | None]
"""None: the scaler is gone."""


def main() -> None:
    """Run until the socket of the file number that is the argument ends."""
    asyncio.run(_serve(socket.socket(fileno=int(sys.argv[1])), load().ray))


async def _serve(channel: socket.socket, settings: RaySettings) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=channel, limit=_LIMIT_BYTES)
    asks: _Asks = asyncio.Queue()
    try:
        _connect(settings)
        hearing = asyncio.create_task(_hear(reader, asks))
        opening = asyncio.create_task(_ledger(asks, writer))
        # A ledger may find no place for ever; the scaler may be gone before that.
        await asyncio.wait([hearing, opening], return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            return
        ledger = opening.result()
        tasks = [
            asyncio.create_task(_watch(ledger, writer)),
            asyncio.create_task(_obey(ledger, asks, writer)),
        ]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except SetupError as error:
        _say(writer, Word(wrong=str(error)))
    except RayError as error:
        _say(writer, Word(wrong=f"The ledger on Ray was lost: {_said(error)}"))
    await writer.drain()


async def _hear(reader: asyncio.StreamReader, asks: _Asks) -> None:
    """Take down what is asked, until the scaler is gone."""
    try:
        with contextlib.suppress(ConnectionError):
            async for line in reader:
                asks.put_nowait(ASKS.validate_json(line))
    finally:
        asks.put_nowait(None)


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


async def _ledger(asks: _Asks, writer: asyncio.StreamWriter) -> Any:
    """The cluster's ledger, open.

    One of another release gives way to who leads, by a later epoch than it knows of, and to nobody else:
    scalers of two releases would end each other's in turn.
    """
    ours, is_told = -1, False
    while True:
        # While another release has it, whoever leads makes the next one.
        ledger = _there() if is_told and ours < 0 else _made(ours)
        if ledger is None:
            ours = await _led(asks)
            continue
        release = await _open(ledger)
        if release == __version__:
            return ledger
        if release is None:
            await asyncio.sleep(_AGAIN_S)  # it is being started anew
            continue
        # Releases before this one do not know it.
        epoch = await ledger.epoch.remote() if hasattr(ledger, "epoch") else -1
        if epoch < ours:
            ray.kill(ledger)
            await asyncio.sleep(_AGAIN_S)
            continue
        if ours >= 0 or not is_told:
            _say(writer, Word(waits=_why_not(release, epoch, ours)))
            is_told = True
        ours = await _led(asks)


def _made(epoch: int) -> Any:
    """The ledger; a new one, where there is none."""
    return (
        ray.remote(Ledger)
        .options(
            name=NAME,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            num_cpus=0,
            resources={_HEAD: 0.001},
        )
        .remote(epoch)
    )


def _there() -> Any:
    """The ledger, if there is one."""
    try:
        return ray.get_actor(NAME)
    except ValueError:
        return None


async def _open(ledger: Any) -> str | None:
    """Of which release it is; None: nobody knows now."""
    try:
        release: str = await ledger.open.remote()
    except ActorUnavailableError:
        return None
    except RayError as error:
        raise SetupError(
            f"The ledger cannot run on the Ray cluster: is headrace {__version__} installed on its head? "
            f"({_said(error)})"
        ) from None
    return release


async def _led(asks: _Asks) -> int:
    """By which epoch the scaler leads, as soon as it says so; -1: it has not said so for a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_S):
            while True:
                ask = await asks.get()
                if ask is not None and ask.leads is not None:
                    return ask.leads
    return -1


def _why_not(release: str, epoch: int, ours: int) -> str:
    said = f"The ledger on Ray is of headrace {release}, and this scaler of {__version__}"
    if ours < 0:
        return f"{said}: it stays until this one leads"
    if ours == epoch:
        return f"{said}: is {__version__} installed on the head?"
    return f"{said}: it obeys a scaler of a later epoch ({epoch}, ours is {ours})"


async def _watch(ledger: Any, writer: asyncio.StreamWriter) -> None:
    """Pass on each state."""
    version = 0
    while True:
        state = await ledger.watch.remote(version)
        version = state.seen.version
        _say(writer, Word(state))
        await writer.drain()


async def _obey(ledger: Any, asks: _Asks, writer: asyncio.StreamWriter) -> None:
    """Pass on each order, and its answer."""
    while (ask := await asks.get()) is not None:
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
