"""Prices, discounts and margins through both doors: charged exactly, to the last unit."""

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from budgets.models import Organization, Team
from budgets.services import tenancy
from budgets.services.accounts import Terms
from budgets.services.keys import Issued, Owner, issue_key
from gateway.models import Deployment
from gateway.services import create_deployment, delete_deployment
from spend.models import Model, PriceVersion, SpendEvent
from spend.services import adjustments, prices
from spend.services.adjustments import Wanted
from tests.conftest import Cast
from tests.gateway.support import CHAT, chat, recorded
from tests.spend.price_support import DAY, new_model, now, priced, rate, wanted
from tests.stack import Stack

USAGE = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}
LIST_COST = Decimal("0.0035")
"""1,000 × 2.50 / 1M + 100 × 10 / 1M."""


@pytest.fixture
def model(stack: Stack) -> Iterator[Model]:
    """A model with prices of its own; the sandbox serves it under another provider's name."""
    made = new_model(name=CHAT, context_window=8_192, output_tokens_max=1_024)
    base = Deployment.objects.filter(model_name=CHAT).values_list("api_base", flat=True)[0]
    values = {
        "model_name": made.provider.slug, "provider": made.provider.slug, "upstream_model": CHAT,
        "api_base": base,
    }  # fmt: skip
    deployment = create_deployment(values=values, api_key="sk-sandbox")
    yield made
    delete_deployment(deployment=deployment)


def key_of(team: Team) -> Issued:
    return issue_key(owner=Owner(team.organization, team), values={}, terms=Terms(), now=now())


def team_of(organization: Organization) -> Team:
    values = {"public_id": f"team-{uuid.uuid4().hex}", "name": "Other"}
    return tenancy.create_team(organization=organization, values=values, terms=Terms(), now=now())


def adjust(**values: Any) -> int:
    made = adjustments.create_adjustment(wanted=Wanted(**{"effective_from": now(), **values}))
    return made.pk


def charged(door: str, key: Issued, model: Model) -> SpendEvent:
    answer = chat(
        door, key.secret, model=model.provider.slug, sandbox={"reply": "Hi", "usage": USAGE}
    )
    assert answer.status == 200, answer
    row = recorded(answer.headers["x-request-id"])
    assert row.cost == Decimal(answer.headers["x-costplatform-cost"])
    return row


def test_a_discount_and_margins_are_charged_to_the_last_unit(
    door: str, cast: Cast, model: Model
) -> None:
    version = priced(model)
    adjustment = adjust(
        organization=cast.organization, discount_percent="12.5", margin_percent="3.3",
        margin_per_request="0.000000007",
    )  # fmt: skip

    row = charged(door, cast.key("1"), model)

    # 0.0035 × 0.875 × 1.033 + 0.000000007, and half a unit to the even one
    assert row.cost == Decimal("0.0031635695")
    assert row.amount_units == 3_163_570
    assert row.price_reference == f"price:{version.pk}*adjustment:{adjustment}"


def test_an_adjustment_of_one_team_touches_no_other(door: str, cast: Cast, model: Model) -> None:
    priced(model)
    adjust(team=cast.team, discount_percent="50")

    own = charged(door, key_of(cast.team), model)
    others = charged(door, key_of(team_of(cast.organization)), model)
    outsiders = charged(door, key_of(team_of(cast.outsider)), model)

    assert own.cost == LIST_COST / 2
    assert (others.cost, outsiders.cost) == (LIST_COST, LIST_COST)


def test_the_most_particular_adjustment_applies_alone(door: str, cast: Cast, model: Model) -> None:
    priced(model)
    key = key_of(cast.team)
    steps = (
        ({"organization": cast.organization, "discount_percent": "10"}, "0.9"),
        (
            {
                "organization": cast.organization,
                "provider": model.provider,
                "discount_percent": "20",
            },
            "0.8",
        ),
        ({"team": cast.team, "discount_percent": "30"}, "0.7"),
        ({"team": cast.team, "provider": model.provider}, "1"),
    )

    for scope, share in steps:
        adjust(**scope)
        assert charged(door, key, model).cost == LIST_COST * Decimal(share), scope


def test_an_adjustment_that_ended_is_charged_no_more(door: str, cast: Cast, model: Model) -> None:
    priced(model)
    key = cast.key("1")
    made = adjustments.create_adjustment(
        wanted=Wanted(effective_from=now(), organization=cast.organization, discount_percent="100")
    )
    before = charged(door, key, model).cost

    at = now()
    adjustments.end_adjustment(adjustment=made, at=at, now=at)

    assert (before, charged(door, key, model).cost) == (Decimal(0), LIST_COST)


def test_an_organization_has_its_own_price_and_no_other_has_it(
    door: str, cast: Cast, model: Model
) -> None:
    priced(model)
    own = priced(model, rate(rate="1.000001"), rate("output", "8"), organization=cast.organization)

    row = charged(door, cast.key("1"), model)

    assert (row.cost, row.amount_units) == (Decimal("0.001800001"), 1_800_001)
    assert row.price_reference == f"price:{own.pk}"
    assert charged(door, key_of(team_of(cast.outsider)), model).cost == LIST_COST


def test_a_price_that_ended_gives_way_and_then_the_model_is_refused(
    door: str, cast: Cast, model: Model
) -> None:
    for_all = priced(model)
    own = priced(model, rate(rate="1"), rate("output", "8"), organization=cast.organization)
    key = cast.key("1")
    costs = [charged(door, key, model).cost]

    for version in (own, for_all):
        at = now()
        prices.end_version(version=version, at=at, now=at)
        if version == own:
            costs.append(charged(door, key, model).cost)
    answer = chat(door, key.secret, model=model.provider.slug)

    assert costs == [Decimal("0.0018"), LIST_COST]
    assert (answer.status, answer.error["code"]) == (400, "unpriced_model")


def test_a_price_that_begins_later_is_not_charged_yet(door: str, cast: Cast, model: Model) -> None:
    priced(model)
    priced(model, rate(rate="99"), rate("output", "99"), effective_from=now() + DAY)

    assert charged(door, cast.key("1"), model).cost == LIST_COST


def test_a_window_is_charged_while_it_is_open(door: str, cast: Cast, model: Model) -> None:
    closed = f"{_at(hours=6)}-{_at(hours=12)}"
    priced(
        model, rate(), rate("output", "10"), rate(rate="1.25", window=_open()),
        rate("output", "1", window=closed),
    )  # fmt: skip

    assert charged(door, cast.key("1"), model).cost == Decimal("0.00225")


def test_a_correction_counts_at_once_and_leaves_what_was_charged(
    door: str, cast: Cast, model: Model
) -> None:
    wrong = priced(model)
    key = cast.key("1")
    before = charged(door, key, model)

    right = prices.correct_version(
        version=wrong,
        wanted=wanted(
            model, rate(rate="3"), rate("output", "10"), effective_from=wrong.effective_from
        ),
        now=now(),
    )
    after = charged(door, key, model)

    assert (before.cost, after.cost) == (LIST_COST, Decimal("0.004"))
    assert after.price_reference == f"price:{right.pk}"
    assert SpendEvent.objects.get(id=before.id).cost == LIST_COST
    assert PriceVersion.objects.get(pk=wrong.pk).rates.count() == 2


def _open() -> str:
    """Return a window that is open now and will be for hours."""
    return f"{_at(hours=-2)}-{_at(hours=2)}"


def _at(*, hours: int) -> str:
    at: datetime = now() + timedelta(hours=hours)
    return f"{at:%H:00}"
