"""What real groups did, played back: the same calls give the same results, and no request is lost or redone.

`tests/broker/record_rebalances.py` says what is in a recording and makes them anew.
"""

from pathlib import Path

import orjson
import pytest

from headrace.contracts.events import Handover
from headrace.core.offsets import Commit, backlog, decode
from headrace.core.ports import Place
from headrace.core.share import Share

RECORDINGS = {path.stem: path for path in sorted((Path(__file__).parent / "recorded").glob("*.json"))}


def read(name):
    """The places that were sent, and the lines."""
    (_, call, sent, _), *lines = map(orjson.loads, RECORDINGS[name].read_bytes().splitlines())
    assert call == "sent"
    return {Place(*place) for place in sent}, lines


def commits_of(rows):
    return {(lane, n): None if offset is None else Commit(offset, text) for lane, n, offset, text in rows}


def rows_of(commits):
    return sorted([*part, commit.offset, commit.metadata] for part, commit in commits.items())


def event_of(worker, lane, partition, done, running, until_s):
    return Handover(
        worker=worker, topic=lane, partition=partition, done=done, running=running, until_s=until_s
    )


def row_of(event):
    return [
        *(event.worker, event.topic, event.partition, list(event.done), list(event.running), event.until_s)
    ]


def offsets_of(found):
    return sorted([*part, offset] for part, offset in found.items())


CALLS = {
    "assign": lambda share, parts, commits, now_s: offsets_of(
        share.assign([tuple(part) for part in parts], commits_of(commits), now_s)
    ),
    "start": lambda share, lane, n, offsets: [share.trackers[lane, n].start(offset) for offset in offsets],
    "leaving": lambda share, now_s: rows_of(share.leaving(now_s)),
    "changed": lambda share: rows_of(share.changed()),
    "again": lambda share, *parts: share.again(map(tuple, parts)),
    "complete": lambda share, *place: share.complete(Place(*place)),
    "abort": lambda share, *place: share.abort(Place(*place)),
    "buried": lambda share, worker: share.buried(worker),
    "told": lambda share, *event: share.told(event_of(*event)),
    "expire": lambda share, now_s: share.expire(now_s),
    "reread": lambda share: offsets_of(share.reread()),
    "reports": lambda share, now_s: sorted(map(row_of, share.reports(now_s))),
}


def play(lines):
    """Each worker's calls into a share of its own; yields every line with the result that came now."""
    shares = {}
    for worker, call, arguments, _ in lines:
        share = shares.setdefault(worker, Share(worker))
        result = CALLS[call](share, *arguments) if call in CALLS else None
        yield worker, call, arguments, result


def judge(sent, lines):
    """What was run twice without a death, and what was lost; from the lines alone.

    A request that was begun is its worker's until that has finished it, given it up or died. What a worker
    has finished may be run again when it has died since: its last commit may not have been made.
    """
    running, finished, dead, wrong = {}, {}, set(), []
    for number, (worker, call, arguments, _) in enumerate(lines, start=2):
        place = Place(*arguments) if call in ("took", "complete", "abort") else None
        if call == "took":
            if (other := running.get(place, worker)) != worker or place in running:
                wrong.append(f"line {number}: {worker} begins {place}, which {other} runs")
            if place in finished and not finished[place] & dead:
                wrong.append(f"line {number}: {worker} begins {place}, finished by {finished[place]}")
            running[place] = worker
        elif call in ("complete", "abort") and running.get(place) == worker:
            del running[place]
            if call == "complete":
                finished.setdefault(place, set()).add(worker)
        elif call == "killed":
            dead.add(worker)
            running = {place: other for place, other in running.items() if other != worker}
    return wrong, sent - finished.keys()


def last_commits(lines):
    """By partition: the last that was to be committed. Nothing is refused in the end."""
    found = {}
    for _, call, _, result in lines:
        if call in ("changed", "leaving"):
            found |= commits_of(result)
    return found


@pytest.fixture(params=RECORDINGS)
def recording(request):
    return read(request.param)


def test_there_are_recordings():
    assert set(RECORDINGS) == {"joins_and_leaves", "kills", "silent_deaths"}


def test_the_same_calls_give_the_same_results(recording):
    _, lines = recording
    for number, (now, line) in enumerate(zip(play(lines), lines, strict=True), start=2):
        assert list(now) == line, f"line {number}"


def test_nothing_is_lost(recording):
    sent, lines = recording
    assert len(sent) >= 100
    assert judge(sent, play(lines))[1] == set()


def test_nothing_runs_twice_without_a_death(recording):
    sent, lines = recording
    assert judge(sent, play(lines))[0] == []


