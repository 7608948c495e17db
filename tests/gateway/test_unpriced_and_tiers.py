"""Models without a price, and service tiers: refused, or charged right; through the real doors."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from gateway.models import Deployment
from gateway.services import create_deployment, update_deployment
from spend import rerating
from spend.components import Component
from spend.models import Model, PriceRate, PriceVersion, Provider, Rerating, UnpricedModel
from tests.conftest import Cast
from tests.gateway.support import CHAT, HELLO, chat, post, recorded
from tests.spend.support import rows_of
from tests.stack import Stack, wait_until

USAGE = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def name() -> str:
    return f"m-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def allowing(stack: Stack) -> Iterator[str]:
    """A web process where the operator lets unpriced models pass."""
    yield stack.start_web("allowing", processes=1, GATEWAY_ON_UNPRICED="allow")
    stack.stop("allowing-0")


def deploy(name: str) -> Deployment:
    """Return a deployment of the sandbox whose price key is (``name``, ``CHAT``)."""
    sandbox = Deployment.objects.get(public_id=CHAT)
    values = {
        "public_id": name, "model_name": name, "provider": name, "upstream_model": CHAT,
        "api_base": sandbox.api_base,
    }  # fmt: skip
    return create_deployment(values=values, api_key="sk-sandbox")


def price(name: str, *rates: tuple[Component, str, str]) -> None:
    """Give the deployment's model rates: (class, service tier, rate)."""
    provider, _ = Provider.objects.get_or_create(slug=name, defaults={"name": name})
    model = Model.objects.create(
        provider=provider, name=CHAT, context_window=10_000, output_tokens_max=1_000
    )
    version = PriceVersion.objects.create(model=model, effective_from=BEGINNING, source="test")
    for component, tier, rate in rates:
        PriceRate.objects.create(
            version=version, component=component, service_tier=tier, rate=Decimal(rate)
        )


def queued(name: str) -> UnpricedModel | None:
    return UnpricedModel.objects.filter(provider=name).first()


TIERS = (
    (Component.INPUT, "", "0.00001"), (Component.OUTPUT, "", "0.0001"),
    (Component.INPUT, "flex", "0.000005"), (Component.OUTPUT, "flex", "0.00005"),
    (Component.INPUT, "priority", "0.00002"), (Component.OUTPUT, "priority", "0.0002"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "served", "cost"),
    [
        (None, None, "0.02"),
        ("flex", "flex", "0.01"),
        ("priority", "priority", "0.04"),
        ("priority", "default", "0.02"),
        ("auto", "priority", "0.04"),
        ("fast", "fast", "0.04"),
    ],
)
def test_the_service_tier_that_was_served_is_charged(
    asked: str | None, served: str | None, cost: str, name: str, door: str, cast: Cast
) -> None:
    deploy(name)
    price(name, *TIERS)
    script = {"usage": USAGE} | ({"service_tier": served} if served else {})
    fields = {"service_tier": asked} if asked else {}

    answer = chat(door, cast.key("9").secret, model=name, sandbox=script, **fields)

    assert Decimal(answer.headers["x-costplatform-cost"]) == Decimal(cost)
    row = recorded(answer.headers["x-request-id"])
    assert row.cost == Decimal(cost)
    assert row.service_tier == {"fast": "priority", "default": ""}.get(served or "", served or "")


@pytest.mark.parametrize("served", ["ul\x00tra", "ultra" * 50, "\u2028"])
def test_a_service_tier_of_an_odd_name_leaves_the_row_as_it_is(
    served: str, name: str, door: str, cast: Cast
) -> None:
    deploy(name)
    price(name, *TIERS)

    answer = chat(
        door, cast.key("9").secret, model=name, sandbox={"usage": USAGE, "service_tier": served}
    )

    row = recorded(answer.headers["x-request-id"])
    assert row.cost == Decimal("0.02")
    assert row.usage["output"] == 100
    assert row.service_tier == served.strip().replace("\x00", "")[:24]
    assert "damaged" not in row.flags


def test_a_strict_budget_holds_the_dearer_of_both_tiers(name: str, door: str, cast: Cast) -> None:
    deploy(name)
    price(name, *TIERS)

    # 1,000 tokens at most are written: 0.1 plainly, 0.2 at the dearer tier.
    statuses = [
        chat(door, cast.key("0.15").secret, model=name, **fields).status
        for fields in ({"service_tier": "default"}, {"service_tier": "flex"},
                       {"service_tier": "priority"}, {"service_tier": "auto"}, {})
    ]  # fmt: skip

    # Who names none leaves it to the provider.
    assert statuses == [200, 200, 429, 429, 429]


