"""All ten scopes bind, with the same comparison, and the refusal names the one that refused."""

import uuid
from decimal import Decimal
from typing import Any

import pytest

from budgets.changes import change
from budgets.models import AccountKind, BudgetTemplate, EndUser
from budgets.services import accounts
from budgets.services.accounts import Terms
from budgets.services.budgets import create_budget, update_budget
from gateway.models import Deployment
from gateway.services import create_deployment
from tests.conftest import Cast
from tests.gateway.support import CHAT, HELLO, PER_REQUEST, Answer, chat, post
from tests.scopes import SCOPES, Passing, limited, strict
from tests.spend.support import now
from tests.stack import Stack

PRICED_BY_THEMSELVES = {"model", "provider", "deployment", "holder_model"}


def ask(url: str, passing: Passing, **fields: Any) -> Answer:
    return post(url, passing.secret, {"messages": HELLO} | passing.fields | fields)


@pytest.mark.parametrize("scope", SCOPES)
def test_exhausted_scope_refuses_and_is_named(scope: str, door: str, cast: Cast) -> None:
    passing = limited(scope, cast=cast, terms=strict("0.02"))

    answers = [ask(door, passing) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    error = answers[2].error
    assert (error["code"], error["budget"]["account"]["kind"]) == ("budget_exceeded", passing.kind)
    if passing.account is not None:
        assert error["budget"]["account"]["id"] == str(passing.account.id)
    assert answers[2].headers["x-should-retry"] == "false"


@pytest.mark.parametrize("scope", SCOPES)
def test_limit_of_zero_refuses_the_first_request_of_every_scope(
    scope: str, stack: Stack, cast: Cast
) -> None:
    passing = limited(scope, cast=cast, terms=strict("0"))

    answer = ask(stack.lane, passing)

    assert (answer.status, answer.error["code"]) == (429, "budget_exceeded")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("rate", ["rpm_limit", "tpm_limit", "max_parallel_requests"])
def test_rates_bind_in_every_scope(scope: str, rate: str, stack: Stack, cast: Cast) -> None:
    passing = limited(scope, cast=cast, terms=Terms(**{rate: 0}))  # type: ignore[arg-type]  # one of three numbers

    answer = ask(stack.lane, passing)

    assert answer.status == 429
    assert answer.error["code"] in {"rate_limit_exceeded", "too_many_parallel_requests"}
    assert answer.error["budget"]["account"]["kind"] == passing.kind
    # Nothing at all may pass: no waiting helps.
    assert answer.headers["x-should-retry"] == "false"
    assert answer.error["budget"]["remedy"] == "raise"


@pytest.mark.parametrize("scope", ["model", "provider", "deployment"])
def test_what_all_organizations_share_tells_no_one_what_others_spend(
    scope: str, stack: Stack, cast: Cast
) -> None:
    passing = limited(scope, cast=cast, terms=strict("0.01"))
    ask(stack.lane, passing)

    refused = ask(stack.lane, passing)
    budget = refused.error["budget"]

    assert (budget["limit"], budget["spent"], budget["reserved"]) == (None, None, None)
    assert "0.01" not in refused.error["message"]


@pytest.mark.parametrize("scope", [s for s in SCOPES if s not in PRICED_BY_THEMSELVES])
def test_free_request_passes_an_exhausted_scope_and_a_paid_one_does_not(
    scope: str, stack: Stack, cast: Cast
) -> None:
    passing = limited(scope, cast=cast, terms=strict("0.01"))
    ask(stack.lane, passing)
    free = free_model(cast)

    paid = ask(stack.lane, passing)
    unpaid = ask(stack.lane, passing, model=free)

    assert (paid.status, unpaid.status) == (429, 200)


def free_model(cast: Cast) -> str:

    like = Deployment.objects.filter(model_name=CHAT).order_by("pk")[0]
    name = f"free-{uuid.uuid4().hex[:12]}"
    values = {
        "organization": cast.organization, "model_name": name, "provider": like.provider,
        "upstream_model": like.upstream_model, "api_base": like.api_base,
        "price_override": {"input_cost_per_token": "0", "output_cost_per_token": "0"},
        "input_tokens_max": 1_000_000, "output_tokens_max": 4_096,
    }  # fmt: skip
    create_deployment(values=values, api_key="sk-sandbox")
    return name


def test_day_and_month_at_once_bind_whichever_is_spent_first(door: str, cast: Cast) -> None:
    issued = cast.key()
    account = issued.key.account
    with change(scope=cast.organization.pk):
        accounts.set_private_budget(
            account=account, terms=strict("0.05", duration="1mo"), now=now()
        )
        accounts.set_windows(account=account, windows=[strict("0.02", duration="1d")], now=now())

    answers = [chat(door, issued.secret, model=PER_REQUEST) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].error["budget"]["limit"] == "0.02"


def test_budget_attached_in_mid_period_counts_what_was_spent_before(door: str, cast: Cast) -> None:
    issued = cast.key()
    for _ in range(3):
        assert chat(door, issued.secret, model=PER_REQUEST).status == 200

    with change(scope=cast.organization.pk):
        accounts.set_private_budget(
            account=issued.key.account, terms=strict("0.04", duration="1d"), now=now()
        )
        accounts.set_model_budgets(
            holder=cast.organization.account,
            terms={PER_REQUEST: strict("0.04", duration="1mo")},
            now=now(),
        )
    answers = [chat(door, issued.secret, model=PER_REQUEST) for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 429]


def test_template_binds_unknown_end_users_each_for_itself_from_the_first_request(
    door: str, cast: Cast
) -> None:
    issued = cast.key()
    give_template(cast, BudgetTemplate.AppliesTo.END_USER, strict("0.01"))

    first = [chat(door, issued.secret, model=PER_REQUEST, user="ada") for _ in range(2)]
    second = chat(door, issued.secret, model=PER_REQUEST, user="grace")

    assert [answer.status for answer in [*first, second]] == [200, 429, 200]
    assert first[1].error["budget"]["account"]["label"] == "ada"


def give_template(cast: Cast, applies_to: str, terms: Terms) -> Any:
    budget = create_budget(organization=cast.organization, terms=terms, name=uuid.uuid4().hex)
    with change(scope=cast.organization.pk):
        accounts.set_template(
            holder=cast.organization.account, applies_to=applies_to, budgets=[budget], now=now()
        )
    return budget


def test_template_binds_keys_that_have_no_budget_and_leaves_the_others_theirs(
    stack: Stack, cast: Cast
) -> None:
    plain, own = cast.key(), cast.key("5")
    give_template(cast, BudgetTemplate.AppliesTo.KEY, strict("0"))

    statuses = [chat(stack.lane, each.secret).status for each in (plain, own)]

    assert statuses == [429, 200]


def test_changed_template_binds_at_once_also_those_that_have_spent(
    stack: Stack, cast: Cast
) -> None:
    issued = cast.key()
    budget = give_template(cast, BudgetTemplate.AppliesTo.KEY, strict("1"))
    before = chat(stack.lane, issued.secret, model=PER_REQUEST)

    update_budget(budget=budget, terms=strict("0.01"), now=now())
    after = [chat(url, issued.secret, model=PER_REQUEST) for url in (stack.lane, stack.views)]

    assert (before.status, [answer.status for answer in after]) == (200, [429, 429])
    assert after[0].error["budget"]["spent"] == "0.01"


def test_blocked_end_user_is_refused_at_once_and_others_are_not(door: str, cast: Cast) -> None:
    issued = cast.key()
    passing = limited("end_user", cast=cast, terms=Terms(max_budget=Decimal(1)))
    user = passing.fields["user"]
    before = chat(door, issued.secret, user=user)

    with change(scope=cast.organization.pk):
        EndUser.objects.filter(organization=cast.organization, external_id=user).update(
            blocked=True
        )
    after = chat(door, issued.secret, user=user)
    other = chat(door, issued.secret, user="somebody else")

    assert (before.status, after.status, other.status) == (200, 403, 200)
    assert after.error["code"] == "end_user_blocked"


def test_observed_budget_lets_pass_what_it_would_refuse(door: str, cast: Cast) -> None:
    passing = limited(
        "team", cast=cast, terms=Terms(max_budget=Decimal(0), enforcement="observe", rpm_limit=0)
    )

    answer = ask(door, passing)

    assert answer.status == 200


def test_rate_headers_tell_limit_and_remaining_of_the_tightest(door: str, cast: Cast) -> None:
    passing = limited("team", cast=cast, terms=Terms(rpm_limit=10, tpm_limit=100_000))
    with change(scope=cast.organization.pk):
        accounts.set_private_budget(
            account=cast.organization.account, terms=Terms(rpm_limit=5), now=now()
        )

    headers = ask(door, passing).headers

    assert headers["x-ratelimit-limit-requests"] == "5"
    assert headers["x-ratelimit-remaining-requests"] == "4"
    assert headers["x-ratelimit-reset-requests"] == "60s"
    assert headers["x-ratelimit-limit-tokens"] == "100000"
    assert 0 < int(headers["x-ratelimit-remaining-tokens"]) < 100_000


def test_soft_limit_is_told_in_a_header(door: str, cast: Cast) -> None:
    terms = Terms(max_budget=Decimal(1), soft_budget=Decimal("0.005"))
    passing = limited("team", cast=cast, terms=terms)

    answer = ask(door, passing)

    assert (answer.status, answer.headers["x-costplatform-soft-budget-exceeded"]) == (200, "team")


def test_limits_of_one_organization_do_not_touch_another(stack: Stack, cast: Cast) -> None:
    outsider = Cast(cast.outsider, cast.team, cast.user, cast.organization)
    theirs = limited("end_user", cast=cast, terms=strict("0"))
    ours = outsider.key()

    answer = chat(stack.lane, ours.secret, user=theirs.fields["user"])

    assert answer.status == 200
    assert theirs.kind == AccountKind.END_USER


@pytest.mark.parametrize("scope", ["model", "provider", "deployment"])
def test_rates_that_all_organizations_share_tell_no_one_what_others_do(
    scope: str, stack: Stack, cast: Cast
) -> None:
    passing = limited(scope, cast=cast, terms=Terms(rpm_limit=1))
    ask(stack.lane, passing)

    refused = ask(stack.lane, passing)
    error = refused.error

    assert (error["budget"]["limit"], error["budget"]["used"]) == (None, None)
    assert refused.headers["x-should-retry"] == "true"
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert "1 requests" not in error["message"]


def test_request_that_no_minute_has_room_for_is_not_told_to_try_again(
    stack: Stack, cast: Cast
) -> None:
    passing = limited("key", cast=cast, terms=Terms(tpm_limit=10))

    answer = ask(stack.lane, passing)

    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    assert answer.headers["x-should-retry"] == "false"
    assert answer.error["budget"]["remedy"] == "ask_for_less"


def test_ceiling_that_nobody_can_mean_is_refused_with_what_helps(stack: Stack, cast: Cast) -> None:
    issued = cast.key()
    name = free_model(cast)
    Deployment.objects.filter(model_name=name).update(
        price_override={"input_cost_per_token": "1", "output_cost_per_token": "1000"},
        output_tokens_max=None, input_tokens_max=None,
    )  # fmt: skip

    answer = chat(stack.lane, issued.secret, model=name, max_tokens=10**9, n=128)

    assert (answer.status, answer.error["code"]) == (400, "unbounded_cost")
