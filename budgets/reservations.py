"""A reservation: what is asked for, what was granted, and what is kept of it while it runs."""

from dataclasses import dataclass
from typing import Final

from budgets.errors import LimitReached
from budgets.money import Units

BATCH_SECONDS: Final = 25 * 3_600
"""So long a batch is held: the day that its provider may take, and an hour to settle it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a limit holds right after an admission: units of money, requests or tokens."""

    used: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Demand:
    """
    What a request asks to reserve. ``ceiling`` is the most that it can cost; ``prior`` is what
    adaptive limits hold until such requests (``learnt_under``) are known; ``tokens`` is what it
    counts in limits on tokens. ``orphan`` is recorded if nobody settles within ``seconds``.
    """

    id: str
    ceiling: Units
    prior: Units
    tokens: int
    learnt_under: str
    seconds: int
    orphan: bytes


@dataclass(frozen=True, slots=True)
class Admission:
    """
    A request was admitted: when, by the store's clock, and how its limits stand after it.

    ``held`` is what it is charged if nobody settles; ``observed`` are the indexes of the limits
    that would have refused, were they not only observed.
    """

    admitted_ms: int
    expected: Units
    held: Units
    observed: tuple[int, ...] = ()
    standings: tuple[Standing, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """
    What would become of a request now: ``refusal``, or None if it would be admitted.

    ``expected`` is what adaptive limits would hold; ``learnt`` is what nine of ten such requests
    have cost at most, ``learnt_from`` of how many; ``standings`` are those of the limits as they
    are.
    """

    expected: Units
    learnt: Units
    learnt_from: int
    refusal: LimitReached | None
    observed: tuple[int, ...]
    standings: tuple[Standing, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation of this process, as it is made again in a store that has forgotten it."""

    demand: Demand
    admission: Admission
    path: str

    def words(self, *, member: str) -> list[str | bytes]:
        admitted, demand = self.admission.admitted_ms, self.demand
        fields: dict[str, str | bytes] = {
            "ceiling": str(demand.ceiling),
            "expected": str(self.admission.expected),
            "held": str(self.admission.held),
            "admitted": str(admitted),
            "deadline": str(admitted + demand.seconds * 1_000),
            "member": member,
            "path": self.path,
            "event": demand.orphan,
            "tokens": str(demand.tokens),
        }
        return [word for pair in fields.items() for word in pair]
