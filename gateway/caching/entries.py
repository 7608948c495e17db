"""What is kept of an answer: its bytes, who gave it, and what it used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.catalogue import Target
from spend.components import Component, Usage
from spend.rates import Conditions

BYTES_MAX: Final = 2**20
"""Larger answers are not kept."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A whole answer with status 200, whose usage its provider has told."""

    organization_id: int
    deployment: str
    provider: str
    upstream_model: str
    made_at_ms: int
    """By the clock of the process that kept it."""
    is_stream: bool
    content_type: str
    usage: Usage
    conditions: Conditions
    body: bytes
    usage_only: tuple[tuple[int, int], ...] = ()
    """From where to where in the body a stream tells usage and nothing else."""

    def is_of(self, target: Target) -> bool:
        """Return whether this deployment gave the answer, as it is now."""
        return (target.public_id, target.provider, target.upstream_model) == (
            self.deployment, self.provider, self.upstream_model,
        )  # fmt: skip

    def age_seconds(self, *, now_ms: int) -> int:
        return max(now_ms - self.made_at_ms, 0) // 1_000

    def without_usage(self) -> bytes:
        """Return the body for a client that did not ask for the usage of its stream."""
        kept, start = [], 0
        for first, end in self.usage_only:
            kept.append(self.body[start:first])
            start = end
        return b"".join([*kept, self.body[start:]])


def encode(entry: Entry) -> bytes:
    """Return a line of JSON, and after it the body as it is."""
    head = {
        "organization_id": entry.organization_id,
        "deployment": entry.deployment,
        "provider": entry.provider,
        "upstream_model": entry.upstream_model,
        "made_at_ms": entry.made_at_ms,
        "is_stream": entry.is_stream,
        "content_type": entry.content_type,
        "usage": {component.value: number for component, number in entry.usage.items()},
        "conditions": list(entry.conditions),
        "usage_only": entry.usage_only,
    }
    return orjson.dumps(head) + b"\n" + entry.body


def decode(kept: bytes) -> Entry:
    """
    :raises ValueError: if it is not what :func:`encode` made
    """
    head, _, body = kept.partition(b"\n")
    try:
        return _entry(orjson.loads(head), body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError("this is no kept answer") from error


def _entry(head: Mapping[str, Any], body: bytes) -> Entry:
    return Entry(
        organization_id=int(head["organization_id"]),
        deployment=str(head["deployment"]),
        provider=str(head["provider"]),
        upstream_model=str(head["upstream_model"]),
        made_at_ms=int(head["made_at_ms"]),
        is_stream=bool(head["is_stream"]),
        content_type=str(head["content_type"]),
        usage={Component(name): int(number) for name, number in head["usage"].items()},
        conditions=Conditions(*map(str, head["conditions"])),
        body=body,
        usage_only=tuple((int(first), int(end)) for first, end in head["usage_only"]),
    )