def test_no_commit_says_more_than_is_done(recording):
    """Checked against what was finished by then, whoever finished it."""
    _, lines = recording
    finished = set()
    for _, call, arguments, result in play(lines):
        if call == "complete":
            finished.add(tuple(arguments))
        elif call in ("changed", "leaving"):
            for (lane, n), commit in commits_of(result).items():
                done = {*range(commit.offset), *decode(commit).done}
                assert {(lane, n, offset) for offset in done} <= finished


def test_in_the_end_all_of_it_is_committed(recording):
    sent, lines = recording
    commits = last_commits(play(lines))
    ends = {}
    for lane, n, offset in sent:
        ends[lane, n] = max(ends.get((lane, n), 0), offset + 1)
    assert {part: backlog(commits[part], 0, end) for part, end in ends.items()} == dict.fromkeys(ends, 0)


def calls(name, call):
    return [line for line in read(name)[1] if line[1] == call]


def finished_while_given_out(name):
    """What workers finished between the begin and the end of a rebalance in which they lost it."""
    waiting, found = {}, []
    for worker, call, arguments, _ in read(name)[1]:
        if call == "leaving":
            waiting[worker] = []
        elif call == "complete" and worker in waiting:
            waiting[worker].append(arguments)
        elif call == "assign":
            kept = arguments[0]
            found += [place for place in waiting.pop(worker, ()) if place[:2] not in kept]
    return found


def test_recordings_hold_what_they_are_for():
    """Chance may leave something out: then record once more.

    Partitions move while requests run; the dead leave requests behind, with and without an obituary.
    """
    for name in RECORDINGS:
        stays = [1 for _, _, (_, fresh, _), kept in calls(name, "assign") if fresh and kept]
        assert stays, "some partitions stay where others come"
        assert [1 for *_, commits in calls(name, "leaving") for row in commits if ";" in row[3]], "holds"
    told = calls("joins_and_leaves", "told")
    assert [1 for *_, (_, _, _, _, running, _), _ in told if running], "what is lost runs on"
    assert finished_while_given_out("joins_and_leaves"), "some of what is lost ends before it is lost"
    assert len(calls("kills", "killed")) == len(calls("silent_deaths", "killed")) == 2
    assert {dead for _, _, (dead,), _ in calls("kills", "buried")} == {"w1", "w2"}
    assert calls("silent_deaths", "buried") == []
    assert [1 for *_, freed in calls("silent_deaths", "expire") if freed], "a hold ends unheard"


def test_the_judge_sees_what_it_is_for():
    """A recording with a line more, or one less, is wrong."""
    sent, lines = read("kills")
    assert judge(sent, lines) == ([], set())
    ends = [line for line in lines if line[1] == "complete"]
    once = next(line for line in ends if sum(line[2] == other[2] for other in ends) == 1)
    assert judge(sent, [line for line in lines if line != once])[1] == {Place(*once[2])}
    alive = next(line for line in ends if line[0] == "w3")
    assert len(judge(sent, [*lines, ["w9", "took", alive[2], None]])[0]) == 1, "finished already"
    taken = next(n for n, line in enumerate(lines) if line[1] == "took")
    assert len(judge(sent, [*lines[: taken + 1], ["w9", *lines[taken][1:]]])[0]) == 1, "still running"


PART = ("default", 0)


def hand_over(while_it_waits=(), while_it_runs=()):
    """A loses its partition to B while it runs 0 and 1; gives B and the event that A has told."""
    a, b = Share("a"), Share("b")
    a.assign([PART], {PART: None}, 0.0)
    assert [a.trackers[PART].start(n) for n in (0, 1)] == [True, True]
    commit = a.leaving(1.0)[PART]
    for offset in while_it_waits:
        a.complete(Place(*PART, offset))
    a.assign([], {}, 1.1)
    for offset in while_it_runs:
        a.complete(Place(*PART, offset))
    return b, commit, a.reports(1.2)


def test_what_ends_after_the_hand_over_is_not_redone():
    b, commit, (event,) = hand_over(while_it_runs=[0])
    b.assign([PART], {PART: commit}, 1.1)
    b.told(event)
    assert b.trackers[PART].held == {1}
    assert b.reread() == {}


def test_what_ends_while_partitions_are_given_out_is_not_redone():
    b, commit, (event,) = hand_over(while_it_waits=[0])
    b.assign([PART], {PART: commit}, 1.1)
    b.told(event)
    assert b.reread() == {}


def test_what_is_heard_before_the_partition_comes_counts():
    b, commit, (event,) = hand_over(while_it_runs=[0, 1])
    b.told(event)
    b.assign([PART], {PART: commit}, 1.3)
    b.expire(60.0)
    assert b.reread() == {}
