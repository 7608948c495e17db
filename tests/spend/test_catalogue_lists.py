"""How price lists are read: what each form says, and that nothing wrong passes for a price."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from spend.catalogues import export, litellm_checks, make_seed, sources
from spend.catalogues.csv_list import COLUMNS
from spend.catalogues.diff import HeldModel, HeldPrice
from spend.catalogues.listing import BEGINNING, InvalidPriceList, ListedModel
from spend.components import Component
from spend.rates import Rate
from tests.spend.price_lists import BAD_JSON, BAD_RATES, BOMBS, csv_with, litellm_with

pytestmark = pytest.mark.no_servers


def read_csv(*rows: str, header: str = ",".join(COLUMNS)) -> ListedModel:
    text = "\n".join((header, *rows, ""))
    (model,) = sources.read(source="csv", content=text.encode()).models
    return model


@pytest.mark.parametrize("rate", BAD_RATES)
def test_what_is_no_rate_in_csv_is_refused_by_model_and_field(rate: str) -> None:
    with pytest.raises(InvalidPriceList, match="vendor/m: rate is"):
        sources.read(source="csv", content=csv_with(rate))


@pytest.mark.parametrize("literal", BAD_JSON, ids=lambda text: text[:12])
def test_what_is_no_rate_in_a_map_is_refused_by_model_and_field(literal: str) -> None:
    with pytest.raises(InvalidPriceList, match="m: input_cost_per_token is"):
        sources.read(source="litellm", content=litellm_with(literal))


@pytest.mark.parametrize(
    "row",
    [
        '{"tiered_pricing": [{"range": [0, 1e5], "input_cost_per_token": "1"}]}',
        '{"search_context_cost_per_query": {"search_context_size_medium": -1}}',
        '{"off_peak_pricing": {"input_cost_per_token": NaN}}',
        '{"regional_processing_uplift_multiplier_us": 1e9}',
    ],
)
def test_prices_within_tables_are_checked_too(row: str) -> None:
    with pytest.raises(InvalidPriceList, match=r"^m: .* is "):
        sources.read(source="litellm", content=f'{{"m": {row}}}'.encode())


@pytest.mark.parametrize(
    "row",
    [
        '"off_peak_pricing": {"windows": [{}], "input_cost_per_token": 1}',
        '"off_peak_pricing": {"windows": [{"hours_utc": "25:00"}], "input_cost_per_token": 1}',
        '"tiered_pricing": [{"range": [1e30], "input_cost_per_token": 1}]',
        '"tiered_pricing": [7]',
    ],
)
def test_a_row_of_another_form_is_refused_by_model(row: str) -> None:
    content = f'{{"m": {{"litellm_provider": "vendor", {row}}}}}'

    with pytest.raises(InvalidPriceList, match="m"):
        sources.read(source="litellm", content=content.encode())


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_no_list_or_too_large_is_refused_in_words(name: str) -> None:
    source, content, words = BOMBS[name]

    with pytest.raises(InvalidPriceList, match=words):
        sources.read(source=source, content=content())


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("component", "inputs"),
        ("per", "0"),
        ("per", "1e3"),
        ("per", "9999999999"),
        ("tier_from", "-1"),
        ("tier_from", "１"),
        ("currency", "usd"),
        ("currency", "ZZZ"),
        ("currency", "XAU"),
        ("window", "noon"),
        ("effective_from", "2026-13-01"),
        ("effective_from", "24.11.2026"),
        ("effective_from", "0001-01-01T00:00:00+10:00"),
        ("service_tier", "x" * 25),
        ("variant", "x" * 65),
    ],
)
def test_each_column_is_checked(column: str, value: str) -> None:
    row = {"provider": "vendor", "model": "m", "component": "input", "rate": "1", column: value}

    with pytest.raises(InvalidPriceList, match="vendor/m: "):
        read_csv(",".join(row.get(name, "") for name in COLUMNS))


def test_csv_says_a_rate_with_its_conditions() -> None:
    model = read_csv(
        "vendor,m,input,2.50,1000000,EUR,200000,batch,,Mo-Fr 16:30-00:30,2026-12-01",
        "vendor,m,input,3,1000000,EUR,0,batch,,Mo-Fr 16:30-00:30,2026-12-01",
        "vendor,m,output,10,1000000,EUR,0,standard,,,2026-12-01",
    )

    (price,) = model.prices
    assert price.effective_from == datetime(2026, 12, 1, tzinfo=UTC)
    assert price.currency == "EUR"
    assert price.rates == (
        Rate(Component.INPUT, Decimal("2.5"), 200_000, 10**6, "batch", "", "Mo-Fr 16:30-00:30"),
        Rate(Component.INPUT, Decimal(3), 0, 10**6, "batch", "", "Mo-Fr 16:30-00:30"),
        Rate(Component.OUTPUT, Decimal(10), 0, 10**6),
    )


@pytest.mark.parametrize(
    ("rows", "inherited"),
    [
        (["input,2,,,", "cache_write_5m,5,200000,,"], "cache_write_5m,2,,,"),
        (["input,2,,,", "cached_read,1,,,", "cached_read_audio,5,9,,"], "cached_read_audio,1,,,"),
        (["output,2,,,", "reasoning,3,,,", "reasoning,5,9,flex,"], "reasoning,3,,flex,"),
        (["input,2,,,", "input,1,,flex,", "cached_read,5,9,flex,"], "cached_read,1,,flex,"),
        (["input,2,,,", "input,5,9,,01:00-02:00"], "input,2,,,01:00-02:00"),
    ],
)
def test_a_class_with_a_rate_for_long_requests_only_costs_what_it_inherits_below(
    rows: list[str], inherited: str
) -> None:
    header = "provider,model,component,rate,tier_from,service_tier,window"
    told = [f"vendor,m,{row}" for row in (*rows, inherited)]

    read = read_csv(*told[:-1], header=header)

    assert read == read_csv(*told, header=header)


def test_a_class_that_inherits_nothing_below_its_bound_is_refused_by_name() -> None:
    header = "provider,model,component,rate,tier_from"

    with pytest.raises(InvalidPriceList, match="vendor/m: page has no rate from 0 input tokens on"):
        read_csv("vendor,m,input,1,", "vendor,m,page,1,200000", header=header)


def test_a_map_with_a_rate_for_long_requests_only_is_priced_below_too() -> None:
    row = (
        '{"m": {"litellm_provider": "gemini", "input_cost_per_token": 1.25e-6, '
        '"cache_creation_input_token_cost_above_200k_tokens": 2.5e-7}}'
    )

    (model,) = sources.read(source="litellm", content=row.encode()).models

    written = Rate(Component.CACHE_WRITE_5M, Decimal("0.00000125"))
    assert written in model.prices[0].rates


def test_a_rate_that_is_given_twice_is_refused() -> None:
    rows = ["vendor,m,input,1", "vendor,m,input,2"]

    with pytest.raises(InvalidPriceList, match="vendor/m: input is given twice"):
        read_csv(*rows, header="provider,model,component,rate")


def test_windows_that_hold_at_the_same_time_are_refused() -> None:
    rows = ["vendor,m,input,2,", "vendor,m,input,1,Mo 08:00-10:00", "vendor,m,input,3,09:00-11:00"]

    with pytest.raises(InvalidPriceList, match="vendor/m: window overlaps another one"):
        read_csv(*rows, header="provider,model,component,rate,window")


@pytest.mark.parametrize(
    ("row", "called"),
    [
        ('"gemini/veo-9": {"litellm_provider": "gemini"', "google/veo-9"),
        ('"vertex_ai/veo-9": {"litellm_provider": "vertex_ai-video-models"', "google/veo-9"),
        ('"bedrock/us/x": {"litellm_provider": "bedrock"', "aws/us/x"),
        ('"together_ai/a/b": {"litellm_provider": "together_ai"', "together/a/b"),
        ('"azure/gpt": {"litellm_provider": "azure"', "azure/gpt"),
        ('"a/b": {"litellm_provider": "unheard-of"', "unheard-of/a/b"),
    ],
)
def test_providers_get_the_price_books_names(row: str, called: str) -> None:
    content = f'{{{row}, "input_cost_per_token": 1e-6}}}}'

    (model,) = sources.read(source="litellm", content=content.encode()).models

    assert f"{model.provider}/{model.name}" == called


def test_the_seed_is_made_from_its_own_source_and_has_what_genai_lacks() -> None:
    path = Path(make_seed.__file__).with_name(sources.SEED_FILE)
    rows = litellm_checks.rows_of(path.read_bytes())
    models = sources.read_seed().models

    classes = {rate.component for model in models for rate in model.prices[0].rates}

    assert make_seed.make(rows) == rows
    assert len(rows) <= make_seed.ROWS_MAX
    assert classes >= {
        Component.IMAGES, Component.QUERY, Component.INPUT_AUDIO_MS, Component.OUTPUT_VIDEO_MS,
        Component.PAGE, Component.INPUT_CHARACTERS,
    }  # fmt: skip
    known = make_seed.known_to_genai()
    assert [each for each in models if known.charged_as(each)] == []


def test_the_notice_of_the_seeds_authors_lies_beside_it() -> None:
    notice = Path(make_seed.__file__).with_name("NOTICE").read_text()

    assert "Copyright (c) 2023 Berri AI" in notice
    assert "Permission is hereby granted" in notice


HELD = HeldModel(
    "vendor", "m", (), (),
    (
        HeldPrice(1, "csv", datetime(2026, 11, 24, 12, 0, 0, 5, UTC), None, "USD", (
            Rate(Component.INPUT, Decimal("2.5"), per=10**6),
            Rate(Component.INPUT, Decimal("1.25"), 0, 10**6, "batch"),
            Rate(Component.INPUT, Decimal("1.75"), 200_000, 10**6, "batch"),
            Rate(Component.IMAGES, Decimal("0.04"), variant="high/1024x1024"),
        )),
    ),
)  # fmt: skip


def test_what_is_exported_as_csv_is_read_as_the_same() -> None:
    (model,) = sources.read(source="csv", content=export.as_csv([HELD]).encode()).models

    assert model.prices[0].rates == HELD.prices[0].rates
    assert model.prices[0].effective_from == HELD.prices[0].start


def test_what_is_exported_as_a_map_is_read_as_the_same_but_for_what_it_cannot_say() -> None:
    text, lost = export.as_litellm([HELD], at=datetime(2026, 12, 1, tzinfo=UTC))

    (model,) = sources.read(source="litellm", content=text.encode()).models

    assert '"input_cost_per_token": 0.0000025' in text
    assert lost == 1
    assert {(rate.component, rate.service_tier, rate.rate) for rate in model.prices[0].rates} >= {
        (Component.INPUT, "", Decimal("0.0000025")),
        (Component.INPUT, "batch", Decimal("0.00000125")),
    }
    assert model.prices[0].effective_from == BEGINNING
