"""Files and batches through both doors: held when they begin, charged once when they have ended."""

import asyncio
import io
import math
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import openai
import orjson
import pytest
from django.db import connections

from budgets import storekeeper
from budgets.changes import change
from budgets.models import ApiKey
from budgets.money import Units
from budgets.reservations import BATCH_SECONDS, Admission, Demand, Hold
from budgets.scripts import TAG
from budgets.services.accounts import Terms
from budgets.services.keys import Owner, issue_key, rotate_key
from gateway.batches import reading
from gateway.models import BatchState, GatewayBatch
from gateway.process import GatewayProcess
from gateway.services import create_deployment
from spend.components import Component
from spend.models import PriceRate, PriceVersion, SpendEvent
from tests.conftest import Cast
from tests.gateway import batch_support
from tests.gateway.batch_support import (
    BatchProvider,
    answered,
    begun,
    create,
    in_ledger,
    jsonl,
    line,
    make_due,
    polled,
    settle,
    upload,
)
from tests.gateway.support import delete, get, post, recorded
from tests.gateway.upstreams import RATE, Canned, Upstream, deployed
from tests.stack import Stack, wait_until

HALF = RATE / 2


@pytest.fixture
def provider(upstream: Upstream) -> Iterator[BatchProvider]:
    with batch_support.serving(upstream) as running:
        yield running


@pytest.fixture
def model(upstream: Upstream, cast: Cast) -> str:
    return deployed(upstream, cast).model_name


def row_of(batch: GatewayBatch) -> SpendEvent:
    return recorded(str(batch.request_id))


def team_key(cast: Cast, limit: str) -> str:
    terms = Terms(max_budget=Decimal(limit), duration="1mo", enforcement="strict")
    owner = Owner(cast.organization, team=cast.team)
    return issue_key(owner=owner, values={}, terms=terms, now=datetime.now(UTC)).secret


def rows_of(batch: GatewayBatch) -> list[SpendEvent]:
    return list(SpendEvent.objects.filter(request_id=batch.request_id).order_by("recorded_at"))


def is_held(batch: GatewayBatch) -> bool:
    return storekeeper.is_reserved(str(batch.request_id))


# --- As OpenAI's clients do it -----------------------------------------------------------


def test_the_openai_sdk_runs_a_batch_unchanged(
    door: str, cast: Cast, model: str, provider: BatchProvider
) -> None:
    sdk = openai.OpenAI(base_url=f"{door}/v1", api_key=cast.key("1").secret, max_retries=0)
    data = jsonl(line(model, "a"), line(model, "b"))

    file = sdk.files.create(file=("in.jsonl", io.BytesIO(data)), purpose="batch")
    batch = sdk.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h",
        metadata={"job": "nightly"},
    )  # fmt: skip
    (upstream_id,) = provider.batches
    in_progress = sdk.batches.retrieve(batch.id)
    provider.end(upstream_id, [answered("a"), answered("b", prompt=20)])
    completed = sdk.batches.retrieve(batch.id)

    assert (batch.id, batch.input_file_id) == (in_progress.id, file.id)
    assert (in_progress.status, completed.status) == ("in_progress", "completed")
    assert batch.metadata == {"job": "nightly"}
    assert completed.output_file_id
    assert completed.output_file_id not in provider.files
    theirs = provider.batches[upstream_id]["output_file_id"]
    assert sdk.files.content(completed.output_file_id).read() == provider.files[theirs]
    assert [each.id for each in sdk.batches.list(limit=5)] == [batch.id]
    assert {each.id for each in sdk.files.list()} == {file.id, completed.output_file_id}
    assert sdk.files.retrieve(completed.output_file_id).bytes == len(provider.files[theirs])
    settled = in_ledger(GatewayBatch.objects.get(public_id=batch.id))
    assert row_of(settled).cost == (30 + 10) * HALF + 2 * RATE
    assert sdk.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.files.retrieve(file.id)


