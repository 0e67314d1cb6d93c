"""Which requests are traced: so many a second, so that tracing never costs more than so much. Pure."""


class Budget:
    """Lets through `per_s` a second, and as many at once after a pause."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._most = max(1.0, per_s)
        self._left = self._most
        self._at_s = 0.0

    def admit(self, now_s: float) -> bool:
        """Whether this one is among them. `now_s`: by a clock that never goes back."""
        if self._per_s <= 0:
            return False
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
