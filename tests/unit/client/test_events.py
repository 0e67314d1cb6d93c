"""Server-sent events, line by line."""

from headrace.client.events import Event, EventLines


def read(lines: EventLines, text: str) -> list[Event]:
    return [event for line in text.splitlines() for event in lines.take(line)]


def test_events_with_and_without_ids() -> None:
    lines = EventLines()
    status = ': keep-alive\n\nevent: status\ndata: {"a": 1}\n\n'
    found = read(lines, status + "id: 1:2:3\nevent: chunk\ndata:[]\n\n")
    assert found == [Event("status", {"a": 1}), Event("chunk", [], "1:2:3")]
    assert lines.last_id == "1:2:3"


def test_half_an_event_is_void_on_the_next_connection() -> None:
    lines = EventLines()
    assert read(lines, 'id: 1\nevent: chunk\ndata: {"half') == []
    lines.begin()
    assert read(lines, "event: chunk\ndata: {}\n\n") == [Event("chunk", {})]
    assert lines.last_id is None
