"""Where requests go: deployments, and the credentials they use."""

import re
from typing import Final

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from budgets.fields import NAME_LENGTH_MAX, PublicIdField
from budgets.models import END_USER_BYTES_MAX, TAG_BYTES_MAX, ApiKey, Organization
from gateway.routing import words
from gateway.routing.causes import Cause
from gateway.routing.fallbacks import FALLBACKS_MAX, RETRIES_MAX, Override
from gateway.routing.strategies import Strategy

WEIGHT_MAX = 1_000
REGION_LENGTH_MAX = 32
REGION = re.compile(r"[a-z0-9][a-z0-9_-]*")
validate_region = RegexValidator(
    rf"\A{REGION.pattern}\Z", "Give it in small letters, as the price's regions are named."
)

validate_api_version = RegexValidator(
    r"\A[0-9A-Za-z][0-9A-Za-z._-]*\Z", "Give it as Azure does: 2025-04-01-preview."
)


class WhenClientLeaves(models.TextChoices):
    """What becomes of an answer whose caller has gone."""

    DRAIN = "drain", "Read on for a while, so that the usage is exact"
    CANCEL = "cancel", "Cancel at once, and count what was produced"


class Credential(models.Model):
    """A provider's key, encrypted; it is only ever sent to the host it was saved for."""

    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="credentials"
    )
    name = models.CharField(max_length=NAME_LENGTH_MAX)
    host = models.CharField(max_length=255, help_text="Host and port that may receive it.")
    secret = models.BinaryField(editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name", "id")

    def __str__(self) -> str:
        return self.name


class Deployment(models.Model):
    """One upstream that can serve a model: those of one name are what callers ask for."""

    public_id = PublicIdField("model id")
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="deployments",
        help_text="Empty: for every organization.",
    )  # fmt: skip
    model_name = models.CharField(max_length=NAME_LENGTH_MAX, db_index=True)
    provider = models.SlugField(max_length=64)
    upstream_model = models.CharField(max_length=NAME_LENGTH_MAX)
    api_base = models.URLField(max_length=500)
    credential = models.ForeignKey(
        Credential, models.PROTECT, null=True, blank=True, related_name="deployments"
    )
    weight = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1), MaxValueValidator(WEIGHT_MAX)]
    )
    region = models.CharField(
        max_length=REGION_LENGTH_MAX, blank=True, validators=[validate_region],
        help_text="Where it serves, if its price depends on that: us, eu, regional …",
    )  # fmt: skip
    api_version = models.CharField(
        max_length=32, blank=True, validators=[validate_api_version],
        help_text="Azure OpenAI's ?api-version=, such as 2025-04-01-preview. Empty: its v1 API.",
    )  # fmt: skip
    tags = ArrayField(
        models.CharField(max_length=TAG_BYTES_MAX), default=list, blank=True,
        help_text="Requests that carry one of these tags go to it, others do not.",
    )  # fmt: skip
    when_client_leaves = models.CharField(
        max_length=8, choices=WhenClientLeaves, default=WhenClientLeaves.DRAIN
    )
    price_override = models.JSONField(default=dict, blank=True)
    input_tokens_max = models.PositiveIntegerField(null=True, blank=True)
    output_tokens_max = models.PositiveIntegerField(null=True, blank=True)
    blocked = models.BooleanField(default=False)
    model_info = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("model_name", "id")
        constraints = [
            models.CheckConstraint(
                name="deployment_weight_in_range",
                condition=Q(weight__gte=1, weight__lte=WEIGHT_MAX),
            )
        ]

    def __str__(self) -> str:
        return f"{self.model_name} → {self.provider}/{self.upstream_model}"


class StrategyChoice(models.TextChoices):
    """The strategies in words."""

    WEIGHTED = Strategy.WEIGHTED, "By weight"
    LEAST_BUSY = Strategy.LEAST_BUSY, "The least busy first"
    LOWEST_COST = Strategy.LOWEST_COST, "The lowest cost of the request first"
    LATENCY = Strategy.LATENCY, "The fastest first"
    TIME_TO_FIRST_TOKEN = Strategy.TIME_TO_FIRST_TOKEN, "The fastest to begin first"
    AVAILABILITY = Strategy.AVAILABILITY, "The most reliable first"


