"""Price lists that wait for somebody's decision, and those that were decided."""

from django.db import models
from django.db.models import Q


class ProposalState(models.TextChoices):
    PROPOSED = "proposed"
    APPLIED = "applied"
    REJECTED = "rejected"


class PriceProposal(models.Model):
    """
    What a price list would change, until somebody applies or rejects it; then it is a record.

    It changes no price by being there. ``changes`` holds all that applying needs, so that what
    is applied is what was looked at.
    """

    source = models.CharField(max_length=64)
    source_version = models.CharField(max_length=64, blank=True)
    digest = models.CharField(max_length=64)
    state = models.CharField(
        max_length=8, choices=ProposalState.choices, default=ProposalState.PROPOSED
    )
    changes = models.JSONField()
    withdrawn = models.JSONField(default=list)
    counts = models.JSONField()
    outcome = models.JSONField(default=dict)
    proposed_at = models.DateTimeField()
    proposed_by = models.CharField(max_length=255)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.CharField(max_length=255, blank=True)
    note = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                name="price_proposal_open_once", fields=["digest"], condition=Q(state="proposed")
            ),
            models.CheckConstraint(
                name="price_proposal_decided_by_somebody",
                condition=Q(state="proposed", decided_at=None)
                | (~Q(state="proposed") & Q(decided_at__isnull=False) & ~Q(decided_by="")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.source_version}".strip()

    @property
    def is_open(self) -> bool:
        return self.state == ProposalState.PROPOSED
