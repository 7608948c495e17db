"""What providers document that they answer: each payload is read into the classes beside it."""

from typing import Any

import pytest

from spend.components import Component
from tests.spend.usage_support import (
    FLAVOURS,
    STREAMED,
    cases,
    events_of,
    read,
    read_streamed,
    totals,
)

pytestmark = pytest.mark.no_servers

ALL = list(cases())
STREAMABLE = [
    (name, case) for name, case in ALL if name in STREAMED and case["classes"].get("images", 1) == 1
]  # an image is streamed alone


def name_of(value: object) -> str | None:
    return value["source"] if isinstance(value, dict) else None


def test_there_are_payloads_of_every_shape_and_of_many_providers() -> None:
    providers = {case["provider"] for _, case in ALL}

    assert {name for name, _ in ALL} == set(FLAVOURS)
    assert len(ALL) >= 100
    assert providers >= {
        "OpenAI", "Azure", "Anthropic", "Gemini", "Bedrock", "Mistral", "DeepSeek", "xAI", "Groq",
        "Together", "Fireworks", "Cohere", "Jina", "Voyage", "OpenRouter", "Perplexity", "vLLM",
        "Ollama", "Vertex", "LiteLLM",
    }  # fmt: skip
    assert all(case["source"].startswith("https://") for _, case in ALL)


@pytest.mark.parametrize(("name", "case"), ALL, ids=name_of)
def test_payload_is_read_into_its_classes(name: str, case: dict[str, Any]) -> None:
    reading = read(name, case["answer"], case.get("request", {}))

    assert reading is not None
    assert {component.value: n for component, n in reading.usage.items()} == case["classes"]
    assert reading.was_clamped == case.get("was_clamped", False)
    assert reading.service_tier == case.get("service_tier", "")
    assert reading.variant == case.get("variant", "")
    assert reading.region == case.get("region", "")


@pytest.mark.parametrize(("name", "case"), ALL, ids=name_of)
def test_classes_of_a_payload_add_up_to_what_it_tells_in_all(
    name: str, case: dict[str, Any]
) -> None:
    reading = read(name, case["answer"], case.get("request", {}))

    assert reading is not None
    assert totals(reading) == (case["input_total"], case["output_total"])
    assert all(n > 0 for n in reading.usage.values())
    assert reading.usage[Component.REQUEST] == 1


@pytest.mark.parametrize(("name", "case"), STREAMABLE, ids=name_of)
def test_streamed_payload_is_read_as_a_whole_one(name: str, case: dict[str, Any]) -> None:
    request = case.get("request", {})
    events = events_of(name, case["answer"])

    assert read_streamed(name, events, request) == read(name, case["answer"], request)
