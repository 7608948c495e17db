"""Reads the usage out of an answer as it passes, and says what the answer cost."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import orjson

from spend import events, pricing, usage
from spend.events import Outcome
from spend.pricing import Price
from spend.usage import Reading

DONE = b"[DONE]"


@dataclass(slots=True)
class Meter:
    """What is known so far of one answer."""

    price: Price
    ceiling: Decimal
    prompt_bytes: int
    status: int = 0
    output_bytes: int = 0
    reading: Reading | None = None
    served_tier: str | None = None
    is_done: bool = False
    flags: set[str] = field(default_factory=set)

    def read_reply(self, body: bytes) -> None:
        """Read a whole answer."""
        try:
            reply = orjson.loads(body)
        except orjson.JSONDecodeError:
            self.output_bytes = len(body)
            return
        if isinstance(reply, dict):
            self.output_bytes = sum(map(len, _texts(reply, "message")))
            self._read(reply)

    def read_event(self, data: bytes) -> bool:
        """Read one event of a stream; return whether it carries usage and nothing else."""
        if data == DONE:
            self.is_done = True
            return False
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            self.output_bytes += len(data)
            return False
        if not isinstance(chunk, dict):
            return False
        self.output_bytes += sum(map(len, _texts(chunk, "delta")))
        self._read(chunk)
        return chunk.get("usage") is not None and chunk.get("choices") == []

    def outcome(self, *, settled_at: datetime) -> Outcome:
        """Return what the answer cost: by its usage, else by our own estimate, flagged."""
        flags = set(self.flags)
        if self.reading is None:
            flags.add(events.ESTIMATED)
            counted = usage.estimated(
                prompt_bytes=self.prompt_bytes, output_bytes=self.output_bytes
            )
        else:
            counted = self.reading.usage
            flags |= {events.USAGE_CLAMPED} if self.reading.was_clamped else set()
        cost = pricing.cost(price=self.price, usage=counted)
        flags |= {events.UNPRICED} if cost.unpriced else set()
        flags |= {events.OVER_CEILING} if cost.amount > self.ceiling else set()
        if self.served_tier not in {None, "default", "standard"}:
            flags.add(events.TIER_UNPRICED)
        return Outcome(
            status=self.status,
            cost=cost.amount,
            usage=counted,
            lines=cost.lines,
            flags=tuple(sorted(flags)),
            settled_at=settled_at,
        )

    def nothing(self, *, settled_at: datetime, flags: tuple[str, ...] = ()) -> Outcome:
        """Return the outcome of a request that the provider does not bill."""
        return Outcome(
            status=self.status, cost=Decimal(0), usage={}, flags=flags, settled_at=settled_at
        )

    def _read(self, reply: dict[str, object]) -> None:
        """Keep the last usage that can be read: some providers repeat it, growing."""
        if (reported := reply.get("usage")) is not None:
            self.reading = usage.of_openai_chat(reported) or self.reading
        if isinstance(tier := reply.get("service_tier"), str):
            self.served_tier = tier


def _texts(reply: dict[str, object], part: str) -> Iterator[bytes]:
    """Yield everything that the model has written: text, refusals, reasoning and tool calls."""
    choices = reply.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        written = choice.get(part) if isinstance(choice, dict) else None
        if isinstance(written, dict):
            for name in ("content", "refusal", "reasoning_content", "reasoning"):
                if isinstance(text := written.get(name), str):
                    yield text.encode(errors="replace")
            if calls := written.get("tool_calls"):
                yield orjson.dumps(calls)
