"""The price book: what models of providers cost, from when on."""

from datetime import datetime
from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q

from budgets import money
from budgets.fields import NAME_LENGTH_MAX, validate_currency
from budgets.models import Organization, Team
from spend import windows
from spend.components import RATED

RATE_DIGITS, RATE_DECIMALS = 30, 18


def validate_window(text: str) -> None:
    try:
        windows.parse(text)
    except windows.InvalidWindow as error:
        raise ValidationError(f"This window {error}.") from error


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


class PriceVersions(models.QuerySet["PriceVersion"]):
    def current(self) -> "PriceVersions":
        """Leave out what a correction has replaced."""
        return self.filter(replaced_by=None)

    def for_everybody(self) -> "PriceVersions":
        return self.current().filter(organization=None)

    def holding_at(self, at: datetime) -> "PriceVersions":
        """Those whose time holds ``at``; of several the one that begins last is in force."""
        return self.filter(
            Q(effective_until=None) | Q(effective_until__gt=at), effective_from__lte=at
        )


class PriceVersion(models.Model):
    """
    All rates of a model from an instant on, until the next version's, or until it ends.

    One for an organization goes before those for everybody. A version is not edited once it may
    have been charged: a correction is another row, which replaces it from then on.
    """

    model = models.ForeignKey(Model, models.PROTECT, related_name="prices")
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="prices",
        help_text="Empty: for every organization.",
    )  # fmt: skip
    currency = models.CharField(max_length=3, default="USD", validators=[validate_currency])
    effective_from = models.DateTimeField()
    effective_until = models.DateTimeField(
        null=True, blank=True, help_text="Empty: until the next price of the model begins."
    )
    region_factors = models.JSONField(
        default=dict, blank=True,
        help_text="By what rates are multiplied where a request is served in a region.",
    )  # fmt: skip
    source = models.CharField(max_length=64)
    source_version = models.CharField(max_length=64, blank=True)
    replaced_by = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, editable=False, related_name="replaced"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PriceVersions.as_manager()

    class Meta:
        verbose_name = "price"
        ordering = ("model", "-effective_from")
        constraints = [
            models.UniqueConstraint(
                name="price_once_per_model_organization_and_date",
                fields=["model", "organization", "effective_from"],
                condition=Q(replaced_by=None),
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="price_ends_after_it_begins",
                condition=Q(effective_until=None) | Q(effective_until__gt=F("effective_from")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.effective_from:%Y-%m-%d}"

    def holds(self, at: datetime) -> bool:
        return self.effective_from <= at and (
            self.effective_until is None or at < self.effective_until
        )


class PriceRates(models.QuerySet["PriceRate"]):
    def plain(self) -> "PriceRates":
        """Those of short requests at the standard tier, of any form and at any time."""
        return self.filter(tier_from=0, service_tier="", variant="", window="")


class PriceRate(models.Model):
    """What so many units of a class of usage cost under its conditions; 0 is a price."""

    version = models.ForeignKey(PriceVersion, models.CASCADE, related_name="rates")
    component = models.CharField(
        max_length=24, choices=[(each.value, each.value.replace("_", " ")) for each in RATED]
    )
    rate = models.DecimalField(max_digits=RATE_DIGITS, decimal_places=RATE_DECIMALS)
    per = models.PositiveIntegerField(default=1, help_text="For so many units.")
    tier_from = models.PositiveIntegerField(
        default=0, help_text="Applies to requests of more than so many input tokens."
    )
    service_tier = models.CharField(
        max_length=24, blank=True, help_text="Empty: standard. Otherwise batch, flex, priority …"
    )
    variant = models.CharField(
        max_length=64, blank=True, help_text="Size and quality of images, resolution of videos."
    )
    window = models.CharField(
        max_length=windows.LENGTH_MAX, blank=True, validators=[validate_window],
        help_text="When it holds, in UTC, such as Mo-Fr 16:30-00:30. Empty: always.",
    )  # fmt: skip

    objects = PriceRates.as_manager()

    class Meta:
        ordering = ("component", "service_tier", "variant", "window", "tier_from")
        constraints = [
            models.UniqueConstraint(
                name="rate_once_per_component_and_conditions",
                fields=[
                    "version", "component", "tier_from", "service_tier", "variant", "window",
                ],
            ),
            models.CheckConstraint(name="rate_not_negative", condition=Q(rate__gte=0)),
            models.CheckConstraint(name="rate_per_not_zero", condition=Q(per__gte=1)),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.component}: {self.rate}"

    def for_units(self, units: int) -> Decimal:
        """Return what so many units cost, rounded only where the rate does not divide."""
        return money.WIDE.divide(self.rate * units, Decimal(self.per)).normalize(money.WIDE)


class PriceAdjustment(models.Model):
    """
    A discount or a margin on list prices: of a provider, for a team or an organization.

    The most particular one applies: a team's before its organization's before everybody's, and
    one for a provider before one for all. They do not add up.
    """

    provider = models.ForeignKey(
        Provider, models.PROTECT, null=True, blank=True, related_name="adjustments",
        help_text="Empty: for every provider.",
    )  # fmt: skip
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="adjustments",
        help_text="Empty: for every organization.",
    )  # fmt: skip
    team = models.ForeignKey(
        Team, models.PROTECT, null=True, blank=True, related_name="adjustments",
        help_text="Empty: for every team.",
    )  # fmt: skip
    discount_percent = models.DecimalField(
        max_digits=9, decimal_places=6, default=0, help_text="Off the list price."
    )
    margin_percent = models.DecimalField(
        max_digits=10, decimal_places=6, default=0, help_text="On top, after the discount."
    )
    margin_per_request = models.DecimalField(
        max_digits=RATE_DIGITS, decimal_places=RATE_DECIMALS, default=0,
        help_text="On top of each request, in the currency of its price.",
    )  # fmt: skip
    effective_from = models.DateTimeField()
    effective_until = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "discount or margin"
        verbose_name_plural = "discounts and margins"
        ordering = ("provider", "organization", "team", "-effective_from")
        constraints = [
            models.UniqueConstraint(
                name="adjustment_once_per_scope_and_date",
                fields=["provider", "organization", "team", "effective_from"],
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="adjustment_discount_in_range",
                condition=Q(discount_percent__gte=0, discount_percent__lte=100),
            ),
            models.CheckConstraint(
                name="adjustment_margin_in_range",
                condition=Q(margin_percent__gte=0, margin_percent__lte=1_000)
                & Q(margin_per_request__gte=0),
            ),
            models.CheckConstraint(
                name="adjustment_ends_after_it_begins",
                condition=Q(effective_until=None) | Q(effective_until__gt=F("effective_from")),
            ),
        ]

    def __str__(self) -> str:
        who = self.team or self.organization or "everybody"
        return f"{self.provider or 'every provider'} for {who}"
