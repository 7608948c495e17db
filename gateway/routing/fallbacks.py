"""What is tried when a model gives no answer: how often its own deployments, then which models."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.routing.causes import Cause
from gateway.routing.strategies import Strategy

RETRIES_MAX: Final = 5
HOPS_MAX: Final = 5
"""So many other models one request tries at most; this is also what ends a circle."""
FALLBACKS_MAX: Final = HOPS_MAX
EVERY_MODEL: Final = "*"
"""The model name of a rule for all models that have none of their own."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How the requests for a model are routed."""

    strategy: Strategy = Strategy.WEIGHTED
    retries: int = 2
    """How many further deployments of the same model are tried after an upstream failure."""
    fallbacks: Mapping[Cause, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Override:
    """What one rule says; None, and a cause that is not named, is: as the more general rule."""

    strategy: Strategy | None = None
    retries: int | None = None
    fallbacks: Mapping[Cause, tuple[str, ...]] = field(default_factory=dict)

    @property
    def says_nothing(self) -> bool:
        return self.strategy is None and self.retries is None and not self.fallbacks

    def over(self, rule: Rule) -> Rule:
        """Return the rule with what this one says instead."""
        return Rule(
            strategy=rule.strategy if self.strategy is None else self.strategy,
            retries=rule.retries if self.retries is None else self.retries,
            fallbacks={**rule.fallbacks, **self.fallbacks},
        )


def combined(default: Rule, overrides: Iterable[Override | None]) -> Rule:
    """Return the default with each override applied, the most general first."""
    for override in overrides:
        if override is not None:
            default = override.over(default)
    return default


def next_models(rule: Rule, cause: Cause) -> tuple[str, ...]:
    """
    Return the models to try instead, in this order.

    A request that is too long or refused for its content goes to the general fallbacks where it
    has none of its own; an exhausted budget does not, since nobody has asked to spend elsewhere.
    """
    models = rule.fallbacks.get(cause)
    if models is None and cause in {Cause.CONTEXT_WINDOW, Cause.CONTENT_POLICY}:
        models = rule.fallbacks.get(Cause.DEFAULT)
    return (models or ())[:FALLBACKS_MAX]
