"""Celery, and all that runs by the clock: every task does what is due, and may run twice."""

import os
from datetime import timedelta
from typing import Final

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "costplatform.settings")

CLOSING_TICK: Final = timedelta(seconds=20)

app = Celery("costplatform")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.beat_schedule = {
    "make ledger partitions ahead": {
        "task": "spend.tasks.make_partitions_ahead",
        "schedule": timedelta(hours=1),
    },
    "fetch exchange rates that are due": {
        "task": "spend.tasks.fetch_exchange_rates",
        "schedule": timedelta(minutes=5),
    },
    "propose fetched prices": {
        "task": "spend.tasks.propose_fetched_prices",
        "schedule": timedelta(days=1),
    },
    "propose prices of an upgraded package": {
        "task": "spend.tasks.propose_upgraded_prices",
        "schedule": timedelta(hours=1),
    },
    "go on with re-ratings": {
        "task": "spend.tasks.finish_reratings",
        "schedule": timedelta(minutes=5),
    },
    "take off the queue what has a price": {
        "task": "spend.tasks.forget_refused_models",
        "schedule": timedelta(minutes=5),
    },
    "settle batches that have ended": {
        "task": "gateway.tasks.settle_batches",
        "schedule": timedelta(minutes=1),
    },
    "close ended periods": {
        "task": "budgets.tasks.close_ended_periods",
        "schedule": CLOSING_TICK,
        # What waited for a worker that was away says nothing new: the next tick does it all.
        "options": {"expire_seconds": CLOSING_TICK.total_seconds()},
    },
    "forget old refusals": {
        "task": "budgets.tasks.forget_old_refusals",
        "schedule": timedelta(days=1),
    },
}
