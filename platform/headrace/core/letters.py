"""Dead letters: the original bytes and headers, where they came from, and why they were not served.

A letter that was replayed stays where it is. A note beside it, under the same key and in the same partition,
says so; the note is younger, so it outlives the letter.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from headrace.contracts import headers as h
from headrace.contracts import identity, ids
from headrace.contracts.errors import HeadraceError, InvalidRequest
from headrace.contracts.topics import Lane, Topics
from headrace.core.ports import Outgoing, Place, Record

REPLAYED_TYPE: Final = "headrace.deadletter.replayed.v1"

_ADDED: Final = frozenset(
    {h.ORIGIN_TOPIC, h.ORIGIN_PARTITION, h.ORIGIN_OFFSET, h.ERROR_CODE, h.ERROR_MESSAGE}
)
# A replayed request is a first attempt with all its time before it.
_RESET: Final = frozenset({h.ATTEMPT, h.NOT_BEFORE, h.EXPIRY_TIME, h.REPLAY_OF})
_REPLY: Final = frozenset({*h.REPLY_TOPIC_NAMES, *h.REPLY_PARTITION_NAMES})
_SKEW_MS: Final = 60_000
"""A request's time is the broker's, a letter's that of who wrote it."""
_SHORT_BYTES: Final = 1024
_SHORT_PLACE: Final = re.compile(r"(?a:(\d{1,9})-(\d{1,18}))")


def letter(topics: Topics, record: Record, error: HeadraceError, key: bytes | None = None) -> Outgoing:
    """The dead letter for `record`, under `key` or else the record's own."""
    return Outgoing(
        topics.dead_letters,
        # Without a value it would be a tombstone, which a topic that is not compacted has no use for.
        record.value or b"",
        key or record.key,
        [*record.headers.items(), *_why(record, error)],
    )


def versions(sent: Outgoing) -> tuple[Outgoing, Outgoing, Outgoing]:
    """The letter, and shorter ones for a record so large that what we add no longer fits beside it.

    The second has no value, the third nothing but what we add. The record stays where `ce_origintopic` says
    until that topic's retention is over.
    """
    added = {name: value[:_SHORT_BYTES] for name, value in sent.headers or () if name in _ADDED}
    key = sent.key and sent.key[:_SHORT_BYTES]
    bare = Outgoing(sent.topic, b"", key, list(added.items()), sent.partition)
    return sent, sent._replace(value=b""), bare


@dataclass(frozen=True, slots=True)
class Letter:
    """What a dead letter says, without its body.

    model_slug, lane: of the request topic that it came from; None when it came from elsewhere.
    """

    place: Place
    id: str
    time_ms: int
    size_bytes: int
    origin: Place | None
    model_slug: str | None
    lane: Lane | None
    code: str
    message: str


def read(topics: Topics, record: Record) -> Letter:
    """A record of the topic, as a letter; what it does not say is empty or None."""
    origin = _origin(record.headers)
    model_slug, lane = (origin and topics.parse_requests(origin.topic)) or (None, None)
    return Letter(
        place=record.place,
        id=(record.key or record.headers.get(h.ID) or b"").decode(errors="replace"),
        time_ms=record.timestamp_ms,
        size_bytes=len(record.value or b""),
        origin=origin,
        model_slug=model_slug,
        lane=lane,
        code=_text(record.headers, h.ERROR_CODE),
        message=_text(record.headers, h.ERROR_MESSAGE),
    )


def replay(topics: Topics, record: Record, value: bytes, key: bytes | None) -> Outgoing:
    """The request that the letter is about, once more: `value` on the topic that it came from.

    key: the installation's signing key, when it is known.

    Raises:
        InvalidRequest: it came from no request topic, or it needs a gateway's signature and may not have it.
    """
    origin = _origin(record.headers)
    parsed = origin and topics.parse_requests(origin.topic)
    if origin is None or parsed is None:
        where = "a place it does not name" if origin is None else f"{origin.topic}, which is no request topic"
        raise InvalidRequest(f"Dead letter {short(record.place)} came from {where}, so it cannot be replayed")
    kept = {name: v for name, v in record.headers.items() if name not in _ADDED | _RESET}
    if h.first(kept, h.REPLY_TOPIC_NAMES) == topics.replies.encode():
        # The caller who waited at a gateway is gone; `results` keeps the answer.
        kept = {name: v for name, v in kept.items() if name not in _REPLY}
    signed = _signed(record, kept, parsed[0], key)
    return Outgoing(origin.topic, value, None, [*signed.items(), (h.REPLAY_OF, full(record.place).encode())])


