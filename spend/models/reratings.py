"""Corrections of what was charged: each run that re-rated past requests, and why."""

from django.db import models
from django.db.models import F, Q

from budgets.fields import NAME_LENGTH_MAX
from budgets.models import Organization


class Rerating(models.Model):
    """
    One correction of the requests of a model in [start, end): the ledger's adjusting rows name it.

    It is applied in batches; ``finished_at`` is when the last one was.
    """

    provider = models.CharField(max_length=64)
    upstream_model = models.CharField(max_length=NAME_LENGTH_MAX)
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="reratings"
    )
    start = models.DateTimeField()
    end = models.DateTimeField()
    reason = models.CharField(max_length=500)
    requested_by = models.CharField(max_length=255)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    requests_total = models.BigIntegerField(null=True, blank=True)
    """How many there were when the run began; null: it has not yet."""
    requests_seen = models.BigIntegerField(default=0)
    requests_changed = models.BigIntegerField(default=0)
    requests_skipped = models.BigIntegerField(default=0)
    skipped = models.JSONField(default=dict, blank=True)
    """By reason: how many keep their charge."""
    differences = models.JSONField(default=dict)
    """By currency: the sum of what was added, as an exact decimal in text."""

    class Meta:
        ordering = ("-id",)
        verbose_name = "re-rating"
        constraints = [
            models.CheckConstraint(
                name="rerating_ends_after_it_begins", condition=Q(end__gt=F("start"))
            ),
            models.CheckConstraint(name="rerating_says_why", condition=~Q(reason="")),
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.upstream_model} from {self.start:%Y-%m-%d}"
