"""
Prices and what was spent at them: the price book, the ledger and its roll-ups.

The ledger is append-only (a trigger refuses anything but INSERT) and partitioned by day; Django
reads it, only the recorder writes it.
"""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from budgets.fields import NAME_LENGTH_MAX, validate_currency
from spend.pricing import Component

RATE_DIGITS, RATE_DECIMALS = 30, 18


class Provider(models.Model):
    """Who serves models and sends the bill, such as ``openai``."""

    slug = models.SlugField(max_length=64, unique=True)
    name = models.CharField(max_length=NAME_LENGTH_MAX)

    class Meta:
        ordering = ("slug",)

    def __str__(self) -> str:
        return self.slug


class Model(models.Model):
    """A model of a provider as the provider names it; prices belong to it."""

    provider = models.ForeignKey(Provider, models.PROTECT, related_name="models")
    name = models.CharField(max_length=NAME_LENGTH_MAX)
    other_names = ArrayField(models.CharField(max_length=NAME_LENGTH_MAX), default=list, blank=True)
    prefixes = ArrayField(models.CharField(max_length=NAME_LENGTH_MAX), default=list, blank=True)
    context_window = models.PositiveIntegerField(null=True, blank=True)
    output_tokens_max = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ("provider", "name")
        constraints = [
            models.UniqueConstraint(name="model_once_per_provider", fields=["provider", "name"])
        ]

    def __str__(self) -> str:
        return f"{self.provider.slug}/{self.name}"


class PriceVersion(models.Model):
    """All rates of a model from a date on, until the next version's date."""

    model = models.ForeignKey(Model, models.PROTECT, related_name="prices")
    currency = models.CharField(max_length=3, default="USD", validators=[validate_currency])
    effective_from = models.DateTimeField()
    source = models.CharField(max_length=64)
    source_version = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("model", "-effective_from")
        constraints = [
            models.UniqueConstraint(
                name="price_once_per_model_and_date", fields=["model", "effective_from"]
            )
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.effective_from:%Y-%m-%d}"


class PriceRate(models.Model):
    """What one unit of a class of usage costs; 0 is a price."""

    version = models.ForeignKey(PriceVersion, models.CASCADE, related_name="rates")
    component = models.CharField(
        max_length=24, choices=[(each.value, each.value.replace("_", " ")) for each in Component]
    )
    tier_from = models.PositiveIntegerField(
        default=0, help_text="Applies to requests of more than so many input tokens."
    )
    rate = models.DecimalField(
        max_digits=RATE_DIGITS, decimal_places=RATE_DECIMALS, help_text="For one unit (one token)."
    )

    class Meta:
        ordering = ("component", "tier_from")
        constraints = [
            models.UniqueConstraint(
                name="rate_once_per_component_and_tier",
                fields=["version", "component", "tier_from"],
            ),
            models.CheckConstraint(name="rate_not_negative", condition=Q(rate__gte=0)),
        ]

    def __str__(self) -> str:
        return f"{self.component}: {self.rate}"


class EventKind(models.TextChoices):
    USAGE = "usage", "Usage"
    ORPHAN = "orphan", "Orphan"
    ORPHAN_REVERSAL = "orphan_reversal", "Orphan taken back"


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
