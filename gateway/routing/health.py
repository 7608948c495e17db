"""
How deployments have done lately in this process: what is in flight, how fast and how reliable
they are, and which are left alone for a while because they failed.

A deployment that trips cools down. Then it is half-open: one request is let through as a probe;
an answer closes it, a failure doubles the cool-down. All times are monotonic seconds.
"""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway.routing.decay import Decayed

HALF_LIFE_SECONDS: Final = 300.0
MEASURES_WEIGHT_MAX: Final = 16.0
MEASURED_WEIGHT_MIN: Final = 1.0
"""An average of less than one answer's weight says nothing any more: it is measured anew."""
RECENT_OUTCOMES_MAX: Final = 10
RECENT_OUTCOMES_MIN: Final = 5
RECENT_SECONDS: Final = 60.0
COOL_DOWN_SECONDS_MIN: Final = 1.0
COOL_DOWN_SECONDS_MAX: Final = 600.0
HEALTHS_MAX: Final = 10_000
assert RECENT_OUTCOMES_MIN <= RECENT_OUTCOMES_MAX
assert COOL_DOWN_SECONDS_MIN <= COOL_DOWN_SECONDS_MAX


class Failure(StrEnum):
    """Why a deployment gave no answer, where that was not the caller's fault."""

    RATE_LIMITED = "rate_limited"
    AUTHENTICATION = "authentication"
    """Its key or account is refused: 401, 402 or 403."""
    NOT_FOUND = "not_found"
    TIMEOUT = "timeout"
    SERVER_ERROR = "server_error"
    UNREACHABLE = "unreachable"
    BROKEN = "broken"
    """It broke off in the middle of an answer."""


class Standing(StrEnum):
    HEALTHY = "healthy"
    PROBE_DUE = "probe_due"
    COOLING = "cooling"


AT_ONCE: Final = frozenset({Failure.RATE_LIMITED, Failure.AUTHENTICATION, Failure.UNREACHABLE})
"""
What trips at the first failure, since the next request would fare no better. The rest trips by
rate: a single caller can provoke a 404 or a time-out.
"""
COOL_DOWN_SECONDS: Final = {
    Failure.RATE_LIMITED: 5.0,
    Failure.AUTHENTICATION: 300.0,
    Failure.NOT_FOUND: 60.0,
    Failure.TIMEOUT: 15.0,
    Failure.SERVER_ERROR: 5.0,
    Failure.UNREACHABLE: 5.0,
    Failure.BROKEN: 5.0,
}
"""How long the first cool-down is; ``Retry-After`` says better for RATE_LIMITED."""
_OF_STATUS: Final = {
    401: Failure.AUTHENTICATION,
    402: Failure.AUTHENTICATION,
    403: Failure.AUTHENTICATION,
    404: Failure.NOT_FOUND,
    408: Failure.TIMEOUT,
    429: Failure.RATE_LIMITED,
    504: Failure.TIMEOUT,
}
_REDIRECTS: Final = range(300, 400)
_SERVER_ERROR_MIN: Final = 500


def failure_of(status: int) -> Failure | None:
    """
    Return what an answer's status says of the deployment's health; None: nothing.

    Some providers refuse content with 403: ask :func:`gateway.routing.causes.cause_of_error`
    first, for what it knows is the request's fault.
    """
    if status in _REDIRECTS or (status >= _SERVER_ERROR_MIN and status not in _OF_STATUS):
        return Failure.SERVER_ERROR  # nobody follows redirects here
    return _OF_STATUS.get(status)


def _measure() -> Decayed:
    return Decayed(HALF_LIFE_SECONDS, MEASURES_WEIGHT_MAX)