def test_a_strict_budget_holds_the_searches_that_a_request_may_make(
    name: str, door: str, cast: Cast
) -> None:
    deploy(name)
    price(name, *TIERS[:2], (Component.WEB_SEARCH, "", "0.035"))

    statuses = [
        chat(door, cast.key(limit).secret, model=name, web_search_options={}).status
        for limit in ("0.5", "0.6")
    ]

    # 10,000 tokens of context and 1,000 written, 0.1 each, and ten searches.
    assert statuses == [429, 200]


@pytest.mark.parametrize("tier", ["ultra", "batch"])
def test_a_service_tier_without_a_price_is_refused(
    tier: str, name: str, door: str, stack: Stack, cast: Cast
) -> None:
    deploy(name)
    price(name, *TIERS)
    before = len(stack.served())

    answer = chat(door, cast.key("9").secret, model=name, service_tier=tier)

    assert (answer.status, answer.error["param"]) == (400, "service_tier")
    assert len(stack.served()) == before


def test_refusals_for_want_of_a_price_are_counted_by_model(
    name: str, door: str, stack: Stack, cast: Cast
) -> None:
    deploy(name)
    key = cast.key("9")
    before = len(stack.served())

    codes = [chat(door, key.secret, model=name).error["code"] for _ in range(3)]

    assert codes == ["unpriced_model"] * 3
    assert len(stack.served()) == before
    wait_until(lambda: (found := queued(name)) is not None and found.refused == 3, seconds=15)


def test_where_the_operator_allows_it_unpriced_requests_wait_and_are_rated_later(
    name: str, allowing: str, cast: Cast
) -> None:
    deploy(name)
    key = cast.key("9")
    start = datetime.now(UTC) - timedelta(minutes=1)

    answers = [chat(allowing, key.secret, model=name, sandbox={"usage": USAGE}) for _ in range(2)]

    assert [answer.headers["x-costplatform-cost"] for answer in answers] == ["0", "0"]
    rows = [recorded(answer.headers["x-request-id"]) for answer in answers]
    assert [(row.flags, row.price_reference) for row in rows] == [(["unpriced"], "unpriced")] * 2
    waiting = queued(name)
    assert waiting is not None
    assert (waiting.waiting, waiting.input_tokens, waiting.output_tokens) == (2, 2_000, 200)

    price(name, *TIERS)
    made = Rerating.objects.create(
        provider=name, upstream_model=CHAT, start=start, end=start + timedelta(hours=1),
        reason="it has a price now", requested_by="test", created_at=start,
    )  # fmt: skip
    rerating.apply(made, clock=lambda: datetime.now(UTC))

    for row in rows:
        assert rows_of(str(row.id)) == [("usage", 0), ("adjustment", 20_000_000)]
    waiting.refresh_from_db()
    assert waiting.settled_at is not None


def test_an_explicit_zero_is_a_price_and_nothing_waits(name: str, door: str, cast: Cast) -> None:
    deploy(name)
    price(name, (Component.INPUT, "", "0"), (Component.OUTPUT, "", "0"))

    answer = chat(door, cast.key("0").secret, model=name)

    assert answer.status == 200
    assert recorded(answer.headers["x-request-id"]).flags == []
    assert queued(name) is None


def test_an_estimate_queues_no_model_and_takes_no_missing_price_for_0(
    name: str, stack: Stack, allowing: str, cast: Cast
) -> None:
    deploy(name)
    secret, body = cast.key("1").secret, {"model": name, "messages": HELLO}

    refused = post(stack.lane, secret, body, path="/v1/estimate")
    allowed = post(allowing, secret, body, path="/v1/estimate").json
    chat(stack.lane, secret, model=name)
    wait_until(lambda: queued(name) is not None, seconds=15)

    assert (refused.status, refused.error["code"]) == (400, "unpriced_model")
    assert (allowed["min"], allowed["max"], allowed["would_be_admitted"]) == (None, None, True)
    model = queued(name)
    assert model is not None
    assert model.refused == 1


@pytest.mark.parametrize(("region", "factor"), [("", "1"), ("eu", "1.1"), ("us", "1")])
def test_a_deployments_region_multiplies_its_price(
    region: str, factor: str, name: str, door: str, cast: Cast
) -> None:
    deployment = deploy(name)
    price(name, *TIERS)
    version = PriceVersion.objects.get(model__provider__slug=name)
    PriceVersion.objects.filter(pk=version.pk).update(region_factors={"eu": "1.1"})
    update_deployment(deployment=deployment, values={"region": region}, api_key="sk-sandbox")

    answer = chat(door, cast.key("9").secret, model=name, sandbox={"usage": USAGE})

    cost = Decimal("0.02") * Decimal(factor)
    assert Decimal(answer.headers["x-costplatform-cost"]) == cost
    row = recorded(answer.headers["x-request-id"])
    assert (row.cost, row.region, row.flags) == (cost, region, [])
