"""
Adaptive budgets let agents with huge ceilings work up to the limit, and pass it by no more than
docs/explanation/enforcement.md says.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from budgets.services.accounts import Terms
from budgets.services.keys import Issued, Owner, issue_key, update_key
from gateway.models import Deployment
from gateway.services import create_deployment
from spend.models import SpendEvent
from tests.faults import load, oracle
from tests.faults.conftest import Begin, Report
from tests.faults.load import Answers, Ask, Load, Plan
from tests.faults.scenario import Scenario, Sizes

AGENTS = 20
CONTEXT_TOKENS = 200_000
OUTPUT_TOKENS = 64_000
RATES = {"input_cost_per_token": "0.000005", "output_cost_per_token": "0.000025"}
COST_UNITS = 20_000_000
"""$0.02: 2,000 tokens in, 400 out; the ceiling is $2.60."""
STILL_SETTLING = timedelta(seconds=1)
IMAGE: Any = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def agents_model(run: Scenario) -> str:
    """A model with a large context; an image makes its window the bound of a request's input."""
    like = Deployment.objects.get(model_name="sandbox-chat")
    values = {
        "model_name": "agents", "provider": like.provider,
        "upstream_model": like.upstream_model, "api_base": like.api_base,
        "price_override": RATES, "input_tokens_max": CONTEXT_TOKENS,
        "output_tokens_max": OUTPUT_TOKENS,
    }  # fmt: skip
    return create_deployment(values=values, api_key="sk-sandbox").model_name


def body(model: str, *, tokens_in: int, tokens_out: int, **script: Any) -> dict[str, Any]:
    usage = {
        "prompt_tokens": tokens_in, "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
    }  # fmt: skip
    asked = load.chat(model, marker="agent", usage=usage, **script)
    content = [{"type": "text", "text": "go on"}, IMAGE]
    return asked | {"messages": [{"role": "user", "content": content}], "max_tokens": OUTPUT_TOKENS}


def key_with(run: Scenario, limit: Decimal) -> Issued:
    terms = Terms(max_budget=limit, enforcement="adaptive", duration="1mo")
    owner = Owner(run.organization())
    return issue_key(owner=owner, values={}, terms=terms, now=datetime.now(UTC))


def ask(run: Scenario, key: Issued, bodies: list[dict[str, Any]]) -> Answers:
    asks = [Ask(key.secret, each) for each in bodies]
    plan = Plan(run.url, asks, at_once=AGENTS, keep_alive=True, seconds_max=600)
    with Load(plan) as asking:
        return asking.answers()


def test_twenty_agents_with_huge_ceilings_spend_their_whole_budget_and_no_more(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=3)
    limit = Decimal(sizes.pick(sample=8, full=25))
    key, model = key_with(run, limit), agents_model(run)
    fit = int(limit * 10**9) // COST_UNITS
    one = body(model, tokens_in=2_000, tokens_out=400, delay_ms=100)

    answers = ask(run, key, [one] * (fit + 10 * AGENTS))

    verdict = oracle.judge(run.fleet)
    spent = oracle.spent(key.key.account_id)
    first = next(n for n, reply in enumerate(answers.replies) if reply.status == 429)
    report(
        cap=f"${limit}", fit=fit, served=verdict.served, **{"first refusal after": first},
        overshoot_units=max(spent - fit * COST_UNITS, 0), drift=verdict.drift or 0,
    )  # fmt: skip
    assert set(answers.statuses) == {200, 429}, (answers.codes, answers.problems)
    # Refused is only what would not have fit, with what was in flight at that moment.
    assert first >= fit - AGENTS
    assert verdict.served == fit
    assert spent == fit * COST_UNITS
    verdict.check()


def test_overshoot_of_requests_that_cost_what_nobody_expects_stays_within_the_formula(
    begin: Begin, sizes: Sizes, report: Report
) -> None:
    run = begin(web=3)
    model = agents_model(run)
    worst = (Decimal(0), Decimal(0))

    for _ in range(sizes.pick(sample=2, full=25)):
        limit = Decimal(run.dice.randrange(3, 12))
        key = key_with(run, limit)
        ask(run, key, [_random(run, model) for _ in range(400)])
        run.fleet.settle_down(seconds=60)
        over, bound = _overshoot(key, limit), _bound(key)
        assert over <= bound, f"${over} above ${limit}, and the formula allows ${bound}"
        worst = max(worst, (over, bound))

    verdict = oracle.judge(run.fleet)
    report(**{"worst overshoot": f"${worst[0]} of ${worst[1]} allowed"}, **verdict.figures())
    verdict.check()


def _random(run: Scenario, model: str) -> dict[str, Any]:
    """Mostly cheap, now and then as dear as can be: what a quantile knows least of."""
    tokens_out = int(run.dice.paretovariate(0.7) * 200)
    return body(
        model,
        tokens_in=run.dice.randrange(500, CONTEXT_TOKENS // 4),
        tokens_out=min(tokens_out, OUTPUT_TOKENS),
        delay_ms=run.dice.randrange(20, 200),
    )


def _rows(key: Issued) -> list[SpendEvent]:
    rows = SpendEvent.objects.filter(accounts__contains=[key.key.account_id], amount_units__gt=0)
    return list(rows.order_by("admitted_at"))


def _overshoot(key: Issued, limit: Decimal) -> Decimal:
    spent = oracle.spent(key.key.account_id)
    return max(Decimal(spent) / 10**9 - limit, Decimal(0))


def _bound(key: Issued) -> Decimal:
    """Sum what the requests in flight at the last admission cost beyond what was expected."""
    rows = _rows(key)
    last = rows[-1].admitted_at
    beyond = sum(
        max(row.amount_units - row.reserved_units, 0)
        for row in rows
        if row.settled_at + STILL_SETTLING > last
    )
    return Decimal(beyond) / 10**9


def test_strict_budget_would_have_refused_the_same_agents_from_the_start(
    begin: Begin, report: Report
) -> None:
    run = begin(web=1)
    key, model = key_with(run, Decimal(25)), agents_model(run)
    strict = Terms(max_budget=Decimal(25), duration="1mo", enforcement="strict")
    update_key(key=key.key, values={}, terms=strict, now=datetime.now(UTC))
    one = body(model, tokens_in=2_000, tokens_out=400, delay_ms=500)

    answers = ask(run, key, [one] * AGENTS)

    report(answers=dict(answers.statuses))
    assert answers.codes["budget_busy"] > 0
