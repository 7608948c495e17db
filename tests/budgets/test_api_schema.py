"""The API describes itself, completely and offline."""

import json
from typing import Any

import pytest
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from budgets.api.answers import IssuedKey, TeamRow
from tests.api_client import master
from tests.test_bad_input import ALL


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    GENERATOR_STATS.reset()
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    assert not GENERATOR_STATS, "the description has warnings"
    return made


def test_the_description_is_valid_openapi(schema: dict[str, Any]) -> None:
    validate_schema(json.loads(json.dumps(schema, default=str)))


def test_every_field_of_every_endpoint_is_described(schema: dict[str, Any]) -> None:
    for endpoint in ALL:
        path = f"/{endpoint.template}"
        described = schema["paths"][path][endpoint.method]
        if endpoint.is_asked:
            names = {
                each["name"] for each in described.get("parameters", ()) if each["in"] == "query"
            }
        elif "requestBody" not in described:
            names = set()
        else:
            content = described["requestBody"]["content"]["application/json"]["schema"]
            component = content["$ref"].rpartition("/")[2]
            names = set(schema["components"]["schemas"][component].get("properties", {}))

        assert set(endpoint.takes().fields) == names - {"key"} | (
            {"key"} & set(endpoint.takes().fields)
        )


@pytest.mark.parametrize(("name", "answer"), [("IssuedKey", IssuedKey), ("TeamRow", TeamRow)])
def test_every_field_of_an_answer_is_described(
    schema: dict[str, Any], name: str, answer: Any
) -> None:
    assert set(schema["components"]["schemas"][name]["properties"]) == set(answer().fields)


def test_money_is_a_number_and_words_are_told(schema: dict[str, Any]) -> None:
    properties = schema["components"]["schemas"]["GenerateKey"]["properties"]

    assert properties["max_budget"]["type"] == "number"
    assert schema["components"]["schemas"]["EnforcementEnum"]["enum"] == [
        "strict", "adaptive", "observe",
    ]  # fmt: skip


def test_the_description_needs_no_key_and_its_page_no_network() -> None:
    response = master().client.get("/schema/")
    page = master().client.get("/docs/")

    assert (response.status_code, page.status_code) == (200, 200)
    text = page.content.decode()
    assert "drf_spectacular_sidecar" in text
    assert "https://" not in text
