"""
What was spent: the ledger and its roll-ups.

The ledger is append-only (a trigger refuses anything but INSERT) and partitioned by day; Django
reads it, only the recorder writes it.
"""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from budgets.fields import NAME_LENGTH_MAX


class EventKind(models.TextChoices):
    USAGE = "usage", "Usage"
    ORPHAN = "orphan", "Orphan"
    ORPHAN_REVERSAL = "orphan_reversal", "Orphan taken back"
    ADJUSTMENT = "adjustment", "Re-rated"


class SpendEvent(models.Model):
    """One row of the ledger: this request cost this much, on these accounts."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    admitted_at = models.DateTimeField()
    part = models.SmallIntegerField(default=0)
    request_id = models.UUIDField()
    kind = models.CharField(max_length=16, choices=EventKind)
    settled_at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    organization_id = models.BigIntegerField()
    accounts = ArrayField(models.UUIDField())
    amount_units = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    cost = models.DecimalField(max_digits=38, decimal_places=18)
    cost_currency = models.CharField(max_length=3)
    exchange_rate = models.DecimalField(max_digits=30, decimal_places=15)
    exchange_rate_date = models.DateField(null=True)
    reserved_units = models.BigIntegerField()
    key_digest = models.CharField(max_length=64)
    team = models.CharField(max_length=NAME_LENGTH_MAX)
    user = models.CharField(max_length=NAME_LENGTH_MAX)
    end_user = models.CharField(max_length=256)
    tags = ArrayField(models.CharField(max_length=256))
    route = models.CharField(max_length=64)
    model = models.CharField(max_length=NAME_LENGTH_MAX)
    provider = models.CharField(max_length=64)
    upstream_model = models.CharField(max_length=NAME_LENGTH_MAX)
    deployment = models.CharField(max_length=NAME_LENGTH_MAX)
    price_reference = models.CharField(max_length=128)
    streamed = models.BooleanField()
    status = models.SmallIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    usage = models.JSONField()
    lines = models.JSONField()
    flags = ArrayField(models.CharField(max_length=24))
    service_tier = models.CharField(max_length=24)
    variant = models.CharField(max_length=64)
    region = models.CharField(max_length=32)
    rerating_id = models.BigIntegerField(null=True)
    attempt_of = models.UUIDField(null=True)
    saved_units = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "spend_event"
        ordering = ("-admitted_at",)
        verbose_name = "ledger row"

    def __str__(self) -> str:
        return str(self.id)


class SetAside(models.Model):
    """A stream entry that could not be read as a spend event: kept as it was, for people to see."""

    position = models.CharField(max_length=48, unique=True)
    fields = models.JSONField()
    problem = models.CharField(max_length=500)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.position


class Verification(models.Model):
    """What one run of ``verify-ledger`` found; the last thousand are kept."""

    at = models.DateTimeField(db_index=True)
    ledger_rows = models.BigIntegerField()
    differences = models.BigIntegerField()
    drift_units = models.BigIntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="verification_counts_not_negative",
                condition=Q(ledger_rows__gte=0, differences__gte=0, drift_units__gte=0),
            )
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M}: {self.differences} differences"


class Rollup(models.Model):
    """Sums of ledger rows by account, model, provider and deployment."""

    account_id = models.UUIDField()
    model = models.CharField(max_length=NAME_LENGTH_MAX)
    provider = models.CharField(max_length=64)
    deployment = models.CharField(max_length=NAME_LENGTH_MAX)
    amount_units = models.BigIntegerField()
    events = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    saved_units = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.account_id}: {self.amount_units}"


class QuarterHour(Rollup):
    """By 15 minutes of UTC: every calendar day of every zone is a whole number of them."""

    bucket_start = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="quarter_hour_once",
                fields=["account_id", "bucket_start", "model", "provider", "deployment"],
            )
        ]


class Day(Rollup):
    """By days of the organization's time zone."""

    day = models.DateField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="day_once", fields=["account_id", "day", "model", "provider", "deployment"]
            )
        ]


class LabelQuarterHour(Rollup):
    """End users and tags apart: there may be millions of them."""

    bucket_start = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="label_quarter_hour_once",
                fields=["account_id", "bucket_start", "model", "provider", "deployment"],
            )
        ]


class LabelDay(Rollup):
    day = models.DateField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="label_day_once",
                fields=["account_id", "day", "model", "provider", "deployment"],
            )
        ]
