"""The usage of an answer that told none."""

from spend.components import Component, Usage
from spend.usage.counts import COUNT_MAX


def estimated(*, input_tokens: int, output_tokens: int) -> Usage:
    """Return the usage of an answer that told none, from what we have counted."""
    return {
        Component.INPUT: min(input_tokens, COUNT_MAX),
        Component.OUTPUT: min(output_tokens, COUNT_MAX),
        Component.REQUEST: 1,
    }
