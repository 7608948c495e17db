"""
What scenarios do to their processes while a load runs.

A process that is killed while it starts loses nothing whatever the code does, so each kill waits
until there is something to lose: requests in flight, or a recorder that records.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from budgets.models import Partition
from budgets.storekeeper import PARTITION
from tests.faults.fleet import Fleet
from tests.faults.load import Load

PAUSE_SECONDS: Final = (0.05, 0.4)

Act = Callable[[], bool]
"""Returns whether it was done; if not, it is tried again a little later."""


@dataclass(frozen=True)
class Chaos:
    """Does ``act`` at random instants, until it was done so often or the load has ended."""

    dice: random.Random
    times: int
    pause_seconds: tuple[float, float] = PAUSE_SECONDS

    def amid(self, asking: Load, act: Act) -> int:
        """Return how often it was done."""
        done = 0
        while done < self.times:
            time.sleep(self.dice.uniform(*self.pause_seconds))
            if not asking.is_running:
                break
            done += act()
        return done


def kill_one(fleet: Fleet, among: Sequence[str], dice: random.Random) -> bool:
    """``kill -9`` one of these, the likelier the more requests it has in flight."""
    in_flight = fleet.in_flight()
    busy = [name for name in among if in_flight[name]]
    if busy:
        fleet.kill(dice.choices(busy, [in_flight[name] for name in busy])[0])
    return bool(busy)


def kill_all(fleet: Fleet, names: Sequence[str]) -> bool:
    """``kill -9`` all of these in one go, once there are requests in flight."""
    busy = fleet.in_flight().total() > 0
    for name in names if busy else ():
        fleet.kill(name)
    return busy


def recorder_killer(fleet: Fleet, among: Sequence[str], dice: random.Random) -> Act:
    """Return what kills one of these recorders, each time that one of them has recorded."""
    killed_at = _position()

    def kill() -> bool:
        nonlocal killed_at
        alive = [name for name in among if fleet.processes[name].poll() is None]
        if not alive or killed_at == (position := _position()):
            return False
        killed_at = position
        fleet.kill(dice.choice(alive))
        return True

    return kill


def _position() -> str:
    return Partition.objects.values_list("position", flat=True).get(number=PARTITION)
