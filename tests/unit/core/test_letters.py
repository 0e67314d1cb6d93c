"""Dead letters: what they say, and what becomes of them."""

import pytest

from headrace.contracts import headers as h
from headrace.contracts import identity
from headrace.contracts.errors import HeadraceError, InvalidRequest, MalformedBody
from headrace.contracts.topics import Lane, Topics
from headrace.core import letters
from headrace.core.letters import Letter, replay
from headrace.core.ports import Place, Record

TOPICS = Topics()
LANE = TOPICS.requests("org--sm", Lane.FLEX)
KEY = identity.signing_key("0123456789abcdef")
EXPIRY = b"2030-01-01T00:00:00Z"


def dead(headers: dict[str, bytes] | None = None, value: bytes | None = b"{", **more: object) -> Record:
    """The dead letter of a request that had these headers."""
    record = Record(Place(LANE, 3, 17), None, value, headers or {}, 1000)
    error: HeadraceError = MalformedBody("The body is not JSON")
    sent = letters.letter(TOPICS, record, error, b"the-id")
    return Record(
        Place(sent.topic, 2, 40), sent.key, sent.value, h.as_dict(sent.headers or []), 2000
    )._replace(**more)  # type: ignore[arg-type]


def signed(headers: dict[str, bytes]) -> dict[str, bytes]:
    return headers | {h.SIGNATURE: identity.sign(KEY, identity.claims_of(headers, "org--sm"))}


def replayed(record: Record, key: bytes | None = KEY) -> dict[str, bytes]:
    return h.as_dict(replay(TOPICS, record, b"{", key).headers or [])


def test_a_letter_says_where_it_came_from_and_why() -> None:
    letter = letters.read(TOPICS, dead())
    assert letter.origin == Place(LANE, 3, 17)
    assert (letter.id, letter.model_slug, letter.lane) == ("the-id", "org--sm", Lane.FLEX)
    assert (letter.code, letter.message) == ("malformed_body", "The body is not JSON")
    assert (letter.time_ms, letter.size_bytes) == (2000, 1)


@pytest.mark.parametrize("offset", [b"", b"x", b"-1", b"\xff"])
def test_what_a_stranger_put_there_can_be_read_but_not_replayed(offset: bytes) -> None:
    headers = {h.ORIGIN_TOPIC: LANE.encode(), h.ORIGIN_PARTITION: b"1", h.ORIGIN_OFFSET: offset}
    record = Record(Place(TOPICS.dead_letters, 0, 0), b"\xff", None, headers, 0)
    letter = letters.read(TOPICS, record)
    assert (letter.origin, letter.model_slug, letter.code, letter.size_bytes) == (None, None, "", 0)
    with pytest.raises(InvalidRequest, match="0-0 came from a place it does not name"):
        replay(TOPICS, record, b"", KEY)


def test_what_came_from_elsewhere_cannot_be_replayed() -> None:
    record = dead()
    record.headers[h.ORIGIN_TOPIC] = TOPICS.results.encode()
    with pytest.raises(InvalidRequest, match="results, which is no request topic"):
        replay(TOPICS, record, b"", KEY)


def test_a_replay_is_the_first_attempt_again() -> None:
    kept = {h.ID: b"mine", h.SOURCE: b"/me", h.CORRELATION_ID: b"\xff7", h.TENANT_ID: b"a", "own": b"1"}
    added = {
        h.ATTEMPT: b"3",
        h.NOT_BEFORE: EXPIRY,
        h.EXPIRY_TIME: EXPIRY,
        h.REPLAY_OF: b"headrace.dead-letters-0-1",
    }
    sent = replay(TOPICS, dead(kept | added), b"the body", None)
    assert (sent.topic, sent.value, sent.key, sent.partition) == (LANE, b"the body", None, None)
    assert h.as_dict(sent.headers or []) == kept | {h.REPLAY_OF: b"headrace.dead-letters-2-40"}
    assert len(sent.headers or []) == len(kept) + 1


@pytest.mark.parametrize("name", h.REPLY_TOPIC_NAMES)
def test_a_caller_at_a_gateway_is_gone_others_are_not(name: str) -> None:
    partitions = dict.fromkeys(h.REPLY_PARTITION_NAMES, b"3")
    gone = replayed(dead({name: TOPICS.replies.encode(), **partitions}))
    assert gone.keys() == {h.REPLAY_OF}
    there = replayed(dead({name: b"replies.mine", **partitions}))
    assert there == {name: b"replies.mine", **partitions, h.REPLAY_OF: there[h.REPLAY_OF]}


