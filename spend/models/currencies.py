"""What currencies are worth in others, from a date on, and how the last fetches of rates ended."""

from django.db import models
from django.db.models import F, Q

from budgets.fields import validate_currency
from spend.currencies.exchange import RATE_DECIMALS, RATE_DIGITS, RATE_MAX, Source

REASON_LENGTH_MAX = 500


class RateState(models.TextChoices):
    IN_FORCE = "in_force", "In force"
    QUARANTINED = "quarantined", "Quarantined"
    REJECTED = "rejected", "Rejected"


class ExchangeRateQuerySet(models.QuerySet["ExchangeRate"]):
    def in_force(self) -> "ExchangeRateQuerySet":
        """Return those that count: no rate of the same source, pair and date has replaced them."""
        return self.filter(state=RateState.IN_FORCE, replaced_at=None)


class ExchangeRate(models.Model):
    """
    How much of ``quote`` one unit of ``base`` is worth, from ``date`` on.

    Never edited or deleted, as a trigger sees to: a correction is another row, and tells the one
    before that it is replaced.
    """

    source = models.CharField(max_length=8, choices=[(each.value, each.value) for each in Source])
    base = models.CharField(max_length=3, validators=[validate_currency])
    quote = models.CharField(max_length=3, validators=[validate_currency])
    date = models.DateField()
    rate = models.DecimalField(max_digits=RATE_DIGITS, decimal_places=RATE_DECIMALS)
    state = models.CharField(max_length=12, choices=RateState)
    doubt = models.CharField(max_length=REASON_LENGTH_MAX, blank=True)
    reason = models.CharField(max_length=REASON_LENGTH_MAX, blank=True)
    created_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)
    replaced_at = models.DateTimeField(null=True, blank=True)

    objects = ExchangeRateQuerySet.as_manager()

    class Meta:
        ordering = ("-date", "base", "quote", "source", "-id")
        constraints = [
            models.UniqueConstraint(
                name="exchange_rate_in_force_once",
                fields=["source", "base", "quote", "date"],
                condition=Q(state=RateState.IN_FORCE, replaced_at=None),
            ),
            models.CheckConstraint(
                name="exchange_rate_in_range", condition=Q(rate__gt=0, rate__lte=RATE_MAX)
            ),
            models.CheckConstraint(
                name="exchange_rate_of_two_currencies", condition=~Q(base=F("quote"))
            ),
            models.CheckConstraint(
                name="exchange_rate_state_is_known", condition=Q(state__in=RateState.values)
            ),
            models.CheckConstraint(
                name="exchange_rate_quarantined_says_why",
                condition=~Q(state=RateState.QUARANTINED) | ~Q(doubt=""),
            ),
            models.CheckConstraint(
                name="exchange_rate_replaced_was_in_force",
                condition=Q(replaced_at=None) | Q(state=RateState.IN_FORCE),
            ),
        ]
        indexes = [
            models.Index(name="exchange_rate_by_pair", fields=["base", "quote", "-date"]),
            models.Index(name="exchange_rate_by_date", fields=["date"]),
        ]

    def __str__(self) -> str:
        return f"{self.base}/{self.quote} of {self.date} ({self.source})"


class RateFetch(models.Model):
    """One attempt to fetch rates; the last thousand are kept."""

    at = models.DateTimeField(db_index=True)
    problem = models.CharField(max_length=REASON_LENGTH_MAX, blank=True)
    newest = models.DateField(null=True, blank=True)
    added = models.PositiveIntegerField(default=0)
    quarantined = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.CheckConstraint(
                name="rate_fetch_succeeded_or_says_why",
                condition=~Q(problem="") | Q(newest__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M}: {self.problem or self.newest}"
