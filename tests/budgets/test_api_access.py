"""Who gets in, and what everybody else is told."""

import io
import logging
from decimal import Decimal

import pytest
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest

from budgets.api.keys import KeyGenerate
from budgets.models import Change
from tests.api_client import Api, master, new_id
from tests.conftest import Cast


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
def test_the_master_key_is_taken_from_the_headers_of_every_kind_of_client(header: str) -> None:
    value = settings.MASTER_KEY
    given = f"Bearer {value}" if header == "authorization" else value

    assert Api().get("/key/list", headers={header: given}).status == 200


@pytest.mark.parametrize("key", ["", "sk-wrong-but-well-formed", "Bearer", "sk-é", "x" * 10_000])
def test_whoever_has_no_key_that_is_known_is_unauthorized(key: str) -> None:
    reply = Api(key).get("/key/list")

    assert reply.status == 401
    assert reply.error["code"] == "unauthorized"
    assert reply.error["type"] == "authentication_error"
    assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_a_virtual_key_may_not_manage_anything(cast: Cast) -> None:
    reply = Api(cast.key().secret).post("/key/generate", {"max_budget": 1})

    assert reply.status == 403
    assert reply.error["code"] == "forbidden"


def test_the_master_key_can_be_no_virtual_key() -> None:
    reply = master().post("/key/generate", {"key": settings.MASTER_KEY})

    assert reply.status == 400
    assert reply.error["param"] == "key"


def test_the_history_says_that_the_master_key_did_it(cast: Cast) -> None:
    budget_id = new_id("budget")
    master().made("/budget/new", budget_id=budget_id, organization_id=cast.organization.public_id)

    change = Change.objects.filter(after__public_id=budget_id).get()

    assert change.actor == "master key"


def test_an_address_without_anything_is_told_in_the_one_shape() -> None:
    reply = master().get("/key/nothing")

    assert (reply.status, reply.error["code"]) == (404, "not_found")


def test_a_wrong_method_is_told_in_the_one_shape() -> None:
    reply = master().get("/key/generate")

    assert (reply.status, reply.error["code"]) == (405, "method_not_allowed")
    assert reply.headers["Allow"] == "POST"


def test_a_body_that_is_no_json_is_refused_by_its_type(cast: Cast) -> None:
    response = master().client.post(
        "/key/generate",
        data="max_budget=1",
        content_type="application/x-www-form-urlencoded",
        headers={"authorization": f"Bearer {settings.MASTER_KEY}"},
    )

    assert response.status_code == 415
    assert response.json()["error"]["code"] == "unsupported_media_type"


def test_a_body_that_is_too_large_is_refused() -> None:
    reply = master().post("/key/generate", '{"key_alias": "' + "x" * 2**21 + '"}')

    assert (reply.status, reply.error["code"]) == (413, "payload_too_large")


def test_a_body_in_chunks_is_read_though_no_length_is_given(cast: Cast) -> None:
    """Or a key with a limit would become one without."""
    headers = {"authorization": f"Bearer {settings.MASTER_KEY}", "content-type": "application/json"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/key/generate",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    response = KeyGenerate.as_view()(ASGIRequest(scope, io.BytesIO(b'{"max_budget": 1.5}')))

    assert response.data["max_budget"] == Decimal("1.5")


def test_a_limit_in_the_query_of_a_post_is_refused_not_ignored() -> None:
    reply = master().post("/key/generate?max_budget=1", {})

    assert reply.status == 400
    assert reply.error["param"] == "max_budget"


def test_the_answer_is_json_whatever_is_accepted() -> None:
    reply = master().get("/key/list", headers={"accept": "text/event-stream"})

    assert reply.status == 200


def test_an_unknown_host_is_told_in_the_one_shape() -> None:
    response = master().client.get("/key/list", headers={"host": "elsewhere.example"})

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_host"


def test_no_secret_is_logged_or_told_when_a_request_fails(
    cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    secret = cast.key().secret
    caplog.set_level(logging.DEBUG)

    replies = [
        master().get("/key/info", {"key": f"{secret}x"}),
        master().get("/key/info", {"key": secret, "nonsense": "1"}),
        master().post(f"/key/{secret}x/regenerate", {}),
        master().post("/key/delete", {"keys": [f"{secret}x"]}),
        Api(f"{secret}x").get("/key/list"),
    ]

    assert [reply.status for reply in replies] == [404, 400, 404, 404, 401]
    told = [reply.text for reply in replies] + [
        repr(vars(record)) for record in caplog.records if record.name != "django.db.backends"
    ]
    assert not any(secret[:20] in text for text in told)
