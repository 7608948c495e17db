"""One request as the gateway would have settled it: usage, exact cost, flags, path."""

import random
import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from budgets import money, periods
from budgets.contexts import PathAccount
from budgets.models import AccountKind, derived_account_id
from budgets.storekeeper import Entry
from costplatform.demo.people import Caller
from costplatform.demo.workloads import UPSTREAMS, Offers, Upstream, Workload, around
from gateway.routes import CHAT
from spend import events, pricing, usage
from spend.components import Component, Usage
from spend.events import Described, Outcome
from spend.models import EventKind
from spend.rates import Price

PLAIN, ORPHAN, FAILED, ESTIMATED, CLIENT_GONE, OVER_CEILING = (
    "plain", "orphan", "failed", "estimated", "client gone", "over ceiling",
)  # fmt: skip
FATES: Final = {
    PLAIN: 9_700, ORPHAN: 20, FAILED: 120, ESTIMATED: 60, CLIENT_GONE: 80, OVER_CEILING: 20,
}  # fmt: skip
"""What becomes of requests, in ten thousand."""
TRUE_SETTLES_OF_ORPHANS: Final = 0.3
"""How often the answer of a reservation that was given up came after all."""
BYTES_PER_TOKEN: Final = 4
OUTPUT_TOKENS_MAX: Final = 4_000
TOKENS_PER_SECOND: Final = 60
RESERVED_SECONDS: Final = 670
FAILURES: Final = (429, 500, 503)
OK: Final = 200
NOT_IN_THE_STREAM: Final = "0-0"
# UUID version 7 (RFC 9562, section 5.7) of a time that is not now.
_VERSION_7: Final = 7 << 76
_VARIANT: Final = 0b10 << 62


class Requests:
    """Makes requests from the price book and a seed; all of one seed are the same but for ids."""

    def __init__(self, *, offers: Offers, seed: int, run: int, until: datetime) -> None:
        self._offers = offers
        self._random = random.Random(f"{seed} requests")  # noqa: S311  # predictable on purpose
        self._ids = random.Random(f"{seed} ids of run {run}")  # noqa: S311  # as above
        self._until = until

    def entries(self, caller: Caller, *, at: datetime) -> list[Entry]:
        """Return the entry that settles a request; after an orphan, perhaps the true one too."""
        workload, draw = caller.key.workload, self._random
        name = workload.draw_model(draw)
        price = self._offers.by_name[name].price_at(at)
        assert price is not None, "prices were checked for the first day, and none is taken back"
        fate = draw.choices(list(FATES), weights=list(FATES.values()))[0]
        used = _usage(workload, UPSTREAMS[name], draw, overshoots=fate == OVER_CEILING)
        ceiling = _ceiling(price, used)
        labels = _labels(workload, draw)
        described = _described(caller, name, price, ceiling, labels, draw)
        outcomes = self._outcomes(fate, used, price, ceiling, at)
        id = self._new_id(at)
        path = _path(caller, labels)
        return [
            Entry(
                position=NOT_IN_THE_STREAM,
                id=str(id),
                amount=money.to_units(outcome.cost, currency=caller.snapshot.currency),
                admitted_at=at,
                path=path,
                kind=kind,
                payload=events.encode(described, outcome),
            )
            for kind, outcome in outcomes
        ]

    def _outcomes(
        self, fate: str, used: Usage, price: Price, ceiling: Decimal, at: datetime
    ) -> list[tuple[str, Outcome]]:
        answered = timedelta(seconds=1 + events.output_tokens(used) / TOKENS_PER_SECOND)
        settled_at = min(at + answered, self._until)
        true = (EventKind.USAGE.value, _settled(fate, used, price, ceiling, settled_at))
        if fate == FAILED:
            status = self._random.choice(FAILURES)
            return [(EventKind.USAGE.value, _failed(status, settled_at))]
        if fate != ORPHAN:
            return [true]
        swept_at = min(at + timedelta(seconds=RESERVED_SECONDS), self._until)
        orphan = Outcome(status=0, cost=ceiling, usage={}, settled_at=swept_at)
        came_late = self._random.random() < TRUE_SETTLES_OF_ORPHANS
        return [(EventKind.ORPHAN.value, orphan), *([true] if came_late else [])]

    def _new_id(self, at: datetime) -> uuid.UUID:
        noise = self._ids.getrandbits(74)
        high, low = noise >> 62, noise & (1 << 62) - 1
        return uuid.UUID(
            int=periods.milliseconds(at) << 80 | _VERSION_7 | high << 64 | _VARIANT | low
        )


