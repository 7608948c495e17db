"""Price proposals by the API."""

import json
import uuid
from typing import Any

import pytest

from spend.models import PriceProposal, Provider
from tests.api_client import Api, master
from tests.conftest import Cast
from tests.spend.price_lists import BAD_JSON, BAD_RATES, csv_with, litellm_with

PATH = "/api/v1/price-proposals"


@pytest.fixture
def vendor() -> str:
    return f"v-{uuid.uuid4().hex[:20]}"


def propose(content: bytes, source: str = "csv") -> Any:
    body = json.dumps({"source": source, "content": content.decode()})
    return master().post(PATH, body)


def test_a_list_is_proposed_shown_and_applied(vendor: str) -> None:
    made = propose(csv_with("0.0000025", provider=vendor)).content
    (newest, *_) = master().told(PATH, state="proposed")

    applied = master().post(f"{PATH}/{made['id']}/apply", "{}").content

    assert made["changes"][0]["rates"] == [["input", "0.0000025", 1, 0, "", "", ""]]
    assert newest["id"] == made["id"]
    assert "changes" not in newest
    assert applied["state"] == "applied"
    assert applied["outcome"]["applied"] == 1
    assert Provider.objects.filter(slug=vendor).exists()


def test_a_jump_is_left_out_unless_it_is_confirmed(vendor: str) -> None:
    first = propose(csv_with("1", provider=vendor)).content
    master().post(f"{PATH}/{first['id']}/apply", "{}")
    second = propose(csv_with("100", provider=vendor)).content

    body = json.dumps({"confirm": [f"{vendor}/m"]})
    applied = master().post(f"{PATH}/{second['id']}/apply", body).content

    assert second["changes"][0]["needs_confirmation"]
    assert applied["outcome"] == {"applied": 1, "left_out": [], "confirmed": [f"{vendor}/m"]}


def test_a_proposal_is_rejected_with_a_reason(vendor: str) -> None:
    made = propose(csv_with("1", provider=vendor)).content

    told = master().post(f"{PATH}/{made['id']}/reject", '{"note": "not ours"}').content

    assert (told["state"], told["note"]) == ("rejected", "not ours")
    assert master().post(f"{PATH}/{made['id']}/apply", "{}").error["param"] == "proposal"


def test_a_list_that_changes_nothing_is_told_so(vendor: str) -> None:
    made = propose(csv_with("0.001", provider=vendor)).content
    master().post(f"{PATH}/{made['id']}/apply", "{}")

    assert (
        propose(csv_with("0.001", provider=vendor)).error["message"] == "content: changes nothing"
    )


def test_nobody_else_sees_or_decides(cast: Cast) -> None:
    for key in ("", cast.key().secret):
        assert Api(key).get(PATH).status in {401, 403}
        assert Api(key).post(f"{PATH}/1/apply", "{}").status in {401, 403}


def test_a_proposal_that_there_is_not_is_not_found() -> None:
    for id in (2**62, 2**80):
        assert master().post(f"{PATH}/{id}/apply", "{}").status == 404


@pytest.mark.parametrize("rate", BAD_RATES)
def test_a_bad_rate_in_csv_is_a_400_that_names_it(rate: str, vendor: str) -> None:
    before = PriceProposal.objects.count()

    reply = propose(csv_with(rate, provider=vendor))

    assert (reply.status, reply.error["param"]) == (400, "content")
    assert f"{vendor}/m: rate is" in reply.error["message"]
    assert PriceProposal.objects.count() == before


@pytest.mark.parametrize("literal", BAD_JSON, ids=lambda text: text[:12])
def test_a_bad_rate_in_a_map_is_a_400_that_names_it(literal: str, vendor: str) -> None:
    reply = propose(litellm_with(literal, provider=vendor), source="litellm")

    assert (reply.status, reply.error["param"]) == (400, "content")
    assert "m: input_cost_per_token is" in reply.error["message"]


@pytest.mark.parametrize(("source", "content"), [("csv", None), ("genai-prices", "x")])
def test_only_lists_that_are_not_installed_have_content(source: str, content: str | None) -> None:
    reply = master().post(PATH, json.dumps({"source": source, "content": content}))

    assert reply.error["param"] == "content"
