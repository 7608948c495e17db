"""Whether this process is alive, and whether it can do its work."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

import redis
from django.db import DatabaseError, close_old_connections, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from budgets import storekeeper
from budgets.models import Partition
from gateway import process

log = logging.getLogger(__name__)

ANSWER_SECONDS_MAX: Final = 3
# A check that hangs keeps its thread: as many may hang as there are threads, then all are late.
_threads = ThreadPoolExecutor(max_workers=6, thread_name_prefix="health")


class NotReady(Exception):
    """What is missing, in words."""


@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """Answer 200 as long as this process answers at all."""
    return JsonResponse({"status": "ok"})


@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Answer 200 if Postgres and the live store are ready, else 503 and what is missing."""
    results = {name: _threads.submit(_checked, check) for name, check in _CHECKS.items()}
    missing = {}
    for name, result in results.items():
        try:
            problem = result.result(timeout=ANSWER_SECONDS_MAX)
        except TimeoutError:
            problem = f"no answer in {ANSWER_SECONDS_MAX} s"
        if problem:
            missing[name] = problem
    if missing:
        log.warning("not_ready", extra={"missing": missing})
        return JsonResponse({"status": "not ready", "missing": missing}, status=503)
    return JsonResponse({"status": "ok"})


def _checked(check: Callable[[], None]) -> str:
    """Run a check; return what is missing, or nothing."""
    close_old_connections()
    try:
        check()
    except NotReady as error:
        return str(error)
    except (DatabaseError, redis.RedisError) as error:
        return f"unreachable ({type(error).__name__})"
    finally:
        connection.close()
    return ""


def _check_schema() -> None:
    connection.ensure_connection()
    _check_migrations()


@cache
def _check_migrations() -> None:
    """Asks only until the answer is yes: nobody takes migrations back while this runs."""
    executor = MigrationExecutor(connection)
    behind = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if behind:
        raise NotReady(f"{len(behind)} migrations are not applied")


def _check_store() -> None:
    partition = Partition.objects.filter(number=storekeeper.PARTITION).first()
    if partition is None or not storekeeper.is_open(partition):
        raise NotReady("not open: the recorder opens it")


def _check_gateway() -> None:
    if not process.admits():
        raise NotReady("this process is not admitting requests yet")


_CHECKS: Final = {
    "postgres": _check_schema,
    "live_store": _check_store,
    "gateway": _check_gateway,
}