def is_whole(record: Record) -> bool:
    """Whether the letter has the request's body; otherwise the body is where the record came from."""
    return bool(record.value) or h.DATA_REF in record.headers


def is_origin(record: Record, found: Record) -> bool:
    """Whether `found`, at the letter's origin, is its record, and not one of a topic made anew."""
    if found.timestamp_ms > record.timestamp_ms + _SKEW_MS:
        return False
    said = record.headers
    return all(said.get(name) == value for name, value in found.headers.items() if name not in _ADDED)


def note(record: Record) -> Outgoing:
    """The note that the letter was replayed."""
    place = record.place
    headers = [(h.TYPE, REPLAYED_TYPE.encode()), (h.REPLAY_OF, full(place).encode())]
    return Outgoing(place.topic, b"", record.key, headers, place.partition)


def is_note(record: Record) -> bool:
    """Whether the record is such a note, and no letter."""
    return record.headers.get(h.TYPE) == REPLAYED_TYPE.encode()


def noted(topics: Topics, record: Record) -> Place | None:
    """The place of the letter that a note is about."""
    return place_of(topics, _text(record.headers, h.REPLAY_OF))


def full(place: Place) -> str:
    """A place in full: topic, partition and offset, as in the id of a request that has none."""
    return f"{place.topic}-{place.partition}-{place.offset}"


def short(place: Place) -> str:
    """A place among dead letters: partition and offset."""
    return f"{place.partition}-{place.offset}"


def place_of(topics: Topics, text: str) -> Place | None:
    """The dead letter's place that `text` names, in full or short; None when it is no such name."""
    match = _SHORT_PLACE.fullmatch(text.removeprefix(f"{topics.dead_letters}-"))
    return None if match is None else Place(topics.dead_letters, int(match[1]), int(match[2]))


def choose(
    topics: Topics, wanted: str, letters: Iterable[Letter], replayed: frozenset[Place], *, again: bool
) -> Letter:
    """The letter that a place or an id names; of several with one id the newest that may be replayed.

    Raises:
        InvalidRequest: there is none, or it was replayed already and `again` does not ask for that.
    """
    place = place_of(topics, wanted)
    found = [each for each in letters if each.place == place] if place else []
    found = found or [each for each in letters if each.id == wanted]
    if not found:
        raise InvalidRequest(f"There is no dead letter '{wanted}'; `headrace dead-letters list` shows all")
    fresh = [each for each in found if again or each.place not in replayed]
    if not fresh:
        raise InvalidRequest(f"Dead letter '{wanted}' was replayed already; --again replays it once more")
    return max(fresh, key=lambda each: (each.time_ms, each.place))


def _signed(record: Record, kept: dict[str, bytes], slug: str, key: bytes | None) -> dict[str, bytes]:
    """The headers with a signature where the original's was a gateway's, and without any where not.

    Only what a gateway has signed is signed again: replaying must not turn a claim into a fact.
    """
    unsigned = {name: value for name, value in kept.items() if name != h.SIGNATURE}
    if key is not None and identity.is_genuine(key, record.headers, slug):
        return unsigned | {h.SIGNATURE: identity.sign(key, identity.claims_of(unsigned, slug))}
    if not unsigned.get(h.ID, b"").startswith(ids.PREFIX.encode()):
        return unsigned
    who = f"Dead letter {short(record.place)} has a gateway's id"
    if key is None:
        raise InvalidRequest(
            f"{who} and must be signed anew: set HEADRACE_SECRET_KEY as the gateways have it"
        )
    raise InvalidRequest(f"{who} but no signature that fits: publish its body under another id")


def _origin(headers: dict[str, bytes]) -> Place | None:
    topic = _text(headers, h.ORIGIN_TOPIC)
    with suppress(ValueError):
        partition, offset = (int(_text(headers, name)) for name in (h.ORIGIN_PARTITION, h.ORIGIN_OFFSET))
        if topic and partition >= 0 and offset >= 0:
            return Place(topic, partition, offset)
    return None


def _text(headers: dict[str, bytes], name: str) -> str:
    return headers.get(name, b"").decode(errors="replace")


def _why(record: Record, error: HeadraceError) -> h.Headers:
    return [
        (h.ORIGIN_TOPIC, record.place.topic.encode()),
        (h.ORIGIN_PARTITION, str(record.place.partition).encode()),
        (h.ORIGIN_OFFSET, str(record.place.offset).encode()),
        (h.ERROR_CODE, error.code.encode()),
        (h.ERROR_MESSAGE, error.message.encode()),
    ]
