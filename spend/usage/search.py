"""
Search engines, as Perplexity answers: with results and no usage.

Each query of the request counts (https://docs.perplexity.ai/api-reference/search-post).
"""

from collections.abc import Mapping

from spend.components import Component
from spend.usage.counts import ITEMS_MAX, NOTHING, Counts
from spend.usage.reading import Reading, reading


def read(answer: object, *, request: Mapping[str, object] = NOTHING) -> Reading | None:
    """Return what a search used, None if the request has no query."""
    counts = Counts()
    asked = request.get("query")
    queries = len(asked) if isinstance(asked, list) else int(isinstance(asked, str))
    if not queries:
        return None
    return reading(counts, {Component.QUERY: counts.cut(queries, at_most=ITEMS_MAX)})
