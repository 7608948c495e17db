"""Reads the usage out of an answer as it passes, and says what the answer cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import orjson

from gateway.routes import CHAT
from gateway.routes.answers import Answers, StreamUsage
from gateway.written import Written
from spend import events, pricing, usage
from spend.components import Component, Usage
from spend.counting import tokens
from spend.events import Outcome
from spend.rates import Conditions, Price
from spend.usage import Reading

DONE = b"[DONE]"
UNREAD_BYTES_MAX = 2**18
"""Of an answer; what is more is read at once."""


@dataclass(slots=True)
class Meter:
    """What is known so far of one answer."""

    price: Price
    ceiling: Decimal
    model: str
    """The upstream's name of it, which says how its tokens are counted."""
    prompt: Mapping[str, object]
    prompt_bytes: int
    answers: Answers = CHAT.answers
    assumed: Usage = field(default_factory=dict)
    """What is taken to be used beside tokens where the answer does not tell."""
    status: int = 0
    written: Written = field(default_factory=Written)
    region: str = ""
    """Where the deployment serves; an answer may know better."""
    asked_tier: str | None = None
    served_tier: str | None = None
    is_done: bool = False
    is_whole: bool = False
    """The answer came to its end, so that its usage is all of it."""
    flags: set[str] = field(default_factory=set)
    _seen: Usage | None = None
    _has_begun: bool = False
    _unread: list[bytes] = field(default_factory=list)
    _unread_bytes: int = 0
    _told: StreamUsage | None = None
    _reading: Reading | None = None

    @property
    def reading(self) -> Reading | None:
        """What the answer has told of its usage so far."""
        if self._reading is None and self._told is not None:
            self._reading = self._told.reading()
        return self._reading

    def read_reply(self, body: bytes) -> None:
        """Read a whole answer."""
        try:
            reply = orjson.loads(body)
        except orjson.JSONDecodeError:
            reply = None
        if not isinstance(reply, dict):
            self._reading = self.answers.read_opaque(
                body, request=self.prompt, written=self.written
            )
            self.is_whole = self._reading is not None
            return
        self.is_whole = True
        self._note_tier(reply)
        self._reading = self.answers.read(reply, request=self.prompt)
        if self.must_count:
            self.answers.note(reply, self.written)

    def read_event(self, data: bytes) -> bool:
        """Read one event of a stream; return whether it carries usage and nothing else."""
        if data == DONE:
            self.is_done = self.is_whole = True
            return False
        if self._has_begun and self._told is None and self.answers.is_content(data):
            self._keep(data)
            return False
        self._has_begun = True
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            self.written.add_unread(data)
            return False
        if not isinstance(event, dict):
            return False
        told = self.answers.note_event(event, self.written)
        self._note_tier(event)
        if told.tells_usage:
            self._told = self._told or self.answers.stream(self.prompt)
            self._told.add(event)
            self._reading = None
        if told.is_whole is not None:
            self.is_whole = told.is_whole
        self.is_done = self.is_done or told.is_last
        return told.only_usage

    def end_opaque(self) -> None:
        """Take the end of an answer that was passed on as it came, and is no JSON."""
        self._reading = self.answers.read_opaque(b"", request=self.prompt, written=self.written)
        self.is_whole = self._reading is not None

    @property
    def must_count(self) -> bool:
        """Whether the answer's own usage is not all of it, or missing."""
        return self.reading is None or not self.is_whole

    def _keep(self, data: bytes) -> None:
        """Keep a piece of the answer unread: most answers tell their usage in the end."""
        self._unread.append(data)
        self._unread_bytes += len(data)
        if self._unread_bytes > UNREAD_BYTES_MAX:
            self._read_kept()

    def _read_kept(self) -> None:
        unread, self._unread, self._unread_bytes = self._unread, [], 0
        for data in unread:
            try:
                event = orjson.loads(data)
            except orjson.JSONDecodeError:
                self.written.add_unread(data)
                continue
            if isinstance(event, dict):
                self.answers.note_event(event, self.written)

    async def count(self) -> None:
        """Count the tokens of the prompt and of what was seen of the answer."""
        self._read_kept()
        self._seen = usage.estimated(
            input_tokens=await tokens.aside(
                count=self._count_prompt,
                chars=self.prompt_bytes,
                model=self.model,
                otherwise=tokens.of_bytes(self.prompt_bytes),
            ),
            output_tokens=await tokens.aside(
                count=lambda: self.written.count(model=self.model),
                chars=self.written.chars_at_most(),
                model=self.model,
                otherwise=self.written.by_bytes(),
            ),
        )

    def _count_prompt(self) -> int:
        return self.answers.count_prompt(self.prompt, model=self.model)

    def outcome(self, *, settled_at: datetime) -> Outcome:
        """
        Return what the answer cost: by its usage, else by our own count, flagged; by its bytes
        where nobody has counted.
        """
        flags = set(self.flags)
        counted = self._counted(flags)
        conditions = self._conditions(flags)
        cost = pricing.cost(price=self.price, usage=counted, conditions=conditions)
        flags |= {events.UNPRICED} if cost.unpriced else self._unset()
        flags |= {events.OVER_CEILING} if cost.amount > self.ceiling else set()
        return Outcome(
            status=self.status,
            cost=cost.amount,
            usage=counted,
            lines=cost.lines,
            flags=tuple(sorted(flags)),
            settled_at=settled_at,
            conditions=conditions,
        )

    def unseen(self, *, held: Decimal, settled_at: datetime) -> Outcome:
        """
        Return the outcome of a request that was sent and of whose answer nothing was seen: it may
        have been billed, so what it ``held`` counts, as that of an orphan does.
        """
        return Outcome(
            status=self.status, cost=held, usage={}, settled_at=settled_at,
            flags=tuple(sorted({*self.flags, events.ESTIMATED, *self._unset()})),
        )  # fmt: skip

    def _unset(self) -> set[str]:
        return set() if self.price.is_set else {events.UNPRICED}

    def _conditions(self, flags: set[str]) -> Conditions:
        """Return what decides the price beside the counts, flagged where it has no rate."""
        told = self.reading
        served = self.served_tier or (told.service_tier if told else None)
        tier, is_priced = self.price.tier_of(served=served, asked=self.asked_tier)
        if not is_priced:
            flags.add(events.TIER_UNPRICED)
        if told is None:
            return Conditions(tier, region=self.region)
        return Conditions(tier, told.variant, told.region or self.region)

    def _counted(self, flags: set[str]) -> Usage:
        """Return what was used: as told at the end, else the most that was told or seen."""
        told = self.reading
        if told is not None and told.was_clamped:
            flags.add(events.USAGE_CLAMPED)
        if told is not None and self.is_whole:
            return told.usage
        flags.add(events.ESTIMATED)
        self._read_kept()
        seen = self._seen or usage.estimated(
            input_tokens=tokens.of_bytes(self.prompt_bytes), output_tokens=self.written.by_bytes()
        )
        seen = {**seen, **self.assumed}
        if self.prompt.get("web_search_options") is not None:
            seen = {**seen, Component.WEB_SEARCH: 1}
        return seen if told is None else usage.larger(told.usage, seen)

    def nothing(self, *, settled_at: datetime, flags: tuple[str, ...] = ()) -> Outcome:
        """Return the outcome of a request that the provider does not bill."""
        return Outcome(
            status=self.status, cost=Decimal(0), usage={}, flags=flags, settled_at=settled_at
        )

    def _note_tier(self, reply: dict[str, object]) -> None:
        if isinstance(tier := reply.get("service_tier"), str):
            self.served_tier = tier
