"""No request costs more than its ceiling, whatever its price is like and however it is served."""

from decimal import Decimal

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spend import kept_prices, pricing
from spend.components import INPUT_COMPONENTS, OUTPUT_COMPONENTS, SEARCHES, Component
from spend.rates import AMOUNT_DECIMALS, Conditions, Price, Rate, adjusted

pytestmark = pytest.mark.no_servers

TIERS = ("", "batch", "flex", "priority")
REGIONS = ("", "us", "eu", "elsewhere")
amounts = st.integers(0, 10**6).map(lambda number: Decimal(number).scaleb(-9))
rates = st.builds(
    Rate,
    component=st.sampled_from(
        [*INPUT_COMPONENTS, *OUTPUT_COMPONENTS, *SEARCHES, Component.REQUEST]
    ),
    rate=amounts,
    tier_from=st.sampled_from([0, 0, 5, 50]),
    per=st.sampled_from([1, 3, 1_000_000]),
    service_tier=st.sampled_from(TIERS),
    variant=st.sampled_from(["", "", "high"]),
)
prices = st.builds(
    lambda given, factors, factor, fee: adjusted(
        Price("USD", tuple(given), "p", factors), factor=factor, fee=fee, reference="a"
    ),
    st.lists(rates, max_size=12, unique_by=lambda r: (r.key, r.tier_from, r.service_tier)),
    st.dictionaries(st.sampled_from(REGIONS[1:3]), st.decimals("0.5", "3", places=2), max_size=2),
    st.decimals("0", "3", places=3),
    amounts,
)


used_tokens = st.dictionaries(
    st.sampled_from([*INPUT_COMPONENTS, *OUTPUT_COMPONENTS]), st.integers(0, 100), max_size=6
)
served = st.builds(
    Conditions, st.sampled_from(TIERS), st.sampled_from(["", "high"]), st.sampled_from(REGIONS)
)


@settings(max_examples=1_000, deadline=None)
@given(
    price=prices, used=used_tokens, searches=st.integers(0, 3), asked=st.sampled_from(TIERS),
    served=served,
)  # fmt: skip
@example(
    price=Price("USD", (Rate(Component.WEB_SEARCH, Decimal(1), service_tier="batch"),), "p"),
    used={}, searches=1, asked="", served=Conditions("batch"),
)  # fmt: skip
def test_ceiling_is_never_below_a_cost_within_its_bounds(
    price: Price, used: dict[Component, int], searches: int, asked: str, served: Conditions
) -> None:
    most_in = sum(used.get(each, 0) for each in INPUT_COMPONENTS)
    most_out = sum(used.get(each, 0) for each in OUTPUT_COMPONENTS)
    if asked and served.service_tier != asked:
        # Who asks for a service tier is served in it, or in the standard one.
        served = served._replace(service_tier="")
    usage = {**used, Component.WEB_SEARCH: searches, Component.REQUEST: 1}
    cost = pricing.cost(price=price, usage=usage, conditions=served).amount

    ceiling = pricing.ceiling(
        price=price, input_tokens_max=most_in, output_tokens_max=most_out,
        service_tiers=price.tiers_of(asked), searches_max=3,
    )  # fmt: skip

    assert cost <= ceiling


@settings(max_examples=500, deadline=None)
@given(
    price=prices,
    lines=st.lists(st.tuples(used_tokens, st.integers(0, 3)), min_size=1, max_size=6),
    variant=st.sampled_from(["", "high"]),
    region=st.sampled_from(REGIONS),
)
def test_ceiling_of_a_batch_is_never_below_what_its_lines_cost_together(
    price: Price, lines: list[tuple[dict[Component, int], int]], variant: str, region: str
) -> None:
    reads = [sum(used.get(each, 0) for each in INPUT_COMPONENTS) for used, _ in lines]
    writes = [sum(used.get(each, 0) for each in OUTPUT_COMPONENTS) for used, _ in lines]
    served = Conditions("batch", variant, region)
    costs = [
        pricing.cost(
            price=price,
            usage={**used, Component.WEB_SEARCH: searches, Component.REQUEST: 1},
            conditions=served,
        ).amount
        for used, searches in lines
    ]

    ceiling = pricing.ceiling_of_batch(
        price=price,
        bounds=pricing.Bounds(len(lines), sum(reads), max(reads), sum(writes), 3 * len(lines)),
    )

    # What does not divide is rounded in each line, at a digit that no currency has.
    rounded = len(lines) * Decimal(10).scaleb(-AMOUNT_DECIMALS)
    assert sum(costs, Decimal(0)) <= ceiling + rounded


def test_ceiling_of_a_batch_without_a_bound_is_none() -> None:
    price = Price("USD", (Rate(Component.OUTPUT, Decimal(1)),), "p")

    with pytest.raises(pricing.UnboundedCost):
        pricing.ceiling_of_batch(price=price, bounds=pricing.Bounds(2, 10, 10, None))


@given(price=prices)
def test_a_price_is_the_same_after_it_was_kept(price: Price) -> None:
    kept = orjson.loads(orjson.dumps(kept_prices.as_json(price)))

    assert kept_prices.of_json(kept) == price


@pytest.mark.parametrize("kept", [None, {}, {"currency": "USD"}, [], "text"])
def test_what_is_no_price_is_not_taken_for_one(kept: object) -> None:
    with pytest.raises(ValueError, match="no price"):
        kept_prices.of_json(kept)


@settings(max_examples=300, deadline=None)
@given(price=prices, data=st.data())
def test_cost_is_the_same_in_any_order_of_its_usage(price: Price, data: st.DataObject) -> None:
    used = data.draw(
        st.dictionaries(st.sampled_from(list(Component)), st.integers(0, 100), max_size=8)
    )
    shuffled = dict(data.draw(st.permutations(list(used.items()))))

    costs = [pricing.cost(price=price, usage=usage) for usage in (used, shuffled)]

    assert costs[0].amount == costs[1].amount
    assert set(costs[0].unpriced) == set(costs[1].unpriced)
    for cost in costs:
        assert cost.amount == sum((line.amount for line in cost.lines), Decimal(0))
