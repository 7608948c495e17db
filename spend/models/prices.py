"""The price book: what models of providers cost, from when on."""

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