def test_a_gateways_request_is_signed_anew() -> None:
    headers = signed({h.ID: b"req_1", h.TENANT_ID: b"acme", h.EXPIRY_TIME: EXPIRY})
    sent = replayed(dead(headers))
    assert h.EXPIRY_TIME not in sent
    assert sent[h.SIGNATURE] != headers[h.SIGNATURE]
    assert identity.is_genuine(KEY, sent, "org--sm")


def test_a_signature_that_still_fits_stays() -> None:
    headers = signed({h.ID: b"req_1", h.TENANT_ID: b"acme"})
    assert replayed(dead(headers))[h.SIGNATURE] == headers[h.SIGNATURE]


def test_a_claim_does_not_become_a_fact() -> None:
    claimed = dead({h.ID: b"mine", h.TENANT_ID: b"rich", h.SIGNATURE: b"0" * 32})
    assert h.SIGNATURE not in replayed(claimed)
    forged = signed({h.ID: b"req_1", h.TENANT_ID: b"acme"}) | {h.TENANT_ID: b"rich"}
    for headers in (forged, {h.ID: b"req_1"}):
        with pytest.raises(InvalidRequest, match="no signature that fits"):
            replayed(dead(headers))


def test_without_the_secret_a_gateways_request_is_not_replayed() -> None:
    with pytest.raises(InvalidRequest, match="set HEADRACE_SECRET_KEY"):
        replayed(dead(signed({h.ID: b"req_1"})), None)
    assert h.SIGNATURE not in replayed(dead(signed({h.ID: b"mine"})), None)


def test_a_letter_without_its_body_is_told_from_one_whose_body_lies_elsewhere() -> None:
    assert letters.is_whole(dead())
    assert not letters.is_whole(dead(value=b""))
    assert letters.is_whole(dead({h.DATA_REF: b"s3://b/k"}, value=None))
    sent = letters.letter(TOPICS, dead(), MalformedBody("x"))
    assert letters.versions(sent)[1] == sent._replace(value=b"")


def test_a_record_at_the_origin_is_known_by_its_headers_and_its_age() -> None:
    record = dead({h.ID: b"mine", h.ATTEMPT: b"2"}, value=b"")
    found = Record(Place(LANE, 3, 17), None, b"body", {h.ID: b"mine", h.ORIGIN_OFFSET: b"5"}, 1000)
    assert letters.is_origin(record, found)
    assert not letters.is_origin(record, found._replace(headers={h.ID: b"other"}))
    assert not letters.is_origin(record, found._replace(headers=found.headers | {"more": b""}))
    assert not letters.is_origin(record, found._replace(timestamp_ms=2000 + 60_001))


def test_a_note_lies_beside_its_letter() -> None:
    record = dead()
    note = letters.note(record)
    assert (note.topic, note.partition, note.key, note.value) == (TOPICS.dead_letters, 2, b"the-id", b"")
    read = Record(Place(note.topic, 2, 41), note.key, note.value, h.as_dict(note.headers or []), 0)
    assert letters.is_note(read)
    assert not letters.is_note(record)
    assert letters.noted(TOPICS, read) == record.place
    assert letters.noted(TOPICS, record) is None


@pytest.mark.parametrize("text", ["2-40", "headrace.dead-letters-2-40"])
def test_a_place_has_a_long_and_a_short_name(text: str) -> None:
    assert letters.place_of(TOPICS, text) == Place(TOPICS.dead_letters, 2, 40)


@pytest.mark.parametrize("text", ["", "2", "2-", "-2-40", "2-40-1", "2-٤", "headrace.results-2-40", "req_1"])
def test_anything_else_is_no_place(text: str) -> None:
    assert letters.place_of(TOPICS, text) is None


def some(offset: int, request_id: str) -> Letter:
    return letters.read(
        TOPICS,
        dead(place=Place(TOPICS.dead_letters, 0, offset), key=request_id.encode(), timestamp_ms=offset),
    )


def test_a_name_finds_its_letter() -> None:
    shelf = [some(1, "a"), some(2, "b"), some(3, "a"), some(4, "0-2")]
    done = frozenset({shelf[2].place})
    assert letters.choose(TOPICS, "0-2", shelf, done, again=False) == shelf[1]
    assert letters.choose(TOPICS, "a", shelf, frozenset(), again=False) == shelf[2]
    assert letters.choose(TOPICS, "a", shelf, done, again=False) == shelf[0]
    assert letters.choose(TOPICS, "a", shelf, done, again=True) == shelf[2]
    with pytest.raises(InvalidRequest, match="'0-3' was replayed already; --again"):
        letters.choose(TOPICS, "0-3", shelf, done, again=False)
    with pytest.raises(InvalidRequest, match="There is no dead letter '0-9'"):
        letters.choose(TOPICS, "0-9", shelf, done, again=False)
