"""Says in words what a rule does: for lists of rules, for whoever changes one, and for programs."""

from collections.abc import Iterator
from typing import Final

from gateway.routing.causes import Cause
from gateway.routing.fallbacks import EVERY_MODEL, Override
from gateway.routing.strategies import Strategy

STRATEGIES: Final = {
    Strategy.WEIGHTED: "by weight",
    Strategy.LEAST_BUSY: "least busy",
    Strategy.LOWEST_COST: "lowest cost",
    Strategy.LATENCY: "fastest",
    Strategy.TIME_TO_FIRST_TOKEN: "fastest to begin",
    Strategy.AVAILABILITY: "most reliable",
}
_WHEN: Final = {
    Cause.DEFAULT: "then",
    Cause.CONTEXT_WINDOW: "when it is too long:",
    Cause.CONTENT_POLICY: "when its content is refused:",
    Cause.BUDGET: "when its budget is gone:",
}
NOTHING_ELSE: Final = "nothing else"
EVERY_OTHER: Final = "every other model"


def in_words(model: str, override: Override) -> str:
    """Return what will happen, as ``gpt-4o: lowest cost, then claude-sonnet, …``."""
    return f"{name_of(model)}: {what_happens(override)}"


def name_of(model: str) -> str:
    return EVERY_OTHER if model == EVERY_MODEL else model


def what_happens(override: Override) -> str:
    return ", ".join(_parts(override)) or f"as {EVERY_OTHER}"


def _parts(override: Override) -> Iterator[str]:
    if override.strategy is not None:
        yield STRATEGIES[override.strategy]
    if override.retries is not None:
        yield _retries(override.retries)
    for cause, when in _WHEN.items():
        models = override.fallbacks.get(cause)
        if models is not None:
            yield f"{when} {' or '.join(models) or NOTHING_ELSE}"


def _retries(number: int) -> str:
    if number == 0:
        return "no retries"
    return "1 retry" if number == 1 else f"{number} retries"
