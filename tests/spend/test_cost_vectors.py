"""The reference cases: reported usage and a row of a price map make the expected cost."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from spend import pricebook, pricing
from spend.catalogues import litellm
from spend.components import Component
from spend.pricebook import Version
from spend.rates import Conditions, Price, Rate, adjusted
from spend.usage import (
    Reading,
    anthropic_messages,
    ocr,
    openai_batch,
    openai_chat,
    openai_embeddings,
    openai_images,
    openai_responses,
    openai_speech,
    openai_transcription,
    rerank,
    search,
    video,
)

pytestmark = pytest.mark.no_servers

TEXT: Final = (Path(__file__).parent.parent / "data" / "cost.json").read_text()
VECTORS: Final = json.loads(TEXT)
ROWS: Final = VECTORS["price_rows"]
# Rows of the same map that a case with a size and a quality needs beside its model's.
SIZES: Final = {
    f"{quality}/{size}/gpt-image-1": {
        "litellm_provider": "openai", "mode": "image_generation", "input_cost_per_image": rate,
    }
    for quality, size, rate in (
        ("high", "1024-x-1024", 0.167), ("high", "1024-x-1536", 0.25),
        ("low", "1024-x-1024", 0.011), ("medium", "1024-x-1024", 0.042),
    )
}  # fmt: skip
PLACES: Final = Decimal("1E-12")
NOON: Final = datetime.fromisoformat("2026-07-27T12:00:00+00:00")
Case = Mapping[str, Any]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["id"])
def test_cost_is_the_one_of_the_reference_to_twelve_places(case: Case) -> None:
    reading = read(case)
    price = price_of(case)
    tier, _ = price.tier_of(served=reading.service_tier, asked=asked_tier(case))

    cost = pricing.cost(
        price=price,
        usage=reading.usage,
        conditions=Conditions(tier, variant_of(case, reading), region_of(case, reading)),
    )

    lines = [line for line in cost.lines if is_asked_for(case, line)]
    assert sum((line.amount for line in lines), Decimal(0)).quantize(PLACES) == total(case)
    assert cost.amount == sum((line.amount for line in cost.lines), Decimal(0))
    assert all(line.amount >= 0 for line in cost.lines)


def total(case: Case) -> Decimal:
    return Decimal(str(case["total_usd"]))


def is_asked_for(case: Case, line: pricing.Line) -> bool:
    """Cases of searches tell what these cost, without the tokens."""
    searches = (Component.WEB_SEARCH, Component.SEARCHED_REQUEST)
    return case["dimension"] != "web_search_requests" or line.component in searches


def read(case: Case) -> Reading:
    """Read the case's usage as the answer of its route reports it."""
    given = case["input"]
    if "custom_cost_per_second" in given or "cost_per_second" in row_of(case):
        return Reading({Component.COMPUTE_MS: given["response_time_ms"]}, was_clamped=False)
    if case["call_type"] in ROUTES:
        found = ROUTES[case["call_type"]](given)
    elif case["call_type"] == "aretrieve_batch":
        found = openai_batch.read({"usage": given["usage"]})
    elif "response" in given:
        found = openai_chat.read(given["response"])
    else:
        reader = READERS.get(given.get("usage_style"), openai_chat)
        if "cache_read_input_tokens" in given["usage"]:
            reader = anthropic_messages
        found = reader.read({"usage": given["usage"]})
    assert found is not None
    return found


def images(given: Mapping[str, Any]) -> Reading | None:
    if "usage" in given:
        return openai_images.read({"usage": given["usage"]})
    number: int = given.get("n_images_returned") or given["n"]
    request = {name: given[name] for name in ("size", "quality") if given.get(name)}
    return openai_images.read({"data": [{} for _ in range(number)]}, request=request)


def videos(given: Mapping[str, Any]) -> Reading | None:
    request = {"seconds": given["duration_seconds"], "size": given.get("video_resolution", "")}
    return video.read({}, request=request)


READERS: Final[Mapping[str | None, ModuleType]] = {
    "openai_responses": openai_responses, "anthropic": anthropic_messages,
}  # fmt: skip
ROUTES: Final[Mapping[str, Callable[[Mapping[str, Any]], Reading | None]]] = {
    "embedding": lambda given: openai_embeddings.read({"usage": given["usage"]}),
    "rerank": lambda given: rerank.read({"meta": {"billed_units": given["billed_units"]}}),
    "speech": lambda given: openai_speech.read(
        {}, request={"input": "x" * given["prompt_characters"]}
    ),
    "transcription": lambda given: openai_transcription.read({"duration": given["audio_seconds"]}),
    "video_generation": videos,
    "ocr": lambda given: ocr.read({"usage_info": {"pages_processed": given["pages_processed"]}}),
    "search": lambda given: search.read({}, request={"query": ["q"] * given["number_of_queries"]}),
    "image_generation": images,
}


def row_of(case: Case) -> Mapping[str, Any]:
    row: Mapping[str, Any] = ROWS.get(case["price_key"]) or {}
    return row


def price_of(case: Case) -> Price:
    given = case["input"]
    if "custom_cost_per_token" in given:
        fields = {name: str(rate) for name, rate in given["custom_cost_per_token"].items()}
        own = pricebook.overriding(fields, reference="deployment:d")
        assert own is not None
        return own
    if "custom_cost_per_second" in given:
        second = Decimal(str(given["custom_cost_per_second"]))
        rate = Rate(Component.COMPUTE_MS, second, per=1_000)
        return Price("USD", (rate,), "own")
    return charged(listed(case), case)


def listed(case: Case) -> Price:
    rows = {case["price_key"]: row_of(case)} | SIZES
    models = litellm.read(json.dumps(rows).encode(), version="test").models
    price = models[0].prices[0]
    at = datetime.fromisoformat(case["input"].get("billing_time_utc", NOON.isoformat()))
    version = Version(
        price.effective_from, None, None, "USD", price.rates, "listed", price.region_factors
    )
    return version.price_at(at)


def charged(price: Price, case: Case) -> Price:
    """Apply the case's discounts and margins: one for the provider before one for all."""
    discounts = case["input"].get("cost_discount_config", {})
    margins = case["input"].get("cost_margin_config", {})
    own, everybody = case["provider"], "global"
    discount = Decimal(str(discounts.get(own, discounts.get(everybody, 0))))
    margin = Decimal(str(margins.get(own, margins.get(everybody, 0))))
    factor = pricebook.factor_of(discount=discount * 100, margin=margin * 100)
    return adjusted(price, factor=factor, reference="adjustment:1")


def asked_tier(case: Case) -> str | None:
    given = case["input"]
    tier: str | None = given.get("service_tier", given.get("request_service_tier"))
    return tier


def variant_of(case: Case, reading: Reading) -> str:
    named = litellm.ROW_NAME.fullmatch(case["price_key"] or "")
    if named:
        return f"{named['quality']}/{named['size'].replace('-x-', 'x')}"
    return reading.variant or str(case["input"].get("video_resolution", ""))


def region_of(case: Case, reading: Reading) -> str:
    """A deployment says where it is; an answer may."""
    given = case["input"]
    if given.get("vertex_location") not in {None, "global"}:
        return "regional"
    return given.get("data_residency") or reading.region
