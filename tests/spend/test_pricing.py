"""What usage costs: disjoint classes, each priced once, exactly, and never above its ceiling."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.money import EXACT
from spend import pricing
from spend.components import (
    FALLBACKS,
    INPUT_COMPONENTS,
    OUTPUT_COMPONENTS,
    TOKENS,
    Component,
    Usage,
)
from spend.pricing import Cost, Line, UnboundedCost
from spend.rates import Conditions, Price, Rate, adjusted

pytestmark = pytest.mark.no_servers

TOKENS_MAX = 10**9


def price(*rates: Rate) -> Price:
    return Price("USD", rates, "test")


def rate(component: Component, amount: str, tier_from: int = 0) -> Rate:
    return Rate(component, Decimal(amount), tier_from)


PLAIN = price(rate(Component.INPUT, "2"), rate(Component.OUTPUT, "10"))
FULL = price(
    rate(Component.INPUT, "100"), rate(Component.CACHED_READ, "10"),
    rate(Component.CACHE_WRITE_5M, "125"), rate(Component.CACHE_WRITE_1H, "200"),
    rate(Component.INPUT_AUDIO, "300"), rate(Component.OUTPUT, "500"),
    rate(Component.REASONING, "600"), rate(Component.OUTPUT_AUDIO, "900"),
    rate(Component.REQUEST, "7"),
)  # fmt: skip


def cost_of(at: Price, **classes: int) -> Decimal:
    return pricing.cost(price=at, usage={Component(name): n for name, n in classes.items()}).amount


# --- Sums --------------------------------------------------------------------------------


def test_each_class_is_priced_once_at_its_own_rate() -> None:
    each = {rate.component: 1 for rate in FULL.rates}

    cost = pricing.cost(price=FULL, usage=each)

    assert cost.amount == 100 + 10 + 125 + 200 + 300 + 500 + 600 + 900 + 7
    assert {line.component for line in cost.lines} == set(each)
    assert cost.amount == sum(line.amount for line in cost.lines)
    assert all(line.amount == line.rate * line.quantity for line in cost.lines)
    assert cost.unpriced == ()


def test_nothing_costs_nothing() -> None:
    cost = pricing.cost(price=FULL, usage={Component.INPUT: 0})

    assert cost == Cost(amount=Decimal(0), lines=(), unpriced=())


@pytest.mark.parametrize(
    ("of", "falls_back_to"),
    [
        (Component.CACHED_READ, Component.INPUT),
        (Component.CACHE_WRITE_5M, Component.INPUT),
        (Component.CACHE_WRITE_1H, Component.INPUT),
        (Component.INPUT_AUDIO, Component.INPUT),
        (Component.REASONING, Component.OUTPUT),
        (Component.OUTPUT_AUDIO, Component.OUTPUT),
    ],
)
def test_class_without_a_rate_costs_what_the_class_costs_that_it_is_a_kind_of(
    of: Component, falls_back_to: Component
) -> None:
    at = price(rate(falls_back_to, "3"))

    assert pricing.cost(price=at, usage={of: 5}).amount == 15


def test_cache_write_of_an_hour_costs_what_one_of_five_minutes_costs_before_input() -> None:
    at = price(rate(Component.INPUT, "1"), rate(Component.CACHE_WRITE_5M, "2"))

    assert cost_of(at, cache_write_1h=5) == 10


def test_cached_audio_and_reasoning_have_their_own_rate_where_there_is_one() -> None:
    assert cost_of(FULL, cached_read=2, input_audio=3, reasoning=4) == 20 + 900 + 2_400


# --- Unpriced ----------------------------------------------------------------------------


def test_class_without_any_rate_is_named_and_not_in_the_amount() -> None:
    at = price(rate(Component.INPUT, "2"))

    cost = pricing.cost(price=at, usage={Component.INPUT: 3, Component.OUTPUT: 5})

    assert cost.amount == 6
    assert cost.unpriced == (Component.OUTPUT,)
    assert [line.component for line in cost.lines] == [Component.INPUT]


def test_rate_of_zero_is_a_price() -> None:
    at = price(rate(Component.INPUT, "0"))

    cost = pricing.cost(price=at, usage={Component.INPUT: 3})

    assert cost.amount == 0
    assert cost.unpriced == ()
    assert [line.quantity for line in cost.lines] == [3]


def test_rate_of_zero_of_its_own_is_not_fallen_back_from() -> None:
    at = price(rate(Component.INPUT, "2"), rate(Component.CACHED_READ, "0"))

    assert cost_of(at, cached_read=9) == 0


def test_class_that_did_not_occur_is_not_unpriced() -> None:
    cost = pricing.cost(price=price(), usage={Component.OUTPUT: 0})

    assert cost.unpriced == ()


# --- Tiers -------------------------------------------------------------------------------

TIERED = price(
    rate(Component.INPUT, "1"), rate(Component.INPUT, "2", 200), rate(Component.INPUT, "4", 500),
    rate(Component.OUTPUT, "10"), rate(Component.OUTPUT, "20", 200),
)  # fmt: skip


@pytest.mark.parametrize(
    ("tokens", "amount"), [(199, 199), (200, 200), (201, 402), (500, 1_000), (501, 2_004)]
)
def test_tier_applies_to_all_tokens_of_a_request_with_more_than_its_threshold(
    tokens: int, amount: int
) -> None:
    assert cost_of(TIERED, input=tokens) == amount


def test_tier_is_chosen_by_all_input_tokens_whatever_their_class() -> None:
    assert cost_of(TIERED, input=100, cached_read=100, output=1) == 100 + 100 + 10
    assert cost_of(TIERED, input=100, cached_read=101, output=1) == 200 + 202 + 20


def test_tier_is_not_chosen_by_output_tokens() -> None:
    assert cost_of(TIERED, input=1, output=10**6) == 1 + 10**7


def test_class_with_rates_only_above_a_threshold_takes_those_of_its_kind_below() -> None:
    at = price(rate(Component.CACHED_READ, "5", 200), rate(Component.INPUT, "1"))

    below = pricing.cost(price=at, usage={Component.CACHED_READ: 200})
    above = pricing.cost(price=at, usage={Component.CACHED_READ: 201})

    assert below.amount == 200
    assert not below.unpriced
    assert above.amount == 1_005


def test_service_tier_with_rates_only_above_a_threshold_costs_the_standard_below() -> None:
    at = Price("USD", (
        Rate(Component.INPUT, Decimal(1)),
        Rate(Component.INPUT, Decimal(5), tier_from=200, service_tier="priority"),
    ), "p")  # fmt: skip

    costs = [
        pricing.cost(
            price=at, usage={Component.INPUT: tokens}, conditions=Conditions("priority")
        ).amount
        for tokens in (200, 201)
    ]

    assert costs == [200, 1_005]


@pytest.mark.parametrize("rates", [
    (Rate(Component.INPUT, Decimal(1)), Rate(Component.STATED_PICO_USD, Decimal("1E-12"))),
    (Rate(Component.INPUT, Decimal(1)), Rate(Component.REQUEST, Decimal(7), service_tier="flex")),
    (Rate(Component.INPUT, Decimal(1)), Rate(Component.REQUEST, Decimal(7), variant="high")),
])  # fmt: skip
def test_margin_is_added_to_every_request_however_it_is_priced(rates: tuple[Rate, ...]) -> None:
    plain = Price("USD", rates, "p")
    charged = adjusted(plain, factor=Decimal(1), fee=Decimal("0.25"), reference="a")
    usage = {Component.INPUT: 1, Component.STATED_PICO_USD: 10**12, Component.REQUEST: 1}

    before = pricing.cost(price=plain, usage=usage)
    after = pricing.cost(price=charged, usage=usage)

    assert after.amount - before.amount == Decimal("0.25")
    assert after.lines[-1] == Line(Component.MARGIN, 1, Decimal("0.25"), Decimal("0.25"))


def test_batch_rate_of_a_page_leaves_tokens_at_half() -> None:
    at = Price("USD", (
        Rate(Component.INPUT, Decimal(2)), Rate(Component.PAGE, Decimal(1), service_tier="batch"),
    ), "p")  # fmt: skip

    cost = pricing.cost(price=at, usage={Component.INPUT: 3}, conditions=Conditions("batch"))

    assert cost.amount == 3


def test_images_are_charged_by_number_beside_text_that_was_written() -> None:
    at = Price("USD", (
        Rate(Component.OUTPUT, Decimal(1)), Rate(Component.IMAGES, Decimal(40)),
    ), "p")  # fmt: skip

    cost = pricing.cost(price=at, usage={Component.OUTPUT: 2, Component.IMAGES: 1})

    assert cost.amount == 42


def test_class_that_has_a_rate_only_above_a_threshold_is_unpriced_below() -> None:
    at = price(rate(Component.OUTPUT, "5", 200), rate(Component.INPUT, "1"))

    below = pricing.cost(price=at, usage={Component.INPUT: 200, Component.OUTPUT: 1})
    above = pricing.cost(price=at, usage={Component.INPUT: 201, Component.OUTPUT: 1})

    assert below.unpriced == (Component.OUTPUT,)
    assert above.amount == 206
    assert above.unpriced == ()


# --- Exact -------------------------------------------------------------------------------


def test_amounts_beyond_28_digits_are_exact() -> None:
    at = price(rate(Component.INPUT, "123456789012.123456789012345678"))

    assert cost_of(at, input=999_999_999) == _times("123456789012.123456789012345678", 999_999_999)


def test_sum_of_a_huge_and_a_tiny_amount_keeps_both() -> None:
    at = price(rate(Component.INPUT, "1E-18"), rate(Component.OUTPUT, "1E+10"))

    assert cost_of(at, input=1, output=10**9) == Decimal("10000000000000000000.000000000000000001")


@given(
    amounts=st.lists(st.decimals(0, 10**6, places=18), min_size=1, max_size=9),
    quantities=st.lists(st.integers(0, TOKENS_MAX), min_size=9, max_size=9),
)
def test_cost_is_the_exact_sum_in_whole_numbers(
    amounts: list[Decimal], quantities: list[int]
) -> None:
    components = list(Component)[: len(amounts)]
    at = price(*(Rate(c, amount) for c, amount in zip(components, amounts, strict=True)))
    used = dict(zip(components, quantities, strict=False))

    cost = pricing.cost(price=at, usage=used)

    attos = [int(amount.scaleb(18)) for amount in amounts]
    expected = sum(atto * used[c] for c, atto in zip(components, attos, strict=True))
    assert cost.amount.scaleb(18, context=EXACT) == expected


# --- Ceilings ----------------------------------------------------------------------------

rates = st.decimals(0, 10, places=9)
tiers = st.sampled_from([0, 0, 0, 100, 1_000])


@st.composite
def prices(draw: st.DrawFn) -> Price:
    """Any price: some classes, some tiers, each (class, tier) once."""
    keys = draw(st.sets(st.tuples(st.sampled_from(Component), tiers), max_size=14))
    return price(*(Rate(component, draw(rates), tier) for component, tier in sorted(keys)))


@st.composite
def usages_within(draw: st.DrawFn, input_max: int, output_max: int) -> Usage:
    """Any usage of at most so many tokens in and out, in one request."""
    used: dict[Component, int] = {Component.REQUEST: 1}
    for components, most in ((INPUT_COMPONENTS, input_max), (OUTPUT_COMPONENTS, output_max)):
        left = draw(st.integers(0, most))
        for component in draw(st.permutations(components)):
            used[component] = draw(st.integers(0, left))
            left -= used[component]
    return used


@given(at=prices(), data=st.data(), bounds=st.tuples(st.integers(0, 2_000), st.integers(0, 2_000)))
def test_no_request_within_its_bounds_costs_more_than_its_ceiling(
    at: Price, data: st.DataObject, bounds: tuple[int, int]
) -> None:
    used = data.draw(usages_within(*bounds))

    ceiling = pricing.ceiling(price=at, input_tokens_max=bounds[0], output_tokens_max=bounds[1])

    assert pricing.cost(price=at, usage=used).amount <= ceiling


def test_ceiling_counts_the_dearest_class_of_each_side_and_the_request() -> None:
    ceiling = pricing.ceiling(price=FULL, input_tokens_max=3, output_tokens_max=2)

    assert ceiling == 3 * 300 + 2 * 900 + 7


@pytest.mark.parametrize(
    ("tokens", "ceiling"), [(200, 200 + 10), (201, 402 + 20), (501, 2_004 + 20)]
)
def test_ceiling_counts_every_tier_that_can_be_reached(tokens: int, ceiling: int) -> None:
    assert pricing.ceiling(price=TIERED, input_tokens_max=tokens, output_tokens_max=1) == ceiling


def test_ceiling_counts_every_tier_of_the_request_itself() -> None:
    at = price(rate(Component.REQUEST, "1"), rate(Component.REQUEST, "5", 100))
    used = {Component.INPUT: 101, Component.REQUEST: 1}

    ceiling = pricing.ceiling(price=at, input_tokens_max=101, output_tokens_max=0)

    assert pricing.cost(price=at, usage=used).amount == 5
    assert ceiling >= 5


def test_ceiling_counts_a_tier_that_is_cheaper_above_at_its_dearest() -> None:
    falling = price(rate(Component.INPUT, "5"), rate(Component.INPUT, "1", 100))

    assert pricing.ceiling(price=falling, input_tokens_max=101, output_tokens_max=0) == 505


@pytest.mark.parametrize(
    ("bounds", "what"), [((None, 1), "input"), ((1, None), "output"), ((None, None), "input")]
)
def test_priced_tokens_without_a_bound_have_no_ceiling(
    bounds: tuple[int | None, int | None], what: str
) -> None:
    with pytest.raises(UnboundedCost) as refusal:
        pricing.ceiling(price=PLAIN, input_tokens_max=bounds[0], output_tokens_max=bounds[1])

    assert refusal.value.what == what


def test_tokens_that_cost_nothing_need_no_bound() -> None:
    at = price(
        rate(Component.REQUEST, "0.01"), rate(Component.INPUT, "0"), rate(Component.OUTPUT, "0")
    )

    ceiling = pricing.ceiling(price=at, input_tokens_max=None, output_tokens_max=None)

    assert ceiling == Decimal("0.01")


def test_unbounded_input_can_reach_every_tier_of_the_output() -> None:
    at = price(rate(Component.OUTPUT, "1"), rate(Component.OUTPUT, "9", 200))

    assert pricing.ceiling(price=at, input_tokens_max=None, output_tokens_max=2) == 18


def test_every_class_of_tokens_is_on_exactly_one_side() -> None:
    sides = [*INPUT_COMPONENTS, *OUTPUT_COMPONENTS]

    assert len(sides) == len(set(sides)) == len(TOKENS)
    assert all(
        (kind in INPUT_COMPONENTS) == (of in INPUT_COMPONENTS)
        for of, kinds in FALLBACKS.items()
        for kind in kinds
    )


def _times(amount: str, quantity: int) -> Decimal:
    """Multiply in whole numbers, where nothing can be rounded."""
    attos = int(Decimal(amount).scaleb(18, context=EXACT)) * quantity
    return Decimal(attos).scaleb(-18, context=EXACT)


# --- The least ---------------------------------------------------------------------------


def test_least_is_the_prompt_from_the_cache_a_token_for_each_choice_and_the_fee() -> None:
    assert pricing.least(price=FULL, input_tokens=20, choices=3) == 20 * 10 + 3 * 500 + 7


def test_least_takes_the_input_rate_where_the_cache_is_dearer_or_has_no_rate() -> None:
    dear = price(rate(Component.INPUT, "2"), rate(Component.CACHED_READ, "3"))

    assert pricing.least(price=dear, input_tokens=20) == 40
    assert pricing.least(price=PLAIN, input_tokens=20) == 20 * 2 + 10


def test_least_is_at_the_cheaper_tier_since_another_may_not_be_served() -> None:
    tiered = price(
        rate(Component.INPUT, "2"), rate(Component.OUTPUT, "10"),
        Rate(Component.INPUT, Decimal(1), service_tier="flex"),
        Rate(Component.OUTPUT, Decimal(20), service_tier="priority"),
    )  # fmt: skip

    assert pricing.least(price=tiered, input_tokens=20, service_tiers=["flex"]) == 20 + 10
    assert pricing.least(price=tiered, input_tokens=20, service_tiers=["priority"]) == 40 + 10


@given(
    cached=st.integers(0, 1_000), uncached=st.integers(0, 1_000), output=st.integers(1, 1_000),
    reasoning=st.integers(0, 1_000),
)  # fmt: skip
def test_no_answer_costs_less_than_the_least_nor_the_least_more_than_the_ceiling(
    cached: int, uncached: int, output: int, reasoning: int
) -> None:
    least = pricing.least(price=FULL, input_tokens=cached + uncached)
    cost = cost_of(
        FULL, cached_read=cached, input=uncached, output=output, reasoning=reasoning, request=1
    )
    ceiling = pricing.ceiling(price=FULL, input_tokens_max=cached + uncached, output_tokens_max=1)

    assert least <= cost
    assert least <= ceiling
