"""
What the gateway counts of its requests. Labels are bounded: names of models are those of
deployments, never what a caller has made up.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import islice
from typing import Any, Final

from django.conf import settings
from prometheus_client import Counter, Gauge, Histogram

from budgets.metrics import REGISTRY, cut
from gateway.errors import GatewayError, InternalError, UpstreamFailed, UpstreamTimeout
from spend import events

OTHER: Final = "other"
ANSWERED, REFUSED, FAILED = "answered", "refused", "failed"
UPSTREAM_ERROR, CLIENT_CLOSED = "upstream_error", "client_closed"
UNREAD, SILENT, CROWDED = "unread", "silent", "crowded"
AWAY: Final = "away"
KEPT, FULL, TOO_LARGE, NOT_KEPT = "kept", "full", "too_large", "failed"
ERROR_STATUS_MIN: Final = 400
CLIENT_CLOSED_STATUS: Final = 499
"""As nginx counts it; nobody is there to be answered so."""
_OURS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_THEIRS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)

_REQUESTS: Final = Counter(
    "costplatform_requests", "Requests that have ended.",
    ("route", "model", "outcome", "status"), registry=REGISTRY,
)  # fmt: skip
_REFUSALS: Final = Counter(
    "costplatform_refusals", "Requests refused, or that a budget which only observes would refuse.",
    ("reason", "account_kind", "observed"), registry=REGISTRY,
)  # fmt: skip
_IN_FLIGHT: Final = Gauge(
    "costplatform_requests_in_flight", "Requests that have not ended; a stream ends settled.",
    registry=REGISTRY, multiprocess_mode="livesum",
)  # fmt: skip
_UNCONFIRMED: Final = Gauge(
    "costplatform_unconfirmed_events", "Events that gateways keep until the ledger has them.",
    registry=REGISTRY, multiprocess_mode="livesum",
)  # fmt: skip
_UNCHECKED: Final = Counter(
    "costplatform_unchecked_requests",
    "Requests that passed while the live store was away, as it is set to allow.",
    registry=REGISTRY,
)
_CONNECTIONS: Final = Gauge(
    "costplatform_connections", "Connections of clients to web processes.",
    registry=REGISTRY, multiprocess_mode="livesum",
)  # fmt: skip
_CUT: Final = Counter(
    "costplatform_connections_cut", "Connections that were ended without an answer.",
    ("reason",), registry=REGISTRY,
)  # fmt: skip
_ADMISSION: Final = Histogram(
    "costplatform_admission_seconds", "From a parsed request to its reservation.",
    registry=REGISTRY, buckets=_OURS,
)  # fmt: skip
_ADDED: Final = Histogram(
    "costplatform_gateway_added_seconds", "What the gateway adds to the time of its upstream.",
    registry=REGISTRY, buckets=_OURS,
)  # fmt: skip
_HEADERS: Final = Histogram(
    "costplatform_upstream_headers_seconds", "Until an upstream's headers came.",
    registry=REGISTRY, buckets=_THEIRS,
)  # fmt: skip

_LOOKED_UP: Final = Counter(
    "costplatform_cache_lookups", "Requests that the response cache was asked for.",
    ("result",), registry=REGISTRY,
)  # fmt: skip
_KEPT: Final = Counter(
    "costplatform_cache_stores", "Answers that were to be kept in the response cache.",
    ("result",), registry=REGISTRY,
)  # fmt: skip

_models: dict[str, str] = {}


class Flight:
    """
    A request from its arrival to its end, which is counted once.

    Tasks that are started for it find it in their context. ``deployed`` returns the names that
    its label may be.
    """

    __slots__ = ("_began", "_deployed", "_model", "_outcome", "_parsed", "_route", "_waited")

    def __init__(self, *, route: str, deployed: Callable[[], Mapping[str, object]]) -> None:
        self._began = self._parsed = time.perf_counter()
        self._deployed = deployed
        self._route = route
        self._model = ""
        self._outcome = ""
        self._waited = 0.0
        _current.set(self)
        _IN_FLIGHT.inc()

    def parsed(self, *, model: str) -> None:
        """Begin to measure the admission."""
        self._model = model
        self._parsed = time.perf_counter()

    def admitted(self) -> None:
        """Measure the admission that has just succeeded."""
        _ADMISSION.observe(time.perf_counter() - self._parsed)

    def waited(self, *, seconds: float) -> None:
        """Take off what was spent waiting for the upstream."""
        self._waited += seconds

    def failed(self, error: GatewayError) -> None:
        """Remember that the answer will be this error."""
        self._outcome = _outcome_of(error)

    def replied(self) -> None:
        """Measure what the gateway has added by the time the answer, or its head, goes out."""
        if self._waited:
            _ADDED.observe(time.perf_counter() - self._began - self._waited)

    def left(self) -> None:
        """Count a request whose caller went away before there was an answer."""
        self._outcome = CLIENT_CLOSED
        self.ended(status=CLIENT_CLOSED_STATUS)

    def ended(self, *, status: int) -> None:
        """Count a request that was answered whole."""
        answered = UPSTREAM_ERROR if status >= ERROR_STATUS_MIN else ANSWERED
        model = _label_of(self._model, self._deployed())
        _requests(self._route, model, self._outcome or answered, status // 100).inc()
        _IN_FLIGHT.dec()

    def stream_ended(self, flags: Collection[str]) -> None:
        """Count a streamed request by what its event says of it."""
        if events.CLIENT_CLOSED in flags:
            self._outcome = CLIENT_CLOSED
        elif events.UPSTREAM_ERROR in flags:
            self._outcome = UPSTREAM_ERROR
        self.ended(status=200)


_current: ContextVar[Flight | None] = ContextVar("flight", default=None)
"""The request that is being served."""


def refused(error: GatewayError) -> None:
    """Count a refusal by its code and the account that refused; what upstreams did is none."""
    if _outcome_of(error) == REFUSED:
        details = error.details()
        account = details.get("budget", {}).get("account", {})
        _refusals(details.get("code", error.code), account.get("kind", ""), observed=False).inc()


def would_have_refused(*, reason: str, account_kind: str) -> None:
    """Count what a budget that only observes would have refused."""
    _refusals(reason, account_kind, observed=True).inc()


def passed_unchecked() -> None:
    """Count a request that the live store could not be asked about."""
    _UNCHECKED.inc()


def unconfirmed(*, count: int) -> None:
    """Tell how many events this process keeps for the ledger."""
    _UNCONFIRMED.set(count)


def connections(*, count: int) -> None:
    """Tell how many clients this process is connected to."""
    _CONNECTIONS.set(count)


def connection_cut(reason: str) -> None:
    """Count a connection that was ended without an answer."""
    _CUT.labels(reason).inc()


def cache_looked_up(result: str) -> None:
    """Count a request by what the response cache had for it."""
    _LOOKED_UP.labels(result).inc()


def cache_kept(result: str) -> None:
    """Count an answer by whether the response cache keeps it."""
    _KEPT.labels(result).inc()


@contextmanager
def waiting_for_upstream() -> Iterator[None]:
    """Take what is done inside for the upstream's time, not the gateway's."""
    began = time.perf_counter()
    try:
        yield
    finally:
        if (flight := _current.get()) is not None:
            flight.waited(seconds=time.perf_counter() - began)


def headers_waited_for(seconds: float, *, came: bool) -> None:
    """Measure how long an upstream's headers took, and take that off the gateway's time."""
    if (flight := _current.get()) is not None:
        flight.waited(seconds=seconds)
    if came:
        _HEADERS.observe(seconds)


def _outcome_of(error: GatewayError) -> str:
    if isinstance(error, UpstreamFailed | UpstreamTimeout):
        return UPSTREAM_ERROR
    return FAILED if isinstance(error, InternalError) else REFUSED


def _label_of(model: str, deployed: Mapping[str, object]) -> str:
    """
    Return the name of a model as a label.

    The oldest deployments have theirs in every process, and no process ever has more than so many.
    """
    if model not in deployed:
        return OTHER
    label = _models.get(model)
    if label is None and len(_models) < settings.METRICS_MODELS_MAX:
        if model not in islice(deployed, settings.METRICS_MODELS_MAX):
            return OTHER
        label = _models[model] = cut(model)
    return label or OTHER


# Kept, because finding a child by its labels costs more than counting in it.
@cache
def _requests(route: str, model: str, outcome: str, hundreds: int) -> Any:
    return _REQUESTS.labels(route, model, outcome, f"{hundreds}xx")


@cache
def _refusals(reason: str, account_kind: str, *, observed: bool) -> Any:
    return _REFUSALS.labels(reason, account_kind, "yes" if observed else "no")
