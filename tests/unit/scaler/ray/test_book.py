"""Whose orders count, and which ends are still to be told."""

from headrace.scaler.actuator import Cause, Exit, Orders, Unit
from headrace.scaler.actuators.ray.book import Book
from headrace.scaler.actuators.ray.messages import Needs, Order, Seen

UNIT = Unit("w-1", "chat", "v1", 100.0)


def order(epoch: int, version: int = 1, ledger: str = "new") -> Order:
    return Order(Seen(ledger, version), Orders(epoch), Needs(1, 1, {}), {}, 35.0)


def carried_out(book: Book, given: Order) -> bool:
    if book.refusal(given):
        return False
    book.ordered()
    return True


def test_orders_of_an_earlier_epoch_are_refused():
    book = Book("new", -1)
    assert carried_out(book, order(3))
    assert carried_out(book, order(3))
    assert carried_out(book, order(4))
    assert "later epoch (4, ours is 3)" in book.refusal(order(3))


def test_who_begins_to_lead_must_have_seen_the_last_orders():
    book = Book("new", -1)
    assert carried_out(book, order(3))
    book.put(UNIT)
    assert carried_out(book, order(3, version=1)), "its own orders are no news to it"
    assert "another scaler has given orders" in book.refusal(order(4, version=1))
    assert carried_out(book, order(4, version=book.version))


def test_a_new_ledger_takes_nothing_that_rests_on_the_old_one():
    assert "started anew" in Book("new", -1).refusal(order(9, ledger="old"))


def test_a_ledger_that_took_the_place_of_another_knows_for_whom():
    book = Book("new", 6)
    assert "later epoch (6, ours is 5)" in book.refusal(order(5))
    book.put(UNIT)
    assert carried_out(book, order(6))
    assert book.epoch == 6
    assert carried_out(book, order(7, version=book.version))
    assert book.epoch == 7


def test_a_change_is_a_new_version():
    book = Book("new", -1)
    assert book.put(UNIT)
    version = book.version
    assert not book.put(UNIT)
    assert book.version == version


def test_ends_are_kept_until_they_are_told():
    book = Book("new", -1)
    for name in ("w-1", "w-2"):
        unit = Unit(name, "chat", "v1", 100.0)
        book.put(unit)
        book.end(Exit(unit, Cause.KILLED, "was lost", 101.0))
    assert book.state.units == ()
    assert [each.number for each in book.state.ends] == [1, 2]
    book.told(1)
    assert [each.exit.unit.id for each in book.state.ends] == ["w-2"]
    version = book.version
    book.told(1)
    assert book.version == version, "nothing has changed"
