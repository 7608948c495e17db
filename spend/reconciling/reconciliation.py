"""
Providers' invoices against the ledger, by UTC day, model and, where it is mapped, key.

Models are compared by the names that the price book has for them, so that ``gpt-4o`` and
``gpt-4o-2024-08-06`` are one. Days are those on which requests were admitted. The ledger's costs
are those at list prices, since no provider knows of our discounts and margins.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

from django.conf import settings

from spend import list_costs
from spend.invoices import differences
from spend.invoices.differences import Cause, Cell, Explained, Place, Side
from spend.invoices.lines import Invoice, Line
from spend.list_costs import Group
from spend.models import InvoiceImport, InvoiceState, ProviderKey, SpendEvent
from spend.queries import models_named

_DATED: Final = re.compile(r"(.+?)[-@]([0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2})")
_ONE_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    An invoice beside the ledger; without a currency it is of tokens.

    ``other_currencies`` are those in which the ledger has more spend at the provider, which is not
    compared; ``unmapped_keys`` are keys of the provider that nobody has mapped; ``unlisted`` is of
    how many requests nobody can tell the list price, so that they are compared as if they had cost
    nothing.
    """

    provider: str
    currency: str
    first_day: date
    last_day: date
    rows: tuple[Explained, ...]
    other_currencies: tuple[str, ...]
    unmapped_keys: tuple[str, ...]
    unlisted: int

    @property
    def theirs(self) -> Decimal:
        return differences.total(differences.amount_of(row.cell.theirs) for row in self.rows)

    @property
    def ours(self) -> Decimal:
        return differences.total(differences.amount_of(row.cell.ours) for row in self.rows)

    @property
    def difference(self) -> Decimal:
        return differences.total(row.cell.difference for row in self.rows)

    @property
    def by_cause(self) -> dict[Cause, Decimal]:
        return differences.sums_by_cause(self.rows)

    @property
    def drift(self) -> Decimal:
        return differences.drift_of(self.rows)

    @property
    def drift_percent(self) -> Decimal | None:
        return differences.percent_of(self.drift, self.theirs)

    @property
    def state(self) -> InvoiceState:
        drifts = differences.is_drifting(
            self.drift, self.theirs, percent_max=settings.INVOICE_DRIFT_PERCENT_MAX
        )
        return InvoiceState.DRIFTING if drifts else InvoiceState.MATCHING


def compare(*, provider: str, invoice: Invoice) -> Comparison:
    """Compare what a file says with the ledger as it is now."""
    keys = _mapped(provider, invoice.lines)
    groups = list_costs.groups(
        provider=provider, start=_midnight(invoice.first_day),
        end=_midnight(invoice.last_day + _ONE_DAY), with_keys=bool(keys),
    )  # fmt: skip
    compared = [group for group in groups if invoice.currency in {"", group.cost_currency}]
    by_model = any(line.model for line in invoice.lines)
    names = _names(provider, invoice.lines, compared) if by_model else {}
    theirs = _theirs(invoice, names, keys)
    ours = _ours(invoice, names, keys, compared)
    return Comparison(
        provider=provider,
        currency=invoice.currency,
        first_day=invoice.first_day,
        last_day=invoice.last_day,
        rows=tuple(differences.explain(_cells(theirs, ours))),
        other_currencies=_other_currencies(groups, compared),
        unmapped_keys=tuple(sorted({line.key for line in invoice.lines} - {"", *keys})),
        unlisted=sum(group.unlisted for group in compared) if invoice.currency else 0,
    )


def compare_import(imported: InvoiceImport) -> Comparison:
    """Compare an imported invoice with the ledger as it is now."""
    lines = tuple(
        Line(**row) for row in imported.details.order_by("number").values(*Line.__slots__)
    )
    invoice = Invoice(imported.currency, lines, imported.first_day, imported.last_day)
    return compare(provider=imported.provider, invoice=invoice)


def has_spend(*, provider: str, first_day: date, last_day: date) -> bool:
    rows = SpendEvent.objects.filter(
        provider=provider,
        admitted_at__gte=_midnight(first_day),
        admitted_at__lt=_midnight(last_day + _ONE_DAY),
    )
    return rows.exists()


# --- Theirs --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Theirs:
    """What the lines of a place add up to; ``repeated`` are lines whose id came before."""

    lines: list[Line]
    repeated: list[Line]


def _theirs(
    invoice: Invoice, names: Mapping[str, str], keys: Mapping[str, ProviderKey]
) -> dict[Place, Cell]:
    seen: set[str] = set()
    found: dict[Place, _Theirs] = defaultdict(lambda: _Theirs([], []))
    for line in invoice.lines:
        key = line.key if line.key in keys else ""
        place = Place(line.day, names.get(line.model, ""), key)
        is_repeated = line.external_id in seen
        (found[place].repeated if is_repeated else found[place].lines).append(line)
        seen |= {line.external_id} - {""}
    return {place: _cell(place, each, invoice.currency) for place, each in found.items()}