FALLBACK_FIELDS: Final = {
    Cause.DEFAULT: "fallbacks",
    Cause.CONTEXT_WINDOW: "context_window_fallbacks",
    Cause.CONTENT_POLICY: "content_policy_fallbacks",
    Cause.BUDGET: "budget_fallbacks",
}
"""The field of a rule that names the models for each cause."""


class RoutingRule(models.Model):
    """
    How requests for a model are routed; null in a field is: as the more general rule says.

    The most particular comes first: an organization's rule for the model, everybody's for it, the
    organization's for every model (``*``), everybody's for every model, the settings.
    """

    model_name = models.CharField(max_length=NAME_LENGTH_MAX, db_index=True)
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="routing_rules",
        help_text="Empty: for every organization.",
    )  # fmt: skip
    strategy = models.CharField(max_length=24, choices=StrategyChoice, null=True, blank=True)  # noqa: DJ001  # null is: as the more general rule
    retries = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MaxValueValidator(RETRIES_MAX)]
    )
    fallbacks = ArrayField(
        models.CharField(max_length=NAME_LENGTH_MAX), null=True, blank=True,
        help_text="Models to try when none of its deployments answers.",
    )  # fmt: skip
    context_window_fallbacks = ArrayField(
        models.CharField(max_length=NAME_LENGTH_MAX), null=True, blank=True,
        help_text="Models to try when a request is too long for it.",
    )  # fmt: skip
    content_policy_fallbacks = ArrayField(
        models.CharField(max_length=NAME_LENGTH_MAX), null=True, blank=True,
        help_text="Models to try when its provider refuses the content.",
    )  # fmt: skip
    budget_fallbacks = ArrayField(
        models.CharField(max_length=NAME_LENGTH_MAX), null=True, blank=True,
        help_text="Models to try when a budget has no room for it.",
    )  # fmt: skip
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("model_name", "organization_id")
        constraints = [
            models.UniqueConstraint(
                name="routing_rule_once_per_model_and_organization",
                fields=["organization", "model_name"],
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="routing_rule_retries_in_range",
                condition=Q(retries=None) | Q(retries__lte=RETRIES_MAX),
            ),
            models.CheckConstraint(
                name="routing_rule_lists_bounded",
                # Null has no length, and passes.
                condition=Q(
                    fallbacks__len__lte=FALLBACKS_MAX,
                    context_window_fallbacks__len__lte=FALLBACKS_MAX,
                    content_policy_fallbacks__len__lte=FALLBACKS_MAX,
                    budget_fallbacks__len__lte=FALLBACKS_MAX,
                ),
            ),
        ]

    def __str__(self) -> str:
        return words.name_of(self.model_name)

    def in_words(self) -> str:
        """Return what the rule says, as ``gpt-4o: lowest cost, then claude-sonnet``."""
        return words.in_words(self.model_name, self.override())

    def override(self) -> Override:
        """Return what the rule says, as routing needs it."""
        lists = {cause: getattr(self, name) for cause, name in FALLBACK_FIELDS.items()}
        return Override(
            strategy=None if self.strategy is None else Strategy(self.strategy),
            retries=self.retries,
            fallbacks={cause: tuple(names) for cause, names in lists.items() if names is not None},
        )


class Purpose(models.TextChoices):
    """What a file is for."""

    BATCH = "batch", "Input of a batch"
    BATCH_OUTPUT = "batch_output", "Output of a batch"


class BatchState(models.TextChoices):
    """How far a batch has come here; its provider's own word for it is its status."""

    CREATING = "creating", "Being created"
    REFUSED = "refused", "Refused by the provider"
    UNKNOWN = "unknown", "Asked for, and no answer: charged what it held"
    OPEN = "open", "At the provider"
    PRICED = "priced", "Ended, its cost on the way to the ledger"
    SETTLED = "settled", "Ended, its cost in the ledger"


