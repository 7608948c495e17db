"""What providers say was used and what they charge: imported whole, compared, never changed."""

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinLengthValidator
from django.db import models
from django.db.models import F, Q

from budgets.fields import NAME_LENGTH_MAX, PublicIdField

AMOUNT_DIGITS, AMOUNT_DECIMALS = 38, 18
DIGEST_LENGTH = 64


class InvoiceState(models.TextChoices):
    MATCHING = "matching", "Matching"
    DRIFTING = "drifting", "Drifting"


class InvoiceImport(models.Model):
    """
    A file of a provider, and how far it was from the ledger when they were last compared.

    Where it tells no money, ``currency`` is empty and the sums are of tokens.
    """

    public_id = PublicIdField("invoice id")
    provider = models.CharField(max_length=64)
    format = models.CharField(max_length=32)
    file_name = models.CharField(max_length=NAME_LENGTH_MAX, blank=True)
    digest = models.CharField(
        max_length=DIGEST_LENGTH, validators=[MinLengthValidator(DIGEST_LENGTH)], editable=False
    )
    currency = models.CharField(max_length=3, blank=True)
    first_day = models.DateField()
    last_day = models.DateField()
    lines = models.PositiveIntegerField()
    theirs = models.DecimalField(max_digits=AMOUNT_DIGITS, decimal_places=AMOUNT_DECIMALS)
    ours = models.DecimalField(max_digits=AMOUNT_DIGITS, decimal_places=AMOUNT_DECIMALS)
    drift = models.DecimalField(max_digits=AMOUNT_DIGITS, decimal_places=AMOUNT_DECIMALS)
    drift_percent = models.DecimalField(max_digits=14, decimal_places=4, null=True)
    state = models.CharField(max_length=16, choices=InvoiceState)
    compared_at = models.DateTimeField()
    imported_at = models.DateTimeField()
    imported_by = models.CharField(max_length=NAME_LENGTH_MAX)

    class Meta:
        ordering = ("-imported_at", "-id")
        verbose_name = "invoice"
        constraints = [
            models.UniqueConstraint(
                name="invoice_once_per_provider", fields=["provider", "digest"]
            ),
            models.CheckConstraint(
                name="invoice_days_in_order", condition=Q(last_day__gte=F("first_day"))
            ),
            models.CheckConstraint(
                name="invoice_drift_not_negative", condition=Q(drift__gte=0, theirs__gte=0)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.first_day} to {self.last_day}"


class InvoiceLine(models.Model):
    """A line of an invoice as the provider tells it; append-only. What is not told is null."""

    invoice = models.ForeignKey(InvoiceImport, models.PROTECT, related_name="details")
    number = models.PositiveIntegerField()
    day = models.DateField()
    model = models.CharField(max_length=NAME_LENGTH_MAX, blank=True)
    key = models.CharField(max_length=NAME_LENGTH_MAX, blank=True)
    amount = models.DecimalField(
        max_digits=AMOUNT_DIGITS, decimal_places=AMOUNT_DECIMALS, null=True
    )
    decimals = models.PositiveSmallIntegerField()
    input_tokens = models.BigIntegerField(null=True)
    output_tokens = models.BigIntegerField(null=True)
    requests = models.BigIntegerField(null=True)
    external_id = models.CharField(max_length=NAME_LENGTH_MAX, blank=True)

    class Meta:
        ordering = ("invoice", "number")
        constraints = [
            models.UniqueConstraint(name="line_once_per_invoice", fields=["invoice", "number"]),
            models.CheckConstraint(
                name="line_tells_something",
                condition=Q(amount__isnull=False)
                | Q(input_tokens__isnull=False, output_tokens__isnull=False),
            ),
            models.CheckConstraint(
                name="line_not_negative",
                condition=~Q(amount__lt=0)
                & ~Q(input_tokens__lt=0)
                & ~Q(output_tokens__lt=0)
                & ~Q(requests__lt=0),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.model}"


class ProviderKey(models.Model):
    """
    Which requests of ours a provider counts under one of its keys.

    A provider sees credentials and knows nothing of virtual keys: those that use a credential are
    named by the deployments they go through, or by the virtual keys they are made with.
    """

    provider = models.CharField(max_length=64)
    external_id = models.CharField(
        "provider's key", max_length=NAME_LENGTH_MAX,
        help_text="Its id or name, as the provider's files have it.",
    )  # fmt: skip
    deployments = ArrayField(models.CharField(max_length=NAME_LENGTH_MAX), default=list, blank=True)
    key_digests = ArrayField(models.CharField(max_length=64), default=list, blank=True)

    class Meta:
        ordering = ("provider", "external_id")
        verbose_name = "provider key"
        constraints = [
            models.UniqueConstraint(name="provider_key_once", fields=["provider", "external_id"]),
            models.CheckConstraint(
                name="provider_key_names_requests",
                condition=~Q(deployments=[], key_digests=[]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.external_id}"
