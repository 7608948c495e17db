"""Adds up what the lines of a batch's output have used, each priced by itself, and for once."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import orjson

from budgets.money import EXACT
from gateway.routes.answers import Answers
from gateway.written import Written
from spend import events, pricing, usage
from spend.components import Component
from spend.counting import tokens
from spend.events import Outcome
from spend.pricing import Line
from spend.rates import BATCH, Conditions, Price
from spend.usage import Reading, openai_batch

ERROR_STATUS_MIN: Final = 400
LINE_ITEMS_MAX: Final = 1_000
"""Of different classes and rates; a price has some dozens."""


@dataclass(slots=True)
class BatchMeter:
    """What is known so far of a batch that has ended."""

    price: Price
    ceiling: Decimal
    region: str
    answers: Answers
    bytes_in: int
    """Of a line of the input on average: what is counted where a line tells no usage."""
    answered: int = 0
    failed: int = 0
    amount: Decimal = Decimal(0)
    flags: set[str] = field(default_factory=set)
    _used: Counter[Component] = field(default_factory=Counter)
    _lines: dict[tuple[Component, Decimal], Line] = field(default_factory=dict)

    def add(self, raw: bytes) -> None:
        """Take a line of the output; one that tells of an error costs nothing."""
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError:
            line = None
        if not isinstance(line, dict):
            self._estimate(output_tokens=tokens.of_bytes(len(raw)))
            return
        if _tells_error(line):
            self.failed += 1
            return
        reading = openai_batch.read(line)
        if reading is not None:
            self.add_reading(reading)
            return
        written = Written()
        self.answers.note(_body(line), written)
        self._estimate(output_tokens=written.by_bytes())

    def add_unread(self, size: int) -> None:
        """Take a line that is too long to be read: its bytes count."""
        self._estimate(output_tokens=tokens.of_bytes(size))

    def add_reading(self, reading: Reading) -> None:
        """Take what one line has told, or the batch as a whole."""
        self.flags |= {events.USAGE_CLAMPED} if reading.was_clamped else set()
        self._charge(reading.usage, Conditions(BATCH, reading.variant, self._where(reading)))

    def _estimate(self, *, output_tokens: int) -> None:
        self.flags.add(events.ESTIMATED)
        seen = usage.estimated(
            input_tokens=tokens.of_bytes(self.bytes_in), output_tokens=output_tokens
        )
        self._charge(seen, Conditions(BATCH, region=self.region))

    def _charge(self, used: Mapping[Component, int], conditions: Conditions) -> None:
        cost = pricing.cost(price=self.price, usage=used, conditions=conditions)
        self.answered += 1
        self.flags |= {events.UNPRICED} if cost.unpriced or not self.price.is_set else set()
        self.amount = EXACT.add(self.amount, cost.amount)
        self._used.update(used)
        for line in cost.lines:
            self._add_line(line)

    def _add_line(self, line: Line) -> None:
        at = (line.component, line.rate)
        known = self._lines.get(at)
        if known is not None:
            quantity = known.quantity + line.quantity
            line = line._replace(quantity=quantity, amount=EXACT.add(known.amount, line.amount))
        elif len(self._lines) >= LINE_ITEMS_MAX:
            return  # it counts in the amount all the same
        self._lines[at] = line

    def _where(self, reading: Reading) -> str:
        return reading.region or self.region

    def outcome(self, *, settled_at: datetime, flags: tuple[str, ...] = ()) -> Outcome:
        """Return what the batch has cost: the exact sum of what its lines cost."""
        over = {events.OVER_CEILING} if self.amount > self.ceiling else set()
        return Outcome(
            status=200,
            cost=self.amount,
            usage=dict(self._used),
            lines=tuple(self._lines.values()),
            flags=tuple(sorted({*self.flags, *flags, *over})),
            settled_at=settled_at,
            conditions=Conditions(BATCH, region=self.region),
        )


def _tells_error(line: Mapping[str, Any]) -> bool:
    if line.get("error") is not None:
        return True
    response = line.get("response")
    status = response.get("status_code") if isinstance(response, dict) else None
    return isinstance(status, int) and status >= ERROR_STATUS_MIN


def _body(line: Mapping[str, Any]) -> Mapping[str, Any]:
    response = line.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    return body if isinstance(body, dict) else {}
