"""How many workers each model is to have, for whoever asks; old numbers are not told."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from headrace.contracts.errors import Unavailable, UnknownModel

_FRESH_S: Final = 30.0
"""What was decided so long ago is no answer any more."""


class Targets:
    """The latest decision. clock: seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._numbers: Mapping[str, int] = {}
        self._decided_s: float | None = None
        self._turned = asyncio.Event()
        self.is_closed = False

    def decide(self, numbers: Mapping[str, int]) -> None:
        """These hold from now on."""
        has_changed = numbers != self._numbers
        self._numbers, self._decided_s = dict(numbers), self._clock()
        if has_changed:
            self._turn()

    def close(self) -> None:
        """Nobody decides here any more."""
        self._decided_s, self.is_closed = None, True
        self._turn()

    @property
    def are_fresh(self) -> bool:
        """Whether there is an answer."""
        return self._decided_s is not None and self._clock() - self._decided_s <= _FRESH_S

    def of(self, model: str) -> int:
        """How many workers the model is to have.

        Raises:
            Unavailable: nothing was decided for a while, or never.
            UnknownModel: it is not deployed.
        """
        if not self.are_fresh:
            raise Unavailable("This scaler does not act, or cannot read Kafka: whatever there is stays")
        if model not in self._numbers:
            raise UnknownModel(f"There is no model '{model}'; `headrace models` lists what is deployed")
        return self._numbers[model]

    @property
    def turned(self) -> asyncio.Event:
        """Set when another number holds, or none; take it before you ask for the number."""
        return self._turned

    def _turn(self) -> None:
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()
