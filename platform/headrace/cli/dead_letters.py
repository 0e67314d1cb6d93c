"""`headrace dead-letters`: what could not be served, why, and once more."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import orjson
import typer

from headrace.cli.decode import document, stamp
from headrace.cli.target import DEFAULT_DATA_DIR, AsJson, DataDir, settings_for
from headrace.contracts.errors import HeadraceError, InvalidRequest, SetupError
from headrace.contracts.identity import signing_key
from headrace.contracts.topics import Topics, slug, unslug
from headrace.core import letters
from headrace.core.letters import Letter
from headrace.core.ports import Place, Record
from headrace.kafka.lookup import Lookup, every
from headrace.kafka.producer import Producer
from headrace.settings import Settings

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_AGE: Final = re.compile(r"(?a:(\d{1,6})([smhd]))")

app = typer.Typer(no_args_is_help=True, help="Look at requests that could not be served, and replay them.")

_Model = Annotated[str | None, typer.Option("--model", help="Only those of this model.")]
_Code = Annotated[str | None, typer.Option("--code", help="Only those with this error code.")]
_Since = Annotated[
    str | None, typer.Option("--since", help="Only newer ones: an age such as 30m, 2h or 7d, or a time.")
]


@dataclass(frozen=True, slots=True)
class Shelf:
    """Every dead letter, oldest first, without bodies, and the places of those that were replayed."""

    letters: Sequence[Letter]
    replayed: frozenset[Place]


@dataclass(frozen=True, slots=True)
class _Rules:
    topics: Topics
    key: bytes | None


@app.command("list")
def list_(
    model: _Model = None,
    code: _Code = None,
    since: _Since = None,
    *,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List dead letters, the newest last."""
    wanted = _filter(model, code, since)
    shelf = asyncio.run(read_all(settings_for(data_dir)))
    found = [letter for letter in shelf.letters if wanted(letter)]
    if as_json:
        typer.echo(orjson.dumps([_entry(letter, shelf) for letter in found]))
        return
    for letter in found:
        typer.echo(_line(letter, shelf))
    if not found:
        typer.echo("No dead letters.", err=True)


