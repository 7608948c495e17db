"""Averages in which what is long ago counts less."""

from dataclasses import dataclass


@dataclass(slots=True)
class Decayed:
    """
    A weighted average; a weight is worth half after each ``half_life_seconds``.

    Never more than ``weight_max`` is kept, so that the past is outweighed in a bounded time.
    """

    half_life_seconds: float
    weight_max: float = float("inf")
    total: float = 0.0
    weight: float = 0.0
    at: float = 0.0

    def add(self, now: float, value: float, weight: float = 1.0) -> None:
        self._scale(self._share_left(now))
        self.at = max(now, self.at)
        self.total += value * weight
        self.weight += weight
        if self.weight > self.weight_max:
            self._scale(self.weight_max / self.weight)

    def mean(self) -> float | None:
        """Return the average, or None before anything was added."""
        return self.total / self.weight if self.weight > 0 else None

    def weight_at(self, now: float) -> float:
        return self.weight * self._share_left(now)

    def _share_left(self, now: float) -> float:
        # A clock that went backwards makes nothing heavier.
        elapsed = max(0.0, now - self.at)
        return float(2.0 ** -(elapsed / self.half_life_seconds))

    def _scale(self, factor: float) -> None:
        self.total *= factor
        self.weight *= factor
