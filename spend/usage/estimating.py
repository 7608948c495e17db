"""What an answer used that tells nothing of it."""

from typing import Final

from spend.components import Component, Usage

BYTES_PER_TOKEN: Final = 4


def estimated(*, prompt_bytes: int, output_bytes: int) -> Usage:
    """Return the usage of an answer that told none: a token for every four bytes, rounded up."""
    return {
        Component.INPUT: -(-prompt_bytes // BYTES_PER_TOKEN),
        Component.OUTPUT: -(-output_bytes // BYTES_PER_TOKEN),
        Component.REQUEST: 1,
    }
