"""What the ledger has written down: units, ends, and whose orders count. Knows nothing of Ray."""

from headrace.scaler.actuator import Exit, Unit
from headrace.scaler.actuators.ray.messages import Numbered, Order, Seen, State


class Book:
    """`name`: tells this ledger from the one before it. epoch: no orders of an earlier one are taken."""

    def __init__(self, name: str, epoch: int) -> None:
        self._name = name
        self._version = 1
        self._epoch = epoch
        self._ordered_at = 0
        self._number = 0
        self._units: dict[str, Unit] = {}
        self._ends: list[Numbered] = []

    @property
    def state(self) -> State:
        """All of it."""
        return State(Seen(self._name, self._version), tuple(self._units.values()), tuple(self._ends))

    @property
    def version(self) -> int:
        """Rises with every change."""
        return self._version

    @property
    def epoch(self) -> int:
        """The latest whose orders were taken."""
        return self._epoch

    def refusal(self, order: Order) -> str:
        """Why an order must not be carried out; empty when it is taken.

        A ledger that was started anew has forgotten whose orders it took, so it takes none that rest on what
        the one before has said: whoever gives them must look, and be confirmed as leader, once more.
        """
        epoch = order.orders.epoch
        if order.seen.ledger != self._name:
            return "the ledger on Ray was started anew since the decision"
        if epoch < self._epoch:
            return (
                f"a scaler of a later epoch ({self._epoch}, ours is {epoch}) has acted on Ray; "
                "a new Kafka needs another HEADRACE_RAY_NAMESPACE"
            )
        if epoch > self._epoch:
            if order.seen.version < self._ordered_at:
                return "another scaler has given orders since the decision"
            self._epoch = epoch
        return ""

    def ordered(self) -> None:
        """An order was carried out."""
        self._ordered_at = self._version

    def unit(self, unit_id: str) -> Unit | None:
        """One that has not ended."""
        return self._units.get(unit_id)

    def put(self, unit: Unit) -> bool:
        """A unit has come or changed; returns whether that is news."""
        if self._units.get(unit.id) == unit:
            return False
        self._units[unit.id] = unit
        self._version += 1
        return True

    def end(self, ended: Exit) -> None:
        """A unit has ended."""
        self._units.pop(ended.unit.id, None)
        self._number += 1
        self._ends.append(Numbered(self._number, ended))
        self._version += 1

    def told(self, number: int) -> None:
        """Ends up to this one are told and forgotten."""
        if self._ends and self._ends[0].number <= number:
            self._ends = [each for each in self._ends if each.number > number]
            self._version += 1
