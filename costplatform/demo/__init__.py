"""
Example data: months of believable spend, so that screens and reports can be tried.

What is made goes the way that real spend goes: holders through the services, requests priced from
the price book and written by the recorder. So every sum agrees, and ``verify-ledger`` says so.
Who spends is in ``people``, when in ``rhythm``, on what in ``workloads``.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, Protocol

from budgets import money
from budgets.changes import Origin, Source, acting
from budgets.models import Organization
from budgets.money import Units
from budgets.storekeeper import Entry
from costplatform.demo import limits, people, rhythm, writing
from costplatform.demo.limits import Standing
from costplatform.demo.people import Caller
from costplatform.demo.requests import Requests
from costplatform.demo.workloads import Offers, make_deployments

ACTOR: Final = "demo"
MARK: Final = "demo"
"""In an organization's metadata: which run made it."""
BATCH_EVENTS: Final = 2_000
MONTHS_MAX: Final = 24
EVENTS_MIN: Final = 100
EVENTS_MAX: Final = 1_000_000


class AlreadyFilled(Exception):
    """An earlier run, perhaps one that was interrupted, has filled this database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much is made; the same seed at the same time makes the same sums."""

    months: int = 3
    events: int = 60_000
    seed: int = 1
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a run has made."""

    organizations: tuple[Organization, ...]
    keys: int
    requests: int
    spent: Decimal
    currency: str
    since: datetime
    until: datetime
    standings: tuple[Standing, ...]


class Progress(Protocol):
    """Is told how far the work is."""

    def step(self, what: str) -> None:
        """Begin something else."""

    def advance(self, done: int, *, of: int) -> None:
        """Be so far with it."""


def run(*, options: Options, now: datetime, progress: Progress) -> Made:
    """
    Fill the database with example organizations and what they spent until ``now``.

    :raises AlreadyFilled: if that was done before, unless ``options.again``
    :raises workloads.NoPrice: if the price book lacks a model that is used
    """
    number = _next_run(again=options.again)
    since = rhythm.months_before(now, months=options.months)
    offers = Offers.from_price_book(since=since)
    with acting(ACTOR, origin=Origin(Source.COMMAND)):
        progress.step("Making deployments, organizations, teams, users and keys")
        make_deployments(offers)
        cast = people.make(number=number, mark=MARK, now=now)
        progress.step(f"Writing {options.events:,} requests since {since:%Y-%m-%d}")
        requests = _requests(options, number, cast.callers, offers, (since, now))
        units = _write(requests, events=options.events, now=now, progress=progress)
        progress.step("Setting limits by what was spent")
        standings = limits.set_all(wanted=cast.limits, now=now)
        writing.tell_store()
    currency = cast.organizations[0].currency
    return Made(
        organizations=cast.organizations,
        keys=len(cast.callers),
        requests=options.events,
        spent=money.to_decimal(units, currency=currency),
        currency=currency,
        since=since,
        until=now,
        standings=standings,
    )


def _next_run(*, again: bool) -> int:
    """
    Return the number of this run, from 1.

    :raises AlreadyFilled: if it is not the first, and that is not wished
    """
    earlier = Organization.objects.filter(metadata__has_key=MARK)
    runs = [int(number) for number in earlier.values_list(f"metadata__{MARK}", flat=True)]
    if runs and not again:
        raise AlreadyFilled
    return max(runs, default=0) + 1


def _requests(
    options: Options,
    number: int,
    callers: Sequence[Caller],
    offers: Offers,
    span: tuple[datetime, datetime],
) -> Iterator[list[Entry]]:
    """Yield the stream entries of each request, in the order of time."""
    arrivals = rhythm.arrivals(
        plans=[(caller.key.traffic, caller.zone) for caller in callers],
        span=span,
        count=options.events,
        # Predictable on purpose: the seed is an option.
        random=random.Random(f"{options.seed} arrivals"),  # noqa: S311
    )
    requests = Requests(offers=offers, seed=options.seed, run=number, until=span[1])
    return (requests.entries(callers[index], at=at) for index, at in arrivals)


def _write(
    requests: Iterator[list[Entry]], *, events: int, now: datetime, progress: Progress
) -> Units:
    """Write all requests in batches; return what they cost in the end."""
    late, units, done = list[Entry](), 0, 0
    while batch := list(itertools.islice(requests, BATCH_EVENTS)):
        # A true settle counts as late only if its orphan is in the ledger already.
        entries = [*late, *(each[0] for each in batch)]
        late = [entry for each in batch for entry in each[1:]]
        writing.record(entries, now=now)
        units += sum(each[-1].amount for each in batch)
        done += len(batch)
        progress.advance(done, of=events)
    if late:
        writing.record(late, now=now)
    return Units(units)