def _usage(
    workload: Workload, upstream: Upstream, draw: random.Random, *, overshoots: bool
) -> Usage:
    """Return what was used, in classes that add up as a provider's do."""
    prompt = around(workload.prompt_tokens, draw)
    cached = round(prompt * workload.cached_share * draw.random())
    answer = min(around(workload.answer_tokens, draw), OUTPUT_TOKENS_MAX)
    if overshoots:
        # So much that it costs more than the prompt's bytes and the asked maximum together.
        answer = OUTPUT_TOKENS_MAX + BYTES_PER_TOKEN * prompt
    share = workload.reasoning_share if upstream.reasons else 0
    reasoning = round(answer * share * draw.random())
    counted = {
        Component.INPUT: prompt - cached,
        Component.CACHED_READ: cached,
        Component.OUTPUT: answer - reasoning,
        Component.REASONING: reasoning,
        Component.REQUEST: 1,
    }
    return {component: n for component, n in counted.items() if n}


def _ceiling(price: Price, used: Usage) -> Decimal:
    return pricing.ceiling(
        price=price,
        input_tokens_max=BYTES_PER_TOKEN * events.input_tokens(used),
        output_tokens_max=OUTPUT_TOKENS_MAX,
    )


def _settled(
    fate: str, used: Usage, price: Price, ceiling: Decimal, settled_at: datetime
) -> Outcome:
    flags = []
    if fate in {ESTIMATED, CLIENT_GONE}:
        flags.append(events.ESTIMATED)
        used = usage.estimated(
            input_tokens=events.input_tokens(used), output_tokens=events.output_tokens(used)
        )
    if fate == CLIENT_GONE:
        flags.append(events.CLIENT_CLOSED)
    cost = pricing.cost(price=price, usage=used)
    if cost.amount > ceiling:
        flags.append(events.OVER_CEILING)
    return Outcome(
        status=OK,
        cost=cost.amount,
        usage=used,
        lines=cost.lines,
        flags=tuple(sorted(flags)),
        settled_at=settled_at,
    )


def _failed(status: int, settled_at: datetime) -> Outcome:
    return Outcome(
        status=status,
        cost=Decimal(0),
        usage={},
        flags=(events.UPSTREAM_ERROR,),
        settled_at=settled_at,
    )


Labels = tuple[str, tuple[str, ...]]


def _labels(workload: Workload, draw: random.Random) -> Labels:
    """Return end user and tags; the first customers are the busiest."""
    if not workload.end_users:
        return "", workload.tags
    number = int(workload.end_users * draw.random() ** 2) + 1
    return f"customer-{number:04d}", workload.tags


def _path(caller: Caller, labels: Labels) -> tuple[uuid.UUID, ...]:
    """Return the accounts in the order in which the gateway names them."""
    end_user, tags = labels
    named = [(AccountKind.TAG, tag) for tag in tags]
    if end_user:
        named.insert(0, (AccountKind.END_USER, end_user))
    organization = caller.snapshot.organization_id
    derived = tuple(
        derived_account_id(organization_id=organization, kind=kind, text=text)
        for kind, text in named
    )
    known: tuple[PathAccount, ...] = caller.snapshot.path
    return tuple(account.id for account in known) + derived


def _described(
    caller: Caller, name: str, price: Price, ceiling: Decimal, labels: Labels,
    draw: random.Random,
) -> Described:  # fmt: skip
    snapshot, upstream = caller.snapshot, UPSTREAMS[name]
    return Described(
        organization_id=snapshot.organization_id,
        currency=snapshot.currency,
        key_digest=snapshot.digest,
        team=snapshot.team_public_id,
        user=snapshot.user_public_id,
        end_user=labels[0],
        tags=labels[1],
        route=CHAT.path,
        model=name,
        provider=upstream.provider,
        upstream_model=upstream.model,
        deployment=upstream.deployment,
        price_reference=price.reference,
        cost_currency=price.currency,
        streamed=draw.random() < caller.key.workload.streamed_share,
        reserved_units=money.ceiling_to_units(ceiling, currency=snapshot.currency),
    )
