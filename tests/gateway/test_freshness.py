"""
A change counts from the next request on, in every process, whoever made it and however.

Each test warms both web processes of both doors, makes one change, and asks each of them once.
"""

import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from budgets.changes import change
from budgets.models import Budget, User
from budgets.services import keys
from budgets.services.accounts import Terms
from budgets.services.keys import Issued, Owner, issue_key
from gateway.catalogue import read_catalogue
from gateway.services import create_deployment
from tests.api_client import master
from tests.conftest import Cast
from tests.gateway.support import PER_REQUEST, Answer, chat
from tests.stack import Stack, wait_until

ASKED = 8
"""Requests to each door: with two processes behind it, both have answered some."""
SQL_SECONDS_MAX = 2.0


def ask_everywhere(stack: Stack, issued: Issued) -> list[Answer]:
    return [
        chat(url, issued.secret, model=PER_REQUEST)
        for url in (stack.lane, stack.views)
        for _ in range(ASKED)
    ]


def statuses(answers: list[Answer]) -> set[int]:
    return {answer.status for answer in answers}


def by_the_api(issued: Issued) -> None:
    master().made("/key/update", key=issued.key.digest, max_budget=0, enforcement="strict")


def by_the_shell(issued: Issued) -> None:
    nothing = Terms(max_budget=Decimal(0), enforcement="strict")
    keys.update_key(key=issued.key, values={}, terms=nothing, now=datetime.now(UTC))


def by_the_admin(issued: Issued) -> None:
    root = Client()
    root.force_login(User.objects.filter(is_superuser=True).order_by("pk")[0])
    url = reverse("admin:budgets_budget_change", args=[_budget(issued).pk])
    page = root.get(url)
    form = page.context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    sent = {
        name: value for name, value in values.items() if value is not None and value is not False
    }
    answer = root.post(url, sent | {"max_budget": "0", "enforcement": "strict"})
    assert answer.status_code == 302, answer.content.decode()[:2_000]


def _budget(issued: Issued) -> Budget:
    return Budget.objects.get(private_to=issued.key.account)


CHANGES: dict[str, Callable[[Issued], None]] = {
    "API": by_the_api,
    "shell": by_the_shell,
    "admin": by_the_admin,
}


@pytest.mark.parametrize("how", CHANGES)
def test_the_next_request_on_every_process_obeys_a_new_limit(
    how: str, stack: Stack, cast: Cast
) -> None:
    issued = cast.key("100")
    before = ask_everywhere(stack, issued)

    CHANGES[how](issued)
    after = ask_everywhere(stack, issued)

    assert (statuses(before), statuses(after)) == ({200}, {429})


def test_a_change_by_sql_is_obeyed_as_soon_as_the_recorder_hears_of_it(
    stack: Stack, cast: Cast, capsys: pytest.CaptureFixture[str]
) -> None:
    issued = cast.key("100")
    ask_everywhere(stack, issued)

    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE budgets_budget SET max_budget = 0 WHERE id = %s", [_budget(issued).pk]
        )
    began = time.monotonic()
    wait_until(
        lambda: chat(stack.lane, issued.secret, model=PER_REQUEST).status == 429,
        seconds=SQL_SECONDS_MAX,
    )
    took = time.monotonic() - began

    with capsys.disabled():
        sys.stdout.write(f"\na change by SQL was obeyed after {took * 1_000:.0f} ms\n")
    assert statuses(ask_everywhere(stack, issued)) == {429}


def test_the_next_request_obeys_a_blocked_key_a_blocked_team_and_a_shorter_model_list(
    stack: Stack, cast: Cast
) -> None:
    issued = issue_key(
        owner=Owner(cast.organization, cast.team), values={}, terms=Terms(), now=datetime.now(UTC)
    )
    ask_everywhere(stack, issued)

    with change(scope=cast.organization.pk):
        type(cast.team).objects.filter(pk=cast.team.pk).update(allowed_models=["another"])
    forbidden = ask_everywhere(stack, issued)
    with change(scope=cast.organization.pk):
        type(cast.team).objects.filter(pk=cast.team.pk).update(allowed_models=[], blocked=True)
    blocked = ask_everywhere(stack, issued)
    with change(scope=cast.organization.pk):
        type(cast.team).objects.filter(pk=cast.team.pk).update(blocked=False)
    again = ask_everywhere(stack, issued)

    assert {answer.error["code"] for answer in forbidden} == {"model_not_allowed"}
    assert {answer.error["code"] for answer in blocked} == {"key_blocked"}
    assert statuses(again) == {200}


def test_more_deployments_take_no_more_queries_to_read(cast: Cast) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            read_catalogue(today=datetime.now(UTC).date())
        return len(captured)

    create_deployment(values=_deployment(cast), api_key=None)
    before = queries()
    for _ in range(3):
        create_deployment(values=_deployment(cast), api_key=None)

    assert queries() == before


def _deployment(cast: Cast) -> dict[str, Any]:
    return {
        "model_name": uuid.uuid4().hex, "provider": "openai", "upstream_model": "gpt-4o",
        "api_base": "https://models.example.com/v1", "organization": cast.organization,
    }  # fmt: skip
