"""What is said between the scaler, its driver and the ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from pydantic import TypeAdapter

from headrace.scaler.actuator import Exit, Orders, Unit


class Seen(NamedTuple):
    """Which state of which ledger: one that was started anew has another name, and counts from one."""

    ledger: str
    version: int


@dataclass(frozen=True, slots=True)
class Needs:
    """What a worker takes of the cluster."""

    num_gpus: float
    num_cpus: float
    resources: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Order:
    """Orders to the ledger.

    seen: what they rest on. variables: environment of the workers; they may hold secrets. drain_s: after so
    long a worker that drains is killed.
    """

    seen: Seen
    orders: Orders
    needs: Needs
    variables: Mapping[str, str]
    drain_s: float


class Numbered(NamedTuple):
    """An end, in the order of ends from 1."""

    number: int
    exit: Exit


@dataclass(frozen=True, slots=True)
class State:
    """All that the ledger knows. ends: those that no acting scaler has told of yet."""

    seen: Seen
    units: Sequence[Unit]
    ends: Sequence[Numbered]


class Answer(NamedTuple):
    """To an order: how things stand then, and why it was refused."""

    state: State
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """From the driver. answered: this is to the order. wrong: there is no connection, and why.

    waits: there is one, but no ledger for us yet, and why.
    """

    state: State | None = None
    waits: str = ""
    answered: bool = False
    refused: str = ""
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """To the driver: an order, that ends up to this number have been told, or by which epoch we lead."""

    order: Order | None = None
    told: int = 0
    leads: int | None = None


NEEDS: Final = TypeAdapter(Needs)
WORDS: Final = TypeAdapter(Word)
ASKS: Final = TypeAdapter(Ask)
