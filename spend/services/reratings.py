"""Re-ratings: what may be re-rated, who wanted it and why, and that one run of each is at work."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Final

from django.db import connection

from budgets.errors import InvalidInput
from spend import pricebook, rerating
from spend.models import Model, Provider, Rerating, UnpricedModel
from spend.rerating import Clock, Preview, Progress, Scope

DAYS_MAX: Final = 400
REASON_LENGTH_MAX: Final = 500
AT_ONCE_REQUESTS_MAX: Final = 2_000
"""So many are re-rated while somebody waits for the answer; more are left to the worker."""
CLOCKS_DIFFER_MAX: Final = timedelta(minutes=1)
NEAREST_NAMES: Final = 3
_LOCK_NAMESPACE: Final = 0x72657261


class AlreadyRunning(Exception):
    """Another process is at work on this re-rating."""


def preview(*, scope: Scope, now: datetime) -> Preview:
    """
    Return what re-rating these requests would change; nothing is written.

    :raises InvalidInput: naming what does not fit, also where they are too many to look at
    """
    check(scope=scope, now=now)
    try:
        return rerating.preview(scope)
    except rerating.TooManyRequests as error:
        most = rerating.PREVIEW_REQUESTS_MAX
        raise InvalidInput(
            "end", f"leaves more than {most:,} requests, which is too many to preview at once"
        ) from error


def start(*, scope: Scope, by: str, reason: str, now: datetime) -> Rerating:
    """
    Note that these requests are to be re-rated, for :func:`run` to do it.

    :raises InvalidInput: naming what does not fit
    """
    check(scope=scope, now=now)
    return Rerating.objects.create(
        provider=scope.provider,
        upstream_model=scope.upstream_model,
        organization_id=scope.organization_id,
        start=scope.start,
        end=scope.end,
        reason=_checked_reason(reason),
        requested_by=by,
        created_at=now,
    )


def run(*, rerating_id: int, clock: Clock, progress: Progress = lambda rerating: None) -> Rerating:
    """
    Apply a re-rating to its end; one that has ended is left as it is.

    :raises AlreadyRunning: if another process is at work on it
    """
    with _alone(rerating_id):
        found = Rerating.objects.get(pk=rerating_id)
        if found.finished_at is not None:
            return found
        return rerating.apply(found, clock=clock, progress=progress)


def is_small(asked: Rerating) -> bool:
    """Return whether it can be done while somebody waits for the answer."""
    most = AT_ONCE_REQUESTS_MAX
    return rerating.count(rerating.scope_of(asked), most=most + 1) <= most


def unfinished() -> Sequence[int]:
    """Return the re-ratings that have not ended, the oldest first."""
    waiting = Rerating.objects.filter(finished_at=None).order_by("pk")
    return list(waiting.values_list("pk", flat=True))


def check(*, scope: Scope, now: datetime) -> None:
    """
    Do nothing if these requests may be re-rated.

    :raises InvalidInput: naming what does not fit
    """
    if scope.start >= scope.end:
        raise InvalidInput("end", "must be after the start")
    if scope.end - scope.start > timedelta(days=DAYS_MAX):
        raise InvalidInput("end", f"must be within {DAYS_MAX} days of the start")
    if scope.end > now + CLOCKS_DIFFER_MAX:
        raise InvalidInput("end", "must not be in the future: what is to come has its price then")
    _check_known(scope)


def _checked_reason(reason: str) -> str:
    text = reason.strip()
    if not text:
        raise InvalidInput("reason", "is needed: it stands beside every row that is added")
    if len(text) > REASON_LENGTH_MAX:
        raise InvalidInput("reason", f"must not have more than {REASON_LENGTH_MAX} characters")
    if "\x00" in text:
        raise InvalidInput("reason", "must not hold NUL characters")
    return text


def _check_known(scope: Scope) -> None:
    """Refuse what neither price book nor queue nor ledger knows: it is a slip of the pen."""
    provider, model = scope.provider, scope.upstream_model
    if pricebook.find_model(provider=provider, name=model) or _is_charged(scope):
        return
    providers = {*Provider.objects.values_list("slug", flat=True), *_queued("provider")}
    if provider not in providers:
        raise InvalidInput("provider", f"is unknown{_nearest(provider, providers)}")
    models = Model.objects.filter(provider__slug=provider).values_list("name", flat=True)
    names = {*models, *_queued("upstream_model", provider=provider)}
    if model not in names:
        raise InvalidInput("model", f"is unknown at {provider}{_nearest(model, names)}")


def _is_charged(scope: Scope) -> bool:
    """Return whether the ledger has a request of anybody's there."""
    return rerating.count(replace(scope, organization_id=None), most=1) > 0


def _queued(name: str, **of: str) -> Iterable[str]:
    return UnpricedModel.objects.filter(**of).values_list(name, flat=True)


def _nearest(text: str, known: Iterable[str]) -> str:
    near = get_close_matches(text, sorted(known), n=NEAREST_NAMES)
    return f"; nearest: {', '.join(near)}" if near else ""


@contextmanager
def _alone(rerating_id: int) -> Iterator[None]:
    """Hold the lock of one re-rating, until the connection ends at the latest."""
    lock = [_LOCK_NAMESPACE, rerating_id]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", lock)
        if cursor.fetchone() != (True,):
            raise AlreadyRunning
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", lock)
