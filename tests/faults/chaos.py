"""What scenarios do to their processes while a load runs."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.faults.fleet import Fleet
from tests.faults.load import Load

PAUSE_SECONDS: Final = (0.05, 0.6)


@dataclass(frozen=True)
class Chaos:
    """Does ``act`` at random instants, until it was done so often or the load has ended."""

    dice: random.Random
    times: int
    pause_seconds: tuple[float, float] = PAUSE_SECONDS

    def amid(self, asking: Load, act: Callable[[], None]) -> int:
        """Return how often it was done."""
        done = 0
        while done < self.times and asking.is_running:
            time.sleep(self.dice.uniform(*self.pause_seconds))
            if asking.is_running:
                act()
                done += 1
        return done


def kill_one(fleet: Fleet, among: Sequence[str], dice: random.Random) -> None:
    """``kill -9`` one of these that runs; what was killed a moment ago may not be up yet."""
    alive = [name for name in among if fleet.processes[name].poll() is None]
    if alive:
        fleet.kill(dice.choice(alive))


def kill_all(fleet: Fleet, names: Sequence[str]) -> None:
    for name in names:
        fleet.kill(name)