PRICED_STATES: Final = (BatchState.PRICED, BatchState.SETTLED)
DUE_STATES: Final = (BatchState.OPEN, BatchState.PRICED)
"""Batches in these states are looked at again."""


class GatewayFile(models.Model):
    """A file at a provider, known to callers by an id of ours; its bytes are never kept here."""

    public_id = models.CharField("id", max_length=64, unique=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="files")
    key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, related_name="files")
    team = models.CharField(max_length=NAME_LENGTH_MAX, blank=True)
    deployment = models.ForeignKey(Deployment, models.SET_NULL, null=True, related_name="files")
    upstream_id = models.CharField(max_length=255)
    purpose = models.CharField(max_length=16, choices=Purpose)
    filename = models.CharField(max_length=255)
    bytes = models.BigIntegerField(null=True)
    model = models.CharField(max_length=NAME_LENGTH_MAX)
    endpoint = models.CharField(max_length=64)
    lines = models.PositiveIntegerField(null=True)
    together = models.JSONField(default=dict)
    """What its lines ask for together: what bounds their cost."""
    end_user = models.CharField(max_length=END_USER_BYTES_MAX, blank=True)
    tags = ArrayField(models.CharField(max_length=TAG_BYTES_MAX), default=list)
    batch = models.ForeignKey(
        "GatewayBatch", models.PROTECT, null=True, related_name="outputs",
        help_text="The batch that has written it.",
    )  # fmt: skip
    created_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = "file"
        constraints = [
            models.UniqueConstraint(
                name="file_once_per_deployment", fields=["deployment", "upstream_id"]
            )
        ]

    def __str__(self) -> str:
        return self.public_id


class GatewayBatch(models.Model):
    """
    A batch at a provider, with all that is needed to settle it once it has ended: what it was
    admitted as, at which price, and what it holds.
    """

    public_id = models.CharField("id", max_length=64, unique=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="batches")
    key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, related_name="batches")
    team = models.CharField(max_length=NAME_LENGTH_MAX, blank=True)
    deployment = models.ForeignKey(Deployment, models.SET_NULL, null=True, related_name="batches")
    input_file = models.ForeignKey(GatewayFile, models.PROTECT, related_name="batches")
    upstream_id = models.CharField(max_length=255, blank=True)
    state = models.CharField(max_length=16, choices=BatchState, default=BatchState.CREATING)
    status = models.CharField(max_length=32, blank=True)
    told = models.JSONField(default=dict)
    """What callers were told of it last."""

    request_id = models.UUIDField("request", unique=True)
    admitted_ms = models.BigIntegerField()
    path = models.TextField()
    price = models.JSONField()
    described = models.TextField()
    """The spend event as it was described at admission."""
    held = models.DecimalField(max_digits=38, decimal_places=18)
    ceiling = models.DecimalField(max_digits=38, decimal_places=18)
    region = models.CharField(max_length=REGION_LENGTH_MAX, blank=True)

    amount_units = models.BigIntegerField(null=True)
    event = models.TextField(blank=True)
    """The spend event as it is settled, written before it is sent: it never changes after."""
    sent_generation = models.BigIntegerField(null=True)
    """The generation of the live store that has taken the event; null: none, or nobody knows."""
    next_look_at = models.DateTimeField()
    failures = models.PositiveIntegerField(default=0)
    problem = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = "batch"
        verbose_name_plural = "batches"
        constraints = [
            models.CheckConstraint(
                name="batch_priced_with_its_event",
                condition=~Q(state__in=PRICED_STATES) | (Q(amount_units__gte=0) & ~Q(event="")),
            )
        ]
        indexes = [
            models.Index(
                name="batch_due", fields=["next_look_at"], condition=Q(state__in=DUE_STATES)
            )
        ]

    def __str__(self) -> str:
        return self.public_id
