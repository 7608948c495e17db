from datetime import timedelta

from django.db import connection
from django.utils import timezone

from costplatform.celery import app
from spend.tasks import DAYS_AHEAD, make_partitions_ahead


def _partitions() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits"
            " WHERE inhparent = 'spend_event'::regclass"
        )
        return {name for (name,) in cursor.fetchall()}


def test_partitions_of_the_coming_days_are_made_once() -> None:
    today = timezone.now().date()

    make_partitions_ahead()
    once = _partitions()
    make_partitions_ahead(of_a_newer_version="ignored")

    wanted = {f"spend_event_{today + timedelta(days=n):%Y%m%d}" for n in range(DAYS_AHEAD + 1)}
    assert wanted <= once
    assert _partitions() == once


def test_everything_that_runs_by_the_clock_is_a_task_that_exists() -> None:
    app.loader.import_default_modules()

    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= set(app.tasks)
