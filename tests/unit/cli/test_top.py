"""The table of `headrace top`."""

from tests.unit.core.test_history import decision

from headrace.cli.top import is_enough, table, take
from headrace.core.ports import Place, Record


def record(value, at_ms=0):
    return Record(Place("headrace.decisions", 0, 0), b"m", value, {}, at_ms)


def test_the_latest_of_each_model_counts():
    latest = {}
    later = decision(2.0, 7).model_copy(update={"model": "n"})
    take(latest, [record(decision(at_s, 0).encode()) for at_s in (1.0, 2.0)])
    take(latest, [record(b"{}"), record(None), record(later.encode())])
    assert {model: each.at_s for model, each in latest.items()} == {"m": 2.0, "n": 2.0}


def test_numbers_stand_under_one_another_with_the_reason_below():
    busy = decision(90.0, 9, 0.25, waiting=1234, running=8, warm=3, starting=2, draining=1, target=5)
    busy = busy.model_copy(
        update={"retrying": 2, "oldest_s": 7.4, "backlog_tokens": 5678, "backlog_s": 308.5}
    )
    idle = decision(-100.0, 9).model_copy(update={"model": "other", "reason": "idle " * 50})
    head, first, why, second, long = table(
        [busy.model_copy(update={"reason": "so"}), idle], 100.0
    ).splitlines()
    assert head.split("  ")[:1] == ["model"]
    assert [len(line) for line in (head, first, second)] == [len(head)] * 3
    assert first.split() == [
        *("m", "1234", "8", "2", "7", "5678", "308.5", "0.00", "0.25", "3.0", "3+2-1", "5", "10", "s")
    ]
    assert why == "  so"
    assert second.split() == [
        *("other", "0", "0", "0", "0", "?", "0.00", "?", "3.0", "0", "0", "200", "s", "!")
    ]
    assert len(long) == 102


def test_what_is_unaccounted_for_is_told():
    odd = decision(90.0, 9).model_copy(update={"unaccounted": 3})
    assert table([odd], 100.0).splitlines()[-1] == "  3 requests are not accounted for"


def test_what_workers_say_last_takes_one_line():
    odd = decision(90.0, 9).model_copy(update={"reason": "failed: no\n\x1b[2J  such\tfile"})
    assert table([odd], 100.0).splitlines()[-1] == "  failed: no [2J such file"


def test_decisions_of_many_busy_models_must_go_back_to_those_of_idle_ones():
    second = [record(b"", at_ms) for at_ms in range(0, 1_000, 100)]
    assert not is_enough(second, 10)
    assert is_enough(second, 11), "there are no others"
    assert is_enough([record(b"", 0), *second, record(b"", 80_000)], 12)
