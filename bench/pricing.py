"""
What pricing one request costs: a compiled price with tiers, and five classes of usage.

``make bench`` runs it. CPU time of this process; the median of several rounds, beside the same
usage priced by the package whose catalogue is imported.
"""

import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from genai_prices import data_snapshot
from genai_prices.types import Usage as TheirUsage

from spend import pricing
from spend.catalogues import genai
from spend.components import Component, Usage
from spend.rates import Price

ROUNDS: Final = 9
CALLS: Final = 20_000
MODEL: Final = ("openai", "gpt-4.1")
USAGE: Final[Usage] = {
    Component.INPUT: 600, Component.CACHED_READ: 400, Component.OUTPUT: 60,
    Component.REASONING: 40, Component.REQUEST: 1,
}  # fmt: skip
THEIRS: Final = TheirUsage(
    input_tokens=1_000, cache_read_tokens=400, output_tokens=100, output_reasoning_tokens=40
)


def main() -> None:
    price, now = _price(), datetime.now(UTC)
    info = next(
        model
        for provider in data_snapshot.get_snapshot().providers
        for model in provider.models
        if (provider.id, model.id) == MODEL
    )
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(_microseconds(lambda: pricing.cost(price=price, usage=USAGE), CALLS))
        theirs.append(_microseconds(lambda: info.get_prices(now).calc_price(THEIRS), CALLS // 20))
    sys.stdout.write(
        f"pricing one request, {len(USAGE)} classes: {statistics.median(ours):.2f} µs CPU"
        f" (genai-prices, model known: {statistics.median(theirs):.1f} µs)\n"
    )


def _price() -> Price:
    listed = next(each for each in genai.read().models if (each.provider, each.name) == MODEL)
    newest = listed.prices[-1]
    return Price(newest.currency, newest.rates, "bench")


def _microseconds(call: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - start) / calls * 1e6


if __name__ == "__main__":
    main()
