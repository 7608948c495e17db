"""Instants as people and programs write them: a day of UTC, or a time with its zone."""

import re
from datetime import UTC, datetime
from typing import Final

from budgets.periods import FOREVER

_INSTANT: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?)?", re.ASCII
)
_DAY_CHARACTERS: Final = len("2026-11-01")


class NoInstant(ValueError):
    """The text names no instant in which there may be spend."""


def parse_or_none(text: str) -> datetime | None:
    """Return the instant, or None where the text names none."""
    try:
        return parse(text)
    except NoInstant:
        return None


def parse(text: str) -> datetime:
    """
    Return the instant in UTC; a day alone is its midnight there.

    :raises NoInstant: saying what is wrong
    """
    if not _INSTANT.fullmatch(text):
        raise NoInstant("must be a date such as 2026-11-01 or a time such as 2026-11-01T09:30Z")
    try:
        at = datetime.fromisoformat(text)
        if len(text) > _DAY_CHARACTERS and at.tzinfo is None:
            raise NoInstant("needs its time zone, such as 2026-11-01T09:30Z or +01:00")
        at = at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except OverflowError as error:
        raise NoInstant("is too far away") from error
    except ValueError as error:
        if isinstance(error, NoInstant):
            raise
        raise NoInstant("is no date that there is") from error
    if not FOREVER.start.year < at.year < FOREVER.end.year - 1:
        raise NoInstant("is too far away")
    return at