@pytest.mark.parametrize("before", ["/v1", "", "/openai/v1"])
def test_files_and_batches_are_served_with_and_without_v1(
    before: str, stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    secret = cast.key("1").secret
    batch = begun(stack.lane, secret, model)

    answers = [
        get(stack.lane, secret, f"{before}/files/{batch.input_file.public_id}/content"),
        get(stack.lane, secret, f"{before}/batches/{batch.public_id}"),
        post(stack.lane, secret, {}, path=f"{before}/batches/{batch.public_id}/cancel"),
    ]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert answers[2].json["status"] == "cancelling"


def test_the_provider_gets_its_own_name_of_the_model_and_nothing_meant_for_us(
    door: str, cast: Cast, upstream: Upstream, provider: BatchProvider
) -> None:
    theirs = deployed(upstream, cast)
    with change(scope=0):
        ours = create_deployment(
            values={
                "model_name": f"our-{theirs.model_name}", "provider": theirs.provider,
                "upstream_model": theirs.upstream_model, "api_base": theirs.api_base,
                "organization": cast.organization,
            },
            api_key="sk-other",
        )  # fmt: skip
    fields: dict[str, Any]
    fields = {"metadata": {"tags": ["t"], "kept": "yes"}, "unknown": {"a": 1}}

    batch = begun(door, cast.key("1").secret, ours.model_name, **fields)

    ((name, data),) = provider.files.items()
    sent = orjson.loads(data)
    assert sent == line(theirs.model_name, "0", metadata={"kept": "yes"}, unknown={"a": 1})
    (told,) = provider.batches.values()
    assert (told["input_file_id"], batch.input_file.upstream_id) == (name, name)
    assert {sent.headers["authorization"] for sent in upstream.seen} == {"Bearer sk-other"}
    provider.end(batch.upstream_id, [])
    assert row_of(in_ledger(batch)).tags == ["t"]


# --- What it costs -----------------------------------------------------------------------


def test_a_batch_costs_the_exact_sum_of_its_lines_at_the_batch_rates(
    door: str, cast: Cast, model: str, provider: BatchProvider
) -> None:
    key = cast.key("1")
    batch = begun(door, key.secret, model, lines=40)
    lines = [answered(str(n), prompt=100 + n, completion=n) for n in range(38)]
    failed = {"custom_id": "38", "response": None, "error": {"code": "x", "message": "y"}}
    provider.end(batch.upstream_id, [*lines, failed, answered("39", prompt=9_999, status=500)])

    settled = in_ledger(batch)

    row = row_of(settled)
    prompts, completions = sum(100 + n for n in range(38)), sum(range(38))
    assert row.cost == (prompts + completions) * HALF + 38 * RATE
    assert (row.input_tokens, row.output_tokens) == (prompts, completions)
    assert (row.service_tier, row.route, row.status) == ("batch", "/v1/batches", 200)
    assert row.flags == []
    assert sum(Decimal(amount) for *_, amount in row.lines) == row.cost
    assert row.key_digest == ApiKey.objects.get(pk=key.key.pk).digest
    assert not is_held(batch)


def test_each_line_is_priced_by_its_own_length(
    stack: Stack, cast: Cast, upstream: Upstream, provider: BatchProvider
) -> None:
    deployment = deployed(upstream, cast)
    version = PriceVersion.objects.get(model__name=deployment.model_name)
    with change(scope=0):
        PriceRate.objects.create(
            version=version, component=Component.INPUT, rate=RATE * 10, tier_from=1_000
        )
    batch = begun(stack.lane, cast.key("1").secret, deployment.model_name, lines=3)
    lines = [answered(str(n), prompt=prompt, completion=0) for n, prompt in enumerate((600, 600))]
    provider.end(batch.upstream_id, [*lines, answered("2", prompt=2_000, completion=0)])

    row = row_of(in_ledger(batch))

    assert row.cost == 1_200 * HALF + 2_000 * 10 * HALF + 3 * RATE


def test_the_price_is_that_of_its_admission(
    stack: Stack, cast: Cast, upstream: Upstream, provider: BatchProvider
) -> None:
    deployment = deployed(upstream, cast)
    batch = begun(stack.lane, cast.key("1").secret, deployment.model_name)
    with change(scope=0):
        PriceRate.objects.filter(version__model__name=deployment.model_name).update(rate=RATE * 9)
    provider.end(batch.upstream_id, [answered()])

    assert row_of(in_ledger(batch)).cost == 15 * HALF + RATE


def test_what_tells_no_usage_is_estimated_and_flagged(
    door: str, cast: Cast, model: str, provider: BatchProvider
) -> None:
    batch = begun(door, cast.key("1").secret, model, lines=3)
    silent = answered("1")
    del silent["response"]["body"]["usage"]
    silent["response"]["body"]["choices"] = [{"message": {"content": "x" * 400}}]
    provider.end(batch.upstream_id, [answered("0"), silent, b"no JSON at all\n"])

    row = row_of(in_ledger(batch))

    file = batch.input_file
    each = math.ceil(math.ceil((file.bytes or 0) / 3) / 4)
    assert row.flags == ["estimated"]
    assert row.input_tokens == 10 + 2 * each
    assert row.output_tokens == 5 + 100 + 4


def test_a_batch_that_has_expired_or_was_cancelled_costs_what_it_has_done(
    door: str, cast: Cast, model: str, provider: BatchProvider
) -> None:
    secret = cast.key("1").secret
    expired, cancelled = (begun(door, secret, model, lines=5) for _ in range(2))
    provider.end(expired.upstream_id, [answered("0")], status="expired")
    cancelling = post(door, secret, {}, path=f"/v1/batches/{cancelled.public_id}/cancel")
    provider.end(cancelled.upstream_id, [answered("0"), answered("1")], status="cancelled")

    costs = [row_of(in_ledger(batch)).cost for batch in (expired, cancelled)]

    assert cancelling.json["status"] == "cancelling"
    assert costs == [15 * HALF + RATE, 2 * (15 * HALF + RATE)]


def test_a_batch_that_failed_costs_nothing(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    batch = begun(stack.lane, cast.key("1").secret, model)
    provider.end(batch.upstream_id, None, status="failed", errors={"data": []})

    row = row_of(in_ledger(batch))

    assert (row.amount_units, row.usage, row.flags) == (0, {}, ["upstream_error"])
    assert polled(stack.lane, cast.key().secret, batch).status == 404


def test_embeddings_and_responses_are_batched_too(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    secret = cast.key("1").secret
    told = {
        "/v1/embeddings": ({"input": "a text"}, {"prompt_tokens": 7, "total_tokens": 7}, 7),
        "/v1/responses": ({"input": "a text"}, {"input_tokens": 7, "output_tokens": 4}, 11),
    }
    for url, (fields, usage, tokens) in told.items():
        body = {"model": model} | fields
        lines = jsonl({"custom_id": "1", "method": "POST", "url": url, "body": body})
        file = upload(stack.lane, secret, lines)
        answer = create(stack.lane, secret, file.json["id"], endpoint=url)
        batch = GatewayBatch.objects.get(public_id=answer.json["id"])
        done = {"custom_id": "1", "response": {"status_code": 200, "body": {"usage": usage}}}
        provider.end(batch.upstream_id, [done])

        assert row_of(in_ledger(batch)).cost == tokens * HALF + RATE


# --- What it holds -----------------------------------------------------------------------


def test_an_exhausted_budget_lets_no_file_and_no_batch_through(
    door: str, cast: Cast, upstream: Upstream, model: str, provider: BatchProvider
) -> None:
    rich, poor = (team_key(cast, limit) for limit in ("1", "0"))
    file = upload(door, rich, jsonl(line(model)))
    upstream.seen.clear()

    answers = [upload(door, poor, jsonl(line(model))), create(door, poor, file.json["id"])]

    for answer in answers:
        assert (answer.status, answer.error["code"]) == (429, "budget_exceeded")
        assert answer.headers["x-should-retry"] == "false"
    assert upstream.seen == []


def test_a_batch_holds_the_most_that_its_lines_can_cost_until_it_has_ended(
    door: str, cast: Cast, model: str, provider: BatchProvider
) -> None:
    key = cast.key("1")
    batch = begun(door, key.secret, model, lines=10, max_tokens=200)

    (held,) = [each for each in storekeeper.reservations() if each.id == str(batch.request_id)]
    bytes_in = sum(len(orjson.dumps(orjson.loads(raw)["body"])) for raw in only_file(provider))
    assert held.ceiling == int((bytes_in * HALF + 10 * 200 * HALF + 10 * RATE) * 10**9)
    assert held.deadline - held.admitted_at == timedelta(hours=25)

    provider.end(batch.upstream_id, [answered("0")])
    in_ledger(batch)

    assert not is_held(batch)


def only_file(provider: BatchProvider) -> list[bytes]:
    (data,) = provider.files.values()
    return data.splitlines()


def test_what_open_batches_hold_refuses_the_next_one(
    door: str, cast: Cast, upstream: Upstream, model: str, provider: BatchProvider
) -> None:
    secret = cast.key("0.002").secret
    file = upload(door, secret, jsonl(line(model, max_tokens=1_000, n=3)))

    first, second = (create(door, secret, file.json["id"]) for _ in range(2))

    assert first.status == 200
    assert (second.status, second.error["code"]) == (429, "budget_busy")
    assert len(provider.batches) == 1


def test_a_batch_is_one_request_of_a_rate_and_none_of_its_tokens_count(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    terms = Terms(rpm_limit=2, tpm_limit=1_000)
    key = issue_key(owner=Owner(cast.organization), values={}, terms=terms, now=datetime.now(UTC))
    file = upload(stack.lane, key.secret, jsonl(*(line(model, str(n)) for n in range(50))))

    answers = [create(stack.lane, key.secret, file.json["id"]) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].error["code"] == "rate_limit_exceeded"


def test_what_a_provider_refuses_costs_nothing_and_is_passed_on_with_our_ids(
    door: str, cast: Cast, model: str, provider: BatchProvider
) -> None:
    secret = cast.key("1").secret
    file = upload(door, secret, jsonl(line(model)))
    (theirs,) = provider.files
    provider.broken["/batches"] = Canned.json(
        {"error": {"message": f"{theirs} is not ready"}}, status=400
    )

    answer = create(door, secret, file.json["id"])

    assert (answer.status, answer.error["message"]) == (400, f"{file.json['id']} is not ready")
    batch = GatewayBatch.objects.get(input_file__public_id=file.json["id"])
    assert (batch.state, row_of(batch).amount_units) == (BatchState.REFUSED, 0)
    assert polled(door, secret, batch).json["status"] == "failed"


def test_a_batch_that_may_have_been_created_is_charged_what_it_held(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    secret = cast.key("1").secret
    file = upload(stack.lane, secret, jsonl(line(model)))
    provider.broken["/batches"] = Canned.json({"no": "id"})

    answer = create(stack.lane, secret, file.json["id"])

    assert (answer.status, answer.error["code"]) == (502, "upstream_failed")
    batch = GatewayBatch.objects.get(input_file__public_id=file.json["id"])
    row = row_of(batch)
    assert batch.state == BatchState.UNKNOWN
    assert (row.cost, row.flags) == (batch.held, ["estimated", "upstream_error"])
    assert not is_held(batch)


# --- Once --------------------------------------------------------------------------------


def test_polls_cost_nothing_and_a_batch_has_one_row_however_many_settle_it(
    door: str, cast: Cast, model: str, provider: BatchProvider
) -> None:
    secret = cast.key("1").secret
    batch = begun(door, secret, model, lines=200)
    provider.end(batch.upstream_id, [answered(str(n)) for n in range(200)])

    with ThreadPoolExecutor(8) as pool:
        polls = [pool.submit(polled, door, secret, batch) for _ in range(40)]
        work = [pool.submit(closing(settle)) for _ in range(4)]
        [each.result() for each in work]

    assert {each.result().json["status"] for each in polls} == {"completed"}
    in_ledger(batch)
    settle(rounds=2)
    (row,) = rows_of(batch)
    assert row.cost == 200 * (15 * HALF + RATE)
    assert SpendEvent.objects.filter(organization_id=cast.organization.pk).count() == 1


def closing(work: Callable[[], None]) -> Callable[[], None]:
    """Return the work, with the connections closed that its thread has made."""

    def done() -> None:
        try:
            work()
        finally:
            connections.close_all()

    return done


def test_an_event_that_is_sent_late_again_changes_nothing(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    key = cast.key("1")
    batch = begun(stack.lane, key.secret, model)
    provider.end(batch.upstream_id, [answered()])
    in_ledger(batch)

    # As if the worker had died before it noted anything, and the tombstone were gone.
    storekeeper.store().delete(f"{TAG}t:{batch.request_id}")
    GatewayBatch.objects.filter(pk=batch.pk).update(
        state=BatchState.PRICED, sent_generation=None, settled_at=None
    )
    in_ledger(batch)

    (row,) = rows_of(batch)
    assert spent_by(stack, key.secret) == row.cost


def spent_by(stack: Stack, secret: str) -> Decimal:
    """Return what a key has spent, as it is told itself."""
    return Decimal(get(stack.lane, secret, "/v1/key").json["limits"][0]["spent"])


def test_a_batch_whose_process_has_gone_is_an_orphan_until_it_has_ended(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    key = cast.key("1")
    url = stack.start_web("leaving", processes=1)
    batch = begun(url, key.secret, model)

    stack.kill("leaving-0")

    wait_until(lambda: bool(rows_of(batch)), seconds=30)
    (orphan,) = rows_of(batch)
    assert (orphan.kind, orphan.cost, orphan.flags) == ("orphan", batch.held, ["orphaned"])
    provider.end(batch.upstream_id, [answered()])
    in_ledger(batch)
    kinds = {row.kind: row.amount_units for row in rows_of(batch)}
    assert kinds["usage"] == int((15 * HALF + RATE) * 10**9)
    assert kinds["orphan"] + kinds["orphan_reversal"] == 0
    wait_until(lambda: spent_by(stack, key.secret) == 15 * HALF + RATE, seconds=15)


def test_a_process_that_stops_leaves_its_batches_to_be_settled(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    url = stack.start_web("stopping", processes=1)
    batch = begun(url, cast.key("1").secret, model)

    stack.stop("stopping-0")
    provider.end(batch.upstream_id, [answered()])
    in_ledger(batch)

    wait_until(lambda: not is_held(batch), seconds=15)
    assert sum(row.cost for row in rows_of(batch)) == 15 * HALF + RATE


@pytest.mark.parametrize("point", ["batch_read", "before_settle", "after_settle"])
def test_a_worker_that_dies_while_it_settles_a_batch_changes_nothing(
    point: str, stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    batch = begun(stack.lane, cast.key("1").secret, model)
    provider.end(batch.upstream_id, [answered()])
    make_due()

    died = working(stack, COSTPLATFORM_FAILPOINTS=f"{point}=kill#1", COSTPLATFORM_TESTING="on")
    in_ledger(batch)

    assert died == -signal.SIGKILL
    (row,) = rows_of(batch)
    assert row.cost == 15 * HALF + RATE


def working(stack: Stack, **env: str) -> int:
    """Do the scheduled work in a process of its own; return how it ended."""
    program = (
        "import django; django.setup(); from gateway.tasks import settle_batches; settle_batches()"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        env=stack.env | {"DJANGO_SETTINGS_MODULE": "costplatform.settings"} | env,
        check=False,
    ).returncode


def test_a_batch_is_settled_by_the_worker_alone_though_nobody_polls(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    batch = begun(stack.lane, cast.key("1").secret, model)
    provider.end(batch.upstream_id, [answered()])

    for _ in range(2):
        make_due()
        assert working(stack) == 0
        wait_until(stack.is_quiet, seconds=15)

    batch.refresh_from_db()
    assert batch.state == BatchState.SETTLED
    assert len(rows_of(batch)) == 1


def test_one_batch_that_cannot_be_settled_backs_off_and_stops_no_other(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    secret = cast.key("1").secret
    poison, *good = [begun(stack.lane, secret, model) for _ in range(21)]
    for batch in (poison, *good):
        provider.end(batch.upstream_id, [answered()])
    provider.broken[f"file-out-{poison.upstream_id}/content"] = Canned.json({}, status=500)

    before = datetime.now(UTC)
    settle(rounds=2)

    poison.refresh_from_db()
    assert (poison.state, poison.failures) == (BatchState.OPEN, 2)
    assert poison.problem == "The provider answered 500 for the output."
    assert poison.next_look_at - before > timedelta(seconds=115)
    assert is_held(poison)
    for batch in good:
        batch.refresh_from_db()
        assert batch.state in {BatchState.PRICED, BatchState.SETTLED}
        assert row_of(batch).cost == 15 * HALF + RATE
    provider.broken.clear()
    assert row_of(in_ledger(poison)).cost == 15 * HALF + RATE


@pytest.mark.parametrize(
    ("end", "canned"),
    [
        ("/content", Canned.json({}, status=302)),
        ("/content", Canned((b"{", b"}"), headers={"content_length": "50"})),
        ("", Canned.json({}, status=500)),
        ("", Canned((b"no JSON",))),
        ("", Canned.json({"status": None})),
    ],
    ids=["redirect", "broken off", "error", "no JSON", "no status"],
)
def test_an_upstream_that_fails_leaves_the_batch_open(
    end: str, canned: Canned, stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    batch = begun(stack.lane, cast.key("1").secret, model)
    provider.end(batch.upstream_id, [answered()])
    provider.broken[end or batch.upstream_id] = canned

    settle()

    batch.refresh_from_db()
    assert (batch.state, batch.failures) == (BatchState.OPEN, 1)
    assert batch.problem
    assert is_held(batch)


def test_an_output_that_is_gone_is_charged_by_the_batch_or_by_what_was_held(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    secret = cast.key("1").secret
    telling, silent, unknown = (begun(stack.lane, secret, model) for _ in range(3))
    usage = {"input_tokens": 30, "output_tokens": 10, "total_tokens": 40}
    provider.end(telling.upstream_id, [answered()], usage=usage)
    provider.end(silent.upstream_id, [answered()])
    for batch in (telling, silent):
        del provider.files[f"file-out-{batch.upstream_id}"]
    del provider.batches[unknown.upstream_id]

    rows = [row_of(in_ledger(batch)) for batch in (telling, silent, unknown)]

    assert [row.cost for row in rows] == [40 * HALF + RATE, silent.held, unknown.held]
    assert [row.flags for row in rows] == [
        ["estimated"], ["estimated", "upstream_error"], ["estimated", "upstream_error"],
    ]  # fmt: skip


def test_completed_lines_without_an_output_are_waited_for(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    batch = begun(stack.lane, cast.key("1").secret, model)
    counts = {"total": 1, "completed": 1, "failed": 0}
    provider.end(batch.upstream_id, None, request_counts=counts)

    settle()
    batch.refresh_from_db()
    assert batch.problem == "Lines are completed, and there is no output."

    provider.end(batch.upstream_id, [answered()], request_counts=counts)
    assert row_of(in_ledger(batch)).cost == 15 * HALF + RATE


def test_a_batch_that_nobody_can_read_for_a_week_is_charged_what_it_held(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    batch = begun(stack.lane, cast.key("1").secret, model)
    provider.broken[batch.upstream_id] = Canned.json({}, status=500)
    GatewayBatch.objects.filter(pk=batch.pk).update(created_at=batch.created_at - timedelta(days=8))

    row = row_of(in_ledger(batch))

    assert (row.cost, row.flags) == (batch.held, ["estimated", "upstream_error"])


def test_a_cost_beyond_all_bounds_is_charged_at_the_ceiling(
    stack: Stack, cast: Cast, upstream: Upstream, provider: BatchProvider
) -> None:
    deployment = deployed(upstream, cast, rate=Decimal("0.5"))
    key = cast.key("100000")
    batch = begun(stack.lane, key.secret, deployment.model_name)
    huge = [answered(str(n), prompt=10**9, completion=10**9) for n in range(100)]
    provider.end(batch.upstream_id, huge)

    row = row_of(in_ledger(batch))

    assert (row.cost, row.flags) == (batch.ceiling, ["over_ceiling", "usage_clamped"])


# --- Whose they are ----------------------------------------------------------------------


def test_files_and_batches_are_seen_by_their_key_and_its_team_and_by_nobody_else(
    door: str, cast: Cast, model: str, provider: BatchProvider
) -> None:
    now = datetime.now(UTC)
    own, mate = (team_key(cast, "1") for _ in range(2))
    stranger = cast.key("1").secret
    outsider = issue_key(owner=Owner(cast.outsider), values={}, terms=Terms(), now=now).secret
    batch = begun(door, own, model)
    provider.end(batch.upstream_id, [answered()])
    output = polled(door, own, batch).json["output_file_id"]
    paths = [
        f"/v1/batches/{batch.public_id}", f"/v1/files/{output}", f"/v1/files/{output}/content",
        f"/v1/files/{batch.input_file.public_id}",
    ]  # fmt: skip

    for secret, status in ((own, 200), (mate, 200), (stranger, 404), (outsider, 404)):
        assert {get(door, secret, path).status for path in paths} == {status}
    for secret in (stranger, outsider):
        assert get(door, secret, "/v1/files").json["data"] == []
        assert get(door, secret, "/v1/batches").json["data"] == []
        assert delete(door, secret, f"/v1/files/{output}").status == 404
        assert create(door, secret, batch.input_file.public_id).status == 404
        cancel = post(door, secret, {}, path=f"/v1/batches/{batch.public_id}/cancel")
        assert (cancel.status, cancel.error["code"]) == (404, "batch_not_found")


def test_a_rotated_key_keeps_its_files_and_a_blocked_one_gets_nothing(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    key = cast.key("1")
    batch = begun(stack.lane, key.secret, model)
    rotated = rotate_key(key=key.key).secret

    assert polled(stack.lane, rotated, batch).status == 200
    assert polled(stack.lane, key.secret, batch).status == 401
    with change(scope=cast.organization.pk):
        ApiKey.objects.filter(pk=key.key.pk).update(blocked=True)

    for path in ("/v1/files", "/v1/batches", f"/v1/batches/{batch.public_id}"):
        answer = get(stack.lane, rotated, path)
        assert (answer.status, answer.error["code"]) == (403, "key_blocked")


def test_a_batch_cannot_name_a_file_of_anybody_else_as_its_output(
    stack: Stack, cast: Cast, upstream: Upstream, provider: BatchProvider
) -> None:
    model = deployed(upstream, cast, organization=None).model_name
    secret = cast.key("1").secret
    other = issue_key(
        owner=Owner(cast.outsider), values={}, terms=Terms(), now=datetime.now(UTC)
    ).secret
    theirs = begun(stack.lane, other, model)
    batch = begun(stack.lane, secret, model)
    provider.end(
        batch.upstream_id, None, output_file_id=None,
        error_file_id=theirs.input_file.upstream_id,
    )  # fmt: skip

    told = polled(stack.lane, secret, batch)

    assert told.json["error_file_id"] is None
    assert theirs.input_file.upstream_id not in told.body.decode()


# --- Files -------------------------------------------------------------------------------


def test_an_output_cannot_be_deleted_before_its_cost_is_read(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    secret = cast.key("1").secret
    batch = begun(stack.lane, secret, model)
    provider.end(batch.upstream_id, [answered()])
    path = f"/v1/files/{polled(stack.lane, secret, batch).json['output_file_id']}"

    early = delete(stack.lane, secret, path)
    in_ledger(batch)
    late = delete(stack.lane, secret, path)

    assert (early.status, early.error["code"]) == (409, "file_in_use")
    assert (late.status, late.json["deleted"]) == (200, True)
    assert row_of(batch).cost == 15 * HALF + RATE
    assert get(stack.lane, secret, path).status == 404


def test_an_organization_has_so_many_files_at_most_and_room_again_when_it_deletes_one(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    url = stack.start_web("small", processes=1, GATEWAY_FILES_MAX="2")
    secret, data = cast.key("1").secret, jsonl(line(model))

    first, _, third = (upload(url, secret, data) for _ in range(3))
    deleted = delete(url, secret, f"/v1/files/{first.json['id']}")
    fourth = upload(url, secret, data)
    stack.stop("small-0")

    assert (third.status, third.error["code"]) == (400, "too_many_files")
    assert (deleted.status, fourth.status) == (200, 200)


def test_lists_come_in_pages(stack: Stack, cast: Cast, model: str, provider: BatchProvider) -> None:
    secret = cast.key("1").secret
    made = [begun(stack.lane, secret, model).public_id for _ in range(3)]

    first = get(stack.lane, secret, "/v1/batches?limit=2").json
    second = get(stack.lane, secret, f"/v1/batches?limit=2&after={first['last_id']}").json
    wrong = get(stack.lane, secret, "/v1/batches?limit=0")

    assert [each["id"] for each in first["data"] + second["data"]] == made[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert (wrong.status, wrong.error["param"]) == (400, "limit")


async def test_a_process_forgets_what_it_holds_for_batches_that_the_ledger_has(
    stack: Stack, cast: Cast, model: str, provider: BatchProvider
) -> None:
    request = uuid.UUID(await asyncio.to_thread(settled_request, stack, cast, model, provider))
    process = GatewayProcess()
    others = [str(uuid.uuid4()) for _ in range(2)]
    seconds = {str(request): BATCH_SECONDS, others[0]: BATCH_SECONDS, others[1]: 60}
    for id, length in seconds.items():
        demand = Demand(id, Units(1), Units(1), 0, "", length, b"{}")
        process.store.holds[id] = Hold(demand, Admission(0, Units(1), Units(1)), "")

    try:
        await process._forget_charged()
    finally:
        await process.database.run(connections.close_all)
        await process.upstream.close()
        await process.store.close()
        process.database.close()
        process._membership.close()

    assert set(process.store.holds) == set(others)


def settled_request(stack: Stack, cast: Cast, model: str, provider: BatchProvider) -> str:
    """Return the request of a batch that is in the ledger."""

    def work() -> None:
        batch = begun(stack.lane, cast.key("1").secret, model)
        provider.end(batch.upstream_id, [answered()])
        found.append(str(in_ledger(batch).request_id))

    found: list[str] = []
    closing(work)()
    return found[0]


async def test_lines_of_any_length_are_split_with_one_in_memory() -> None:
    long = b"x" * (reading.LINE_BYTES_MAX + 1)

    async def chunks() -> Any:
        data = b"a\r\n\n  \n" + long + b"\nb" + b"c\nlast"
        for start in range(0, len(data), 1_000_003):
            yield data[start : start + 1_000_003]

    lines = [each async for each in reading.split(chunks(), bytes_max=2**30)]

    assert lines == [b"a", len(long), b"bc", b"last"]
    with pytest.raises(reading.Unreadable):
        [each async for each in reading.split(chunks(), bytes_max=1_000)]