@dataclass(slots=True, eq=False)
class Health:
    """What is known of one deployment; :meth:`began` opens a :class:`Trial`, which tells more."""

    in_flight: int = 0
    success: Decayed = field(default_factory=_measure)
    """1 for each answer, 0 for each failure."""
    token_seconds: Decayed = field(default_factory=_measure)
    """For each token that was put out."""
    answer_seconds: Decayed = field(default_factory=_measure)
    first_byte_seconds: Decayed = field(default_factory=_measure)
    cools_until: float | None = None
    cool_down_seconds: float = 0.0
    trips: int = 0
    probe: "Trial | None" = None
    _recent: deque[tuple[float, bool]] = field(
        default_factory=lambda: deque(maxlen=RECENT_OUTCOMES_MAX)
    )

    def standing(self, now: float) -> Standing:
        if self.cools_until is None:
            return Standing.HEALTHY
        if now < self.cools_until or self.probe is not None:
            return Standing.COOLING
        return Standing.PROBE_DUE

    def cooling_seconds(self, now: float) -> float:
        """Return how long it still cools down; 0 where it does not."""
        return 0.0 if self.cools_until is None else max(0.0, self.cools_until - now)

    def began(self, now: float, *, last_resort: bool = False) -> "Trial | None":
        """
        Count a request in flight until its trial has ended; the first after a cool-down is the
        probe.

        Return None, and count nothing, where it should go elsewhere: while it cools down, and
        while the probe is under way. A last resort always goes.
        """
        standing = self.standing(now)
        if standing is Standing.COOLING and not last_resort:
            return None
        trial = Trial(self, self.trips)
        if standing is Standing.PROBE_DUE:
            self.probe = trial
        self.in_flight += 1
        return trial

    def open(self, now: float) -> "Trial":
        """Begin a trial whatever its standing: whoever has chosen it has seen that."""
        trial = self.began(now, last_resort=True)
        assert trial is not None, "a last resort always goes"
        return trial

    def is_measured(self, measure: Decayed, now: float) -> bool:
        return measure.weight_at(now) >= MEASURED_WEIGHT_MIN

    def note(self, now: float, *, succeeded: bool) -> None:
        """Count an outcome."""
        self.success.add(now, float(succeeded))
        self._recent.append((now, succeeded))

    def close(self) -> None:
        """Take it for healthy again."""
        self.cools_until, self.cool_down_seconds, self.probe = None, 0.0, None

    def fail(self, trial: "Trial", now: float, failure: Failure, seconds: float | None) -> None:
        """Count a failure; it trips as the probe, by its kind, or as one too many."""
        self.note(now, succeeded=False)
        if self.probe is trial:
            self.probe = None
            self._trip(now, failure, seconds)
        elif self.cools_until is None and (failure in AT_ONCE or self._mostly_fails(now)):
            self._trip(now, failure, seconds)

    def _mostly_fails(self, now: float) -> bool:
        recent = [ok for at, ok in self._recent if now - at <= RECENT_SECONDS]
        return len(recent) >= RECENT_OUTCOMES_MIN and recent.count(False) * 2 > len(recent)

    def _trip(self, now: float, failure: Failure, seconds: float | None) -> None:
        # Twice nothing is nothing: only what trips again without an answer between is doubled.
        longer = max(COOL_DOWN_SECONDS[failure], self.cool_down_seconds * 2)
        self.cool_down_seconds = _bounded(longer if seconds is None else seconds)
        self.cools_until = now + self.cool_down_seconds
        self.trips += 1
        self._recent.clear()


@dataclass(slots=True, eq=False)
class Trial:
    """One request at one deployment, from before its reservation until nothing more can come."""

    health: Health
    trips_before: int
    _has_ended: bool = False

    @property
    def is_probe(self) -> bool:
        return self.health.probe is self

    def first_byte(self, now: float, since: float) -> None:
        """Tell that an answer, not an error, has begun; ``since`` is when it was sent."""
        self.health.first_byte_seconds.add(now, max(0.0, now - since))
        self._is_good_news()

    def succeeded(self, now: float, *, seconds: float, output_tokens: int) -> None:
        """Tell of a whole answer, and how long it took."""
        health = self.health
        health.note(now, succeeded=True)
        health.answer_seconds.add(now, max(0.0, seconds))
        if output_tokens > 0:
            health.token_seconds.add(now, max(0.0, seconds) / output_tokens)
        self._is_good_news()

    def failed(self, now: float, failure: Failure, retry_after: float | None = None) -> None:
        """Tell of a failure; ``retry_after`` is what the provider says, in seconds from now."""
        wait = retry_after if failure is Failure.RATE_LIMITED else None
        self.health.fail(self, now, failure, wait)

    def ended(self) -> None:
        """Take it out of what is in flight, once; a probe that told nothing may be sent again."""
        if self._has_ended:
            return
        self._has_ended = True
        self.health.in_flight -= 1
        if self.is_probe:
            self.health.probe = None

    def _is_good_news(self) -> None:
        """Close, unless it was sent before the deployment tripped: that is yesterday's news."""
        if self.trips_before == self.health.trips:
            self.health.close()


class HealthBoard:
    """The health of every deployment that this process has used: so many, and no more."""

    def __init__(self, *, healths_max: int = HEALTHS_MAX) -> None:
        self._healths: dict[str, Health] = {}
        self._healths_max = healths_max

    def __len__(self) -> int:
        return len(self._healths)

    def of(self, id: str) -> Health:
        """Return the health of a deployment; one that is not known yet is healthy."""
        health = self._healths.get(id)
        if health is None:
            if len(self._healths) >= self._healths_max:
                del self._healths[next(iter(self._healths))]
            health = self._healths[id] = Health()
        return health

    def keep(self, ids: Collection[str]) -> None:
        """Forget every deployment but these: call it with each new catalogue."""
        kept = set(ids)
        for id in [id for id in self._healths if id not in kept]:
            del self._healths[id]


def _bounded(seconds: float) -> float:
    # A NaN is no number of seconds: it compares as false, and becomes the least.
    if not seconds >= COOL_DOWN_SECONDS_MIN:
        return COOL_DOWN_SECONDS_MIN
    return min(seconds, COOL_DOWN_SECONDS_MAX)
