"""Models that were asked for and have no price: who waits to be priced, and how much."""

from django.db import models
from django.db.models import Q

from budgets.fields import NAME_LENGTH_MAX


class UnpricedModel(models.Model):
    """
    A provider's model that was refused, or served and not charged, for want of a price.

    Counts are of the time since it was last settled: since what had waited was rated.
    """

    provider = models.CharField(max_length=64)
    upstream_model = models.CharField(max_length=NAME_LENGTH_MAX)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    refused = models.BigIntegerField(default=0)
    waiting = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-last_seen_at",)
        constraints = [
            models.UniqueConstraint(
                name="unpriced_once_per_model", fields=["provider", "upstream_model"]
            ),
            models.CheckConstraint(
                name="unpriced_counts_not_negative",
                condition=Q(refused__gte=0, waiting__gte=0, input_tokens__gte=0)
                & Q(output_tokens__gte=0),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.upstream_model}"