@app.command()
def show(
    which: Annotated[str, typer.Argument(help="Its place, as the list prints it, or the request's id.")],
    *,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show one dead letter: headers, origin, error and body."""
    settings = settings_for(data_dir)
    letter, record, is_replayed = asyncio.run(_find(settings, which))
    if as_json:
        entry = _entry(letter, Shelf((), frozenset({letter.place} if is_replayed else ())))
        told = document(record)
        typer.echo(orjson.dumps(entry | {"headers": told["headers"], "body": told["value"]}))
        return
    typer.echo(_page(letter, record, is_replayed=is_replayed))


@app.command()
def replay(
    which: Annotated[list[str] | None, typer.Argument(help="Places or ids; or --all.")] = None,
    model: _Model = None,
    code: _Code = None,
    since: _Since = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="All that the filters leave and that were not replayed yet.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also what was replayed already, by its id.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Send requests of dead letters once more, as first attempts with all their time."""
    filtered = any(given is not None for given in (model, code, since))
    if everything == bool(which):
        raise SetupError("Say which dead letters to replay: their places or ids, or --all")
    if (filtered and not everything) or (again and everything):
        raise SetupError("--model, --code and --since go with --all; --again goes with places and ids")
    settings = settings_for(data_dir)
    topics = settings.kafka.topics
    wanted = _filter(model, code, since)
    shelf = asyncio.run(read_all(settings))
    if everything:
        chosen = [each for each in shelf.letters if wanted(each) and each.place not in shelf.replayed]
    else:
        named = (
            letters.choose(topics, each, shelf.letters, shelf.replayed, again=again) for each in which or ()
        )
        chosen = list({letter.place: letter for letter in named}.values())
    if not chosen:
        typer.echo("Nothing to replay.")
        return
    _confirm(chosen, yes=yes)
    failed = asyncio.run(replay_each(settings, chosen, typer.echo))
    typer.echo(f"Replayed {len(chosen) - len(failed)} of {_count(len(chosen))}.")
    if failed:
        raise SetupError(f"{_count(len(failed))} not replayed: {'; '.join(failed)}")


async def read_all(settings: Settings) -> Shelf:
    """Read the whole topic."""
    topics = settings.kafka.topics
    await _require(settings, topics.dead_letters)
    found: list[Letter] = []
    replayed: set[Place] = set()
    async for record in every(settings.kafka, topics.dead_letters):
        if not letters.is_note(record):
            found.append(letters.read(topics, record))
        elif (place := letters.noted(topics, record)) is not None:
            replayed.add(place)
    return Shelf(sorted(found, key=lambda each: (each.time_ms, each.place)), frozenset(replayed))


async def replay_each(
    settings: Settings, chosen: Sequence[Letter], say: Callable[[str], None]
) -> Sequence[str]:
    """Replay one after the other and note each; returns a sentence for each that could not be."""
    secret = settings.secret_key
    key = None if secret is None else signing_key(secret.get_secret_value())
    rules = _Rules(settings.kafka.topics, key)
    failed: list[str] = []
    producer = Producer(settings.kafka, source="cli")
    await producer.start()
    try:
        async with Lookup(settings.kafka) as lookup:
            for letter in chosen:
                try:
                    sent = await _replay(lookup, producer, letter, rules)
                except HeadraceError as error:
                    failed.append(error.message)
                else:
                    say(f"{letters.short(letter.place)} {letter.id} -> {letters.full(sent)}")
    finally:
        await producer.stop()
    return failed


async def _replay(lookup: Lookup, producer: Producer, letter: Letter, rules: _Rules) -> Place:
    record = await _record(lookup, letter)
    value = await _body(lookup, producer, letter, record)
    request = letters.replay(rules.topics, record, value, rules.key)
    if not await producer.partitions(request.topic):
        raise InvalidRequest(f"There is no topic {request.topic} any more: deploy the model first")
    sent = await (await producer.send(request))
    # Noted after it was sent: whoever is interrupted here sends twice, not never.
    await (await producer.send(letters.note(record)))
    return Place(sent.topic, sent.partition, sent.offset)


async def _find(settings: Settings, which: str) -> tuple[Letter, Record, bool]:
    """The letter with its record, whose body is fetched from the origin where the letter has none."""
    shelf = await read_all(settings)
    letter = letters.choose(settings.kafka.topics, which, shelf.letters, frozenset(), again=True)
    producer = Producer(settings.kafka, source="cli")
    await producer.start()
    try:
        async with Lookup(settings.kafka) as lookup:
            record = await _record(lookup, letter)
            try:
                value = await _body(lookup, producer, letter, record)
            except InvalidRequest:
                value = b""
    finally:
        await producer.stop()
    return letter, record._replace(value=value), letter.place in shelf.replayed


async def _record(lookup: Lookup, letter: Letter) -> Record:
    record = await lookup.at(letter.place)
    if record is None:
        raise InvalidRequest(f"Dead letter {letters.short(letter.place)} is no longer kept")
    return record


async def _body(lookup: Lookup, producer: Producer, letter: Letter, record: Record) -> bytes:
    """The request's body: the letter's, or that of the record it came from."""
    if letters.is_whole(record) or letter.origin is None:
        return record.value or b""
    found = None
    if await producer.partitions(letter.origin.topic) > letter.origin.partition:
        found = await lookup.at(letter.origin)
    if found is None or not letters.is_origin(record, found):
        raise InvalidRequest(
            f"Dead letter {letters.short(letter.place)} has no body, and the request is no longer at "
            f"{letters.full(letter.origin)}"
        )
    return found.value or b""


async def _require(settings: Settings, topic: str) -> None:
    producer = Producer(settings.kafka, source="cli")
    await producer.start()
    try:
        if not await producer.partitions(topic):
            raise SetupError(f"There is no topic {topic}: start a role of this installation, which makes it")
    finally:
        await producer.stop()


def _filter(model: str | None, code: str | None, since: str | None) -> Callable[[Letter], bool]:
    model_slug = None if model is None else slug(model)
    since_ms = 0 if since is None else since_s(since, time.time()) * 1000

    def wanted(letter: Letter) -> bool:
        return (
            (model_slug is None or letter.model_slug == model_slug)
            and (code is None or letter.code == code)
            and letter.time_ms >= since_ms
        )

    return wanted


def since_s(text: str, now_s: float) -> float:
    """The moment that an age or an RFC 3339 time names, in Unix seconds.

    Raises:
        SetupError: it is neither.
    """
    age = _AGE.fullmatch(text)
    if age is not None:
        return now_s - int(age[1]) * _UNITS_S[age[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SetupError(
            f"--since is {text!r}; it must be an age such as 30m, 2h or 7d, or a time such as "
            "2026-01-31T12:00:00Z"
        ) from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _confirm(chosen: Sequence[Letter], *, yes: bool) -> None:
    if yes:
        return
    try:
        agreed = typer.confirm(f"Replay {_count(len(chosen))}?", err=True)
    except typer.Abort:
        agreed = False
    if not agreed:
        raise SetupError("Nothing was replayed; --yes replays without asking")


def _count(number: int) -> str:
    return "1 dead letter" if number == 1 else f"{number} dead letters"


def _entry(letter: Letter, shelf: Shelf) -> dict[str, Any]:
    origin = letter.origin
    return {
        "place": letters.short(letter.place),
        "id": letter.id,
        "time": _time(letter),
        "model": _model(letter),
        "lane": letter.lane,
        "code": letter.code,
        "message": letter.message,
        "origin": None if origin is None else origin._asdict(),
        "size_bytes": letter.size_bytes,
        "replayed": letter.place in shelf.replayed,
    }


def _line(letter: Letter, shelf: Shelf) -> str:
    model = _model(letter) or (letter.origin.topic if letter.origin else "unknown")
    replayed = " (replayed)" if letter.place in shelf.replayed else ""
    head = f"{letters.short(letter.place)} {_time(letter)} {model} {letter.code} {letter.id}{replayed}"
    return f"{head}\n    {letter.message}"


def _page(letter: Letter, record: Record, *, is_replayed: bool) -> str:
    told = document(record)
    rows = {
        "place": letters.short(letter.place) + (" (replayed)" if is_replayed else ""),
        "id": letter.id,
        "time": stamp(record),
        "model": _model(letter) or "unknown",
        "origin": letters.full(letter.origin) if letter.origin else "unknown",
        "error": f"{letter.code}: {letter.message}",
    }
    lines = [f"{name:8}{value}" for name, value in rows.items()]
    lines += ["", *(f"{name}: {value}" for name, value in told["headers"].items()), ""]
    body = told["value"]
    if not record.value:
        lines.append("(no body, here or where it came from)")
    else:
        lines.append(
            body if isinstance(body, str) else orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()
        )
    return "\n".join(lines)


def _model(letter: Letter) -> str | None:
    """The model's name in lower case, as its topic has it."""
    return None if letter.model_slug is None else unslug(letter.model_slug)


def _time(letter: Letter) -> str:
    moment = datetime.fromtimestamp(letter.time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
