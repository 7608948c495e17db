"""What is asked for: kinds of work, the models they use, and the prices of those."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import exp
from typing import Final

from gateway.models import Deployment
from gateway.services import create_deployment
from spend import pricebook
from spend.pricebook import Listed

NOWHERE: Final = "https://demo.invalid/v1"
"""RFC 2606: no name below ``.invalid`` ever resolves."""


class NoPrice(Exception):
    """The price book has no price of a model that the example data uses."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A model as its provider names it."""

    provider: str
    model: str
    reasons: bool = False

    @property
    def deployment(self) -> str:
        return f"demo-{self.provider}-{self.model}"


UPSTREAMS: Final[Mapping[str, Upstream]] = {
    "gpt-6.1-terra": Upstream("openai", "gpt-6.1-terra", reasons=True),
    "gpt-5-mini": Upstream("openai", "gpt-5-mini", reasons=True),
    "claude-opus-5-5": Upstream("anthropic", "claude-opus-5-5"),
    "claude-sonnet-5-5": Upstream("anthropic", "claude-sonnet-5-5"),
    "claude-haiku-4-5": Upstream("anthropic", "claude-haiku-4-5"),
    "gemini-3.5-flash": Upstream("google", "gemini-3.5-flash", reasons=True),
    "mistral-large-4": Upstream("mistral", "mistral-large-4"),
    "mistral-small": Upstream("mistral", "mistral-small-2603"),
}
"""By the name that callers ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the requests of one kind are like; token counts are medians."""

    models: Mapping[str, int]
    prompt_tokens: int
    answer_tokens: int
    cached_share: float = 0.0
    reasoning_share: float = 0.0
    streamed_share: float = 0.0
    end_users: int = 0
    tags: tuple[str, ...] = ()

    def draw_model(self, random: random.Random) -> str:
        return random.choices(list(self.models), weights=list(self.models.values()))[0]


ASSISTANT: Final = Workload(
    models={"claude-sonnet-5-5": 5, "gpt-6.1-terra": 3, "claude-haiku-4-5": 2},
    prompt_tokens=2_400, answer_tokens=420, cached_share=0.6, reasoning_share=0.3,
    streamed_share=0.95, end_users=400, tags=("production", "chat"),
)  # fmt: skip
SEARCH: Final = Workload(
    models={"gemini-3.5-flash": 6, "mistral-small": 3, "gpt-5-mini": 1},
    prompt_tokens=6_500, answer_tokens=260, cached_share=0.2, reasoning_share=0.2,
    streamed_share=0.4, end_users=150, tags=("production", "search"),
)  # fmt: skip
CODING: Final = Workload(
    models={"claude-opus-5-5": 3, "claude-sonnet-5-5": 5, "gpt-6.1-terra": 2},
    prompt_tokens=24_000, answer_tokens=900, cached_share=0.85, reasoning_share=0.4,
    streamed_share=1.0, tags=("engineering",),
)  # fmt: skip
BATCH: Final = Workload(
    models={"mistral-large-4": 4, "mistral-small": 4, "gpt-5-mini": 2},
    prompt_tokens=9_000, answer_tokens=700, tags=("production", "nightly"),
)  # fmt: skip
TRYING: Final = Workload(
    models=dict.fromkeys(UPSTREAMS, 1),
    prompt_tokens=900, answer_tokens=300, reasoning_share=0.3, streamed_share=0.5,
    tags=("experiment",),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Offers:
    """The price book's entry of every model that is used."""

    by_name: Mapping[str, Listed]

    @classmethod
    def from_price_book(cls, *, since: datetime) -> "Offers":
        """
        Read the prices of all models.

        :raises NoPrice: naming the first that had none at ``since``
        """
        found = {}
        for name, upstream in UPSTREAMS.items():
            listed = pricebook.listed(provider=upstream.provider, name=upstream.model)
            if listed is None or listed.price_at(since) is None:
                raise NoPrice(f"{upstream.provider}/{upstream.model}")
            found[name] = listed
        return cls(found)


def make_deployments(offers: Offers) -> None:
    """Make the deployments that requests are said to have gone to: blocked, and to nowhere."""
    for name in offers.by_name:
        upstream = UPSTREAMS[name]
        if Deployment.objects.filter(public_id=upstream.deployment).exists():
            continue
        create_deployment(
            values={
                "public_id": upstream.deployment,
                "model_name": name,
                "provider": upstream.provider,
                "upstream_model": upstream.model,
                "api_base": NOWHERE,
                "blocked": True,
            },
            api_key=None,
        )


def around(median: int, random: random.Random, *, spread: float = 0.7) -> int:
    """Return a count that is mostly near ``median`` and now and then several times it."""
    return max(1, round(median * exp(random.gauss(0, spread))))