def _cell(place: Place, found: _Theirs, currency: str) -> Cell:
    repeated = differences.total(_measured(line, currency) for line in found.repeated)
    once = differences.total(_measured(line, currency) for line in found.lines)
    off = (differences.rounding_of(line.decimals) for line in found.lines if currency)
    return Cell(
        place=place,
        theirs=Side(
            amount=differences.total([once, repeated]),
            tokens=_tokens(found.lines),
            requests=_sum_or_none([line.requests for line in found.lines]),
        ),
        ours=None,
        repeated=repeated,
        tolerance=differences.total(off),
    )


def _measured(line: Line, currency: str) -> Decimal:
    """Return what is compared of a line: its money, or where there is none its tokens."""
    if currency:
        assert line.amount is not None, "a file of money has an amount in each line"
        return line.amount
    return Decimal((line.input_tokens or 0) + (line.output_tokens or 0))


def _tokens(lines: Sequence[Line]) -> tuple[int, int] | None:
    """Return the tokens of all lines, or None if one of them tells none."""
    input_tokens = _sum_or_none([line.input_tokens for line in lines])
    output_tokens = _sum_or_none([line.output_tokens for line in lines])
    return None if input_tokens is None or output_tokens is None else (input_tokens, output_tokens)


def _sum_or_none(counts: Sequence[int | None]) -> int | None:
    told = [count for count in counts if count is not None]
    return sum(told) if len(told) == len(counts) else None


# --- Ours ----------------------------------------------------------------------------------


def _other_currencies(groups: Iterable[Group], compared: Iterable[Group]) -> tuple[str, ...]:
    others = {group.cost_currency for group in groups} - {each.cost_currency for each in compared}
    return tuple(sorted(others))


def _ours(
    invoice: Invoice,
    names: Mapping[str, str],
    keys: Mapping[str, ProviderKey],
    groups: Iterable[Group],
) -> dict[Place, Side]:
    found: dict[Place, Side] = {}
    for group in groups:
        name = names.get(group.upstream_model, "")
        place = Place(group.day, name, _key_of(group, keys))
        found[place] = _added(found.get(place), group, invoice.currency)
    return found


def _added(side: Side | None, group: Group, currency: str) -> Side:
    before = side or Side(tokens=(0, 0), requests=0)
    read, written = group.input_tokens, group.output_tokens
    tokens = before.tokens or (0, 0)
    return Side(
        amount=differences.total(
            [before.amount, group.cost if currency else Decimal(read + written)]
        ),
        tokens=(tokens[0] + read, tokens[1] + written),
        requests=(before.requests or 0) + group.requests,
    )


def _cells(theirs: Mapping[Place, Cell], ours: Mapping[Place, Side]) -> Iterable[Cell]:
    for place in theirs.keys() | ours.keys():
        cell = theirs.get(place) or Cell(place, None, None)
        side = ours.get(place)
        if place in theirs or (side and (side.amount or side.tokens != (0, 0))):
            yield Cell(place, cell.theirs, side, cell.repeated, cell.tolerance)


# --- Names and keys ------------------------------------------------------------------------


def _names(provider: str, lines: Iterable[Line], groups: Iterable[Group]) -> dict[str, str]:
    """Return the price book's name of each model, else its name without a date at the end."""
    names = {line.model for line in lines} | {group.upstream_model for group in groups}
    undated = {name: _undated(name) for name in names}
    asked = names | set(undated.values())
    known = models_named((provider, name) for name in asked)
    return {
        name: model.name if model else undated[name]
        for name in names
        for model in [known.get((provider, name)) or known.get((provider, undated[name]))]
    }


def _undated(name: str) -> str:
    dated = _DATED.fullmatch(name)
    return dated[1] if dated else name


def _mapped(provider: str, lines: Iterable[Line]) -> dict[str, ProviderKey]:
    """Return what is mapped of the keys that the lines name."""
    named = {line.key for line in lines} - {""}
    rows = ProviderKey.objects.filter(provider=provider, external_id__in=named)
    return {row.external_id: row for row in rows.order_by("pk")} if named else {}


def _key_of(group: Group, keys: Mapping[str, ProviderKey]) -> str:
    """Return the provider's key of requests: by the virtual key, else by the deployment."""
    for name, key in keys.items():
        if group.key_digest in key.key_digests:
            return name
    for name, key in keys.items():
        if group.deployment in key.deployments:
            return name
    return ""


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
