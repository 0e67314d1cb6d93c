"""Who began which request, as the reply topic tells it."""

from loadtests.redelivery import Ledger

from headrace.contracts import replies
from headrace.contracts.replies import ReplyHead
from headrace.contracts.states import State
from headrace.core.ports import Place, Record


def told(ledger: Ledger, request: str, worker: str, state: State | None = None) -> tuple[str, str] | None:
    head = ReplyHead(causation_id=request, state=state, source=f"/workers/{worker}")
    return ledger.note(Record(Place("replies", 0, 0), None, b"{}", dict(replies.write(head)), 0))


def test_a_request_is_begun_once_by_each_worker() -> None:
    ledger = Ledger()
    assert told(ledger, "r1", "a") == ("r1", "a")
    assert told(ledger, "r1", "a") is None
    assert ledger.running() == {"a": {"r1"}}
    assert told(ledger, "r1", "b") == ("r1", "b")
    assert ledger.running() == {"b": {"r1"}}


def test_a_final_ends_it_and_a_second_is_counted() -> None:
    ledger = Ledger()
    told(ledger, "r1", "a", State.COMPLETED)
    told(ledger, "r1", "b", State.COMPLETED)
    assert (ledger.running(), ledger.finals, ledger.wrong) == ({}, {"r1": 2}, 0)
    told(ledger, "r2", "a", State.FAILED)
    assert ledger.wrong == 1
