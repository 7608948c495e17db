"""
Who may spend (organizations, teams, users, keys …), and what they have spent (accounts).

Everything that can spend holds one :class:`Account`; only accounts have budgets. What an account
has spent and reserved right now lives in ``budgets.livestore``; the totals here are the record
from which it can be rebuilt. Who changed what, and when, is kept by the history trigger.
"""

import uuid
from calendar import month_name
from datetime import datetime, time

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, ManyToManyField, Q

from budgets import durations, money, periods
from budgets.fields import (
    NAME_LENGTH_MAX,
    PublicIdField,
    validate_currency,
    validate_duration,
    validate_time_zone,
)
from budgets.increases import Added

TAGS_PER_REQUEST_MAX = 16
TAG_BYTES_MAX = 256
END_USER_BYTES_MAX = 256
RATE_LIMIT_MAX = 10**12
_DERIVED = uuid.UUID("6d9f0f6e-4a53-5f0e-9a3c-0d1f6f3f7a10")


PLATFORM = 0
"""Stands for no organization: the scope of what all share, and of the accounts of providers."""


def derived_account_id(*, organization_id: int, kind: str, text: str) -> uuid.UUID:
    """
    Return the account id of an end user, tag, model, provider or deployment, known before any row
    of it exists; ``organization_id`` is ``PLATFORM`` for the last three.
    """
    return uuid.uuid5(_DERIVED, f"{organization_id}\x00{kind}\x00{text}")


def holder_model_account_id(*, holder: uuid.UUID, model: str) -> uuid.UUID:
    """Return the account id of what ``holder`` spends on the model of that name."""
    return uuid.uuid5(holder, model)


class Enforcement(models.TextChoices):
    """How strictly a budget holds."""

    STRICT = "strict", "Strict: never above the limit"
    ADAPTIVE = "adaptive", "Adaptive: holds what such requests have cost lately"
    OBSERVE = "observe", "Observe: never refuses, only counts"


class AccountKind(models.TextChoices):
    ORGANIZATION = "organization", "Organization"
    TEAM = "team", "Team"
    MEMBER = "member", "Team member"
    USER = "user", "User"
    KEY = "key", "Key"
    END_USER = "end_user", "End user"
    TAG = "tag", "Tag"
    MODEL = "model", "Model"
    PROVIDER = "provider", "Provider"
    DEPLOYMENT = "deployment", "Deployment"
    HOLDER_MODEL = "holder_model", "Model of a holder"


PLATFORM_KINDS = (AccountKind.MODEL, AccountKind.PROVIDER, AccountKind.DEPLOYMENT)
"""Accounts without an organization; they count in the platform's currency."""


class Organization(models.Model):
    """A tenant: what belongs to one is invisible to another. Its accounts count in its currency."""

    public_id = PublicIdField("organization id")
    name = models.CharField(max_length=NAME_LENGTH_MAX)
    currency = models.CharField(max_length=3, default="USD", validators=[validate_currency])
    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    allowed_models = ArrayField(models.CharField(max_length=255), default=list, blank=True)
    blocked = models.BooleanField(default=False)
    metadata = models.JSONField(default=dict, blank=True)
    second_approver_above = models.DecimalField(
        max_digits=19, decimal_places=9, null=True, blank=True,
        help_text="Temporary increases above this amount need two approvers; empty: never.",
    )  # fmt: skip
    account = models.OneToOneField("Account", models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name", "id")
        constraints = [
            models.CheckConstraint(
                name="organization_second_approver_in_range",
                condition=Q(second_approver_above=None)
                | Q(second_approver_above__gte=0, second_approver_above__lte=money.LIMIT_MAX),
            )
        ]

    def __str__(self) -> str:
        return self.name


class Account(models.Model):
    """What accumulates spend, in its organization's currency: the unit of enforcement."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, related_name="accounts", editable=False
    )
    kind = models.CharField(max_length=16, choices=AccountKind)
    label = models.CharField(max_length=NAME_LENGTH_MAX)
    holder = models.ForeignKey(
        "self", models.PROTECT, null=True, related_name="models", editable=False,
        help_text="Whose spending on one model this account is.",
    )  # fmt: skip
    model = models.CharField(max_length=NAME_LENGTH_MAX, blank=True, editable=False)
    closed_because = models.CharField(
        max_length=500, blank=True, editable=False,
        help_text="Why nobody may spend on it until somebody has looked; empty: it is open.",
    )  # fmt: skip
    budgets: "ManyToManyField[Budget, AccountBudget]" = ManyToManyField(
        "Budget", through="AccountBudget", related_name="accounts"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("kind", "label", "id")
        indexes = [models.Index(fields=["organization", "kind"], name="account_by_kind")]
        constraints = [
            models.UniqueConstraint(
                name="account_once_per_holder_and_model",
                fields=["holder", "model"],
                condition=Q(holder__isnull=False),
            ),
            models.CheckConstraint(
                name="account_of_a_holder_names_a_model",
                condition=Q(holder__isnull=False, kind=AccountKind.HOLDER_MODEL) & ~Q(model="")
                | Q(holder=None, model="") & ~Q(kind=AccountKind.HOLDER_MODEL),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.label}"

    @property
    def currency(self) -> str:
        """The organization's, or the platform's."""
        return self.organization.currency if self.organization else settings.PLATFORM_CURRENCY


class Budget(models.Model):
    """
    Reusable terms: how much an account may spend in each period, and how strictly.

    Many accounts may share one; each counts for itself. A private budget belongs to one account
    and is made from the limits given with its holder; a window is a further one beside it. A
    budget without an organization is for models, providers and deployments.
    """

    public_id = PublicIdField("budget id")
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="budgets"
    )
    name = models.CharField(max_length=NAME_LENGTH_MAX, blank=True)
    private_to = models.OneToOneField(
        Account,
        models.CASCADE,
        null=True,
        blank=True,
        editable=False,
        related_name="private_budget",
    )
    window_of = models.ForeignKey(
        Account, models.CASCADE, null=True, blank=True, editable=False, related_name="windows"
    )
    max_budget = models.DecimalField(max_digits=19, decimal_places=9, null=True, blank=True)
    soft_budget = models.DecimalField(max_digits=19, decimal_places=9, null=True, blank=True)
    rollover_max = models.DecimalField(
        max_digits=19, decimal_places=9, null=True, blank=True,
        help_text="The most that is carried of what a period has left; empty: nothing is.",
    )  # fmt: skip
    duration = models.CharField(
        max_length=16, blank=True, validators=[validate_duration],
        help_text="Such as 1h, 1d, 1w, 1mo or 1y; empty: for the account's whole life.",
    )  # fmt: skip
    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    anchor = models.DateTimeField(
        null=True, blank=True,
        help_text="When a period begins; all others lie whole durations from it.",
    )  # fmt: skip
    reset_time = models.TimeField(default=time(), help_text="When days begin, by the local clock.")
    week_start = models.PositiveSmallIntegerField(
        default=0, choices=[(n, name.capitalize()) for n, name in enumerate(periods.WEEKDAYS)]
    )
    year_start = models.PositiveSmallIntegerField(
        default=1, choices=[(n, month_name[n]) for n in range(1, 13)],
        help_text="The month in which years, and quarters of them, begin.",
    )  # fmt: skip
    rpm_limit = models.PositiveBigIntegerField(
        "requests a minute", null=True, blank=True, help_text="In any 60 seconds."
    )
    tpm_limit = models.PositiveBigIntegerField(
        "tokens a minute", null=True, blank=True, help_text="In any 60 seconds."
    )
    max_parallel_requests = models.PositiveBigIntegerField(null=True, blank=True)
    enforcement = models.CharField(max_length=8, choices=Enforcement, default=Enforcement.ADAPTIVE)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name", "id")
        constraints = [
            models.CheckConstraint(
                name="budget_max_in_range",
                condition=Q(max_budget=None)
                | Q(max_budget__gte=0, max_budget__lte=money.LIMIT_MAX),
            ),
            models.CheckConstraint(
                name="budget_soft_in_range",
                condition=Q(soft_budget=None)
                | Q(soft_budget__gte=0, soft_budget__lte=money.LIMIT_MAX),
            ),
            models.CheckConstraint(
                name="budget_rollover_in_range",
                condition=Q(rollover_max=None)
                | Q(rollover_max__gte=0, rollover_max__lte=money.LIMIT_MAX),
            ),
            models.CheckConstraint(
                name="budget_soft_not_above_max",
                condition=Q(soft_budget=None)
                | Q(max_budget=None)
                | Q(soft_budget__lte=F("max_budget")),
            ),
            models.CheckConstraint(
                name="budget_duration_is_canonical",
                condition=Q(duration__regex=rf"^(|quarterly|{durations.PATTERN})$"),
            ),
            models.CheckConstraint(
                name="budget_layout_in_range",
                condition=Q(week_start__lte=6, year_start__gte=1, year_start__lte=12),
            ),
            models.CheckConstraint(
                name="budget_enforcement_is_known", condition=Q(enforcement__in=Enforcement.values)
            ),
            *(
                models.CheckConstraint(
                    name=f"budget_{name}_in_range",
                    condition=Q(**{name: None}) | Q(**{f"{name}__lte": RATE_LIMIT_MAX}),
                )
                for name in ("rpm_limit", "tpm_limit", "max_parallel_requests")
            ),
            models.CheckConstraint(
                name="budget_is_private_or_a_window",
                condition=Q(private_to=None) | Q(window_of=None),
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.public_id

    @property
    def currency(self) -> str:
        """The organization's, or the platform's."""
        return self.organization.currency if self.organization else settings.PLATFORM_CURRENCY

    @property
    def layout(self) -> periods.Layout:
        return periods.layout_of(
            self.duration, anchor=self.anchor, begun=self.created_at, reset_time=self.reset_time,
            week_start=self.week_start, year_start=self.year_start,
        )  # fmt: skip

    def period_at(self, at: datetime) -> periods.Period:
        zone = periods.zone_of(self.time_zone)
        return periods.period_at(duration=self.duration, zone=zone, at=at, layout=self.layout)


class AccountBudget(models.Model):
    """A budget in force on an account."""

    account = models.ForeignKey(Account, models.CASCADE)
    budget = models.ForeignKey(Budget, models.PROTECT)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="budget_once_per_account", fields=["account", "budget"])
        ]

    def __str__(self) -> str:
        return f"{self.budget} on {self.account}"


class BudgetTemplate(models.Model):
    """
    A budget that every account of a kind under an organization or team has, each for itself, as
    long as it has none of its own; it needs no row for them, also not for those yet to come.
    """

    class AppliesTo(models.TextChoices):
        MEMBER = "member", "Team members"
        KEY = "key", "Keys"
        END_USER = "end_user", "End users"

    holder = models.ForeignKey(Account, models.CASCADE, related_name="templates")
    applies_to = models.CharField(max_length=16, choices=AppliesTo)
    budget = models.ForeignKey(Budget, models.PROTECT, related_name="templates")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="template_once_per_holder_and_kind",
                fields=["holder", "applies_to", "budget"],
            )
        ]

    def __str__(self) -> str:
        return f"{self.budget} for {self.get_applies_to_display().lower()} of {self.holder}"


class IncreaseState(models.TextChoices):
    PENDING = "pending", "Pending"
    APPROVED = "approved", "Approved"
    DENIED = "denied", "Denied"
    CANCELLED = "cancelled", "Cancelled"


class Increase(models.Model):
    """
    A budget's limit raised on one account for a while; another account with the same budget is
    not concerned.

    An approved one counts in [starts_at, ends_at) by the clock alone. Who asked and who decided
    are user names, or ``master key``.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.ForeignKey(Account, models.CASCADE, related_name="increases")
    budget = models.ForeignKey(Budget, models.CASCADE, related_name="increases")
    amount = models.DecimalField(max_digits=19, decimal_places=9)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    why = models.CharField(max_length=1_000)
    state = models.CharField(
        max_length=16, choices=IncreaseState, default=IncreaseState.PENDING, editable=False
    )
    is_grant = models.BooleanField(
        default=False, editable=False,
        help_text="An administrator gave it at once: nobody asked, nobody else decided.",
    )  # fmt: skip
    is_rollover = models.BooleanField(
        default=False, editable=False,
        help_text="What the period before had left: carried over by the books.",
    )  # fmt: skip
    asked_by = models.CharField(max_length=150, editable=False)
    asked_at = models.DateTimeField(editable=False)
    decided_by = models.CharField(max_length=150, blank=True, editable=False)
    decided_at = models.DateTimeField(null=True, editable=False)
    seconded_by = models.CharField(max_length=150, blank=True, editable=False)
    seconded_at = models.DateTimeField(null=True, editable=False)
    cancelled_by = models.CharField(max_length=150, blank=True, editable=False)
    cancelled_at = models.DateTimeField(null=True, editable=False)
    note = models.CharField(max_length=1_000, blank=True)

    class Meta:
        ordering = ("-asked_at", "id")
        indexes = [
            models.Index(fields=["account", "state", "ends_at"], name="increase_by_account"),
            models.Index(fields=["state", "ends_at"], name="increase_by_deadline"),
            models.Index(fields=["asked_by", "-asked_at"], name="increase_by_requester"),
        ]
        constraints = [
            models.CheckConstraint(
                name="increase_amount_in_range",
                condition=Q(amount__gt=0, amount__lte=money.LIMIT_MAX),
            ),
            models.UniqueConstraint(
                name="rollover_once_per_period",
                fields=["account", "budget", "starts_at"],
                condition=Q(is_rollover=True),
            ),
            models.CheckConstraint(
                name="increase_is_forward", condition=Q(starts_at__lt=F("ends_at"))
            ),
            models.CheckConstraint(
                name="increase_says_why_and_by_whom", condition=~Q(why="") & ~Q(asked_by="")
            ),
            models.CheckConstraint(
                name="increase_state_is_known", condition=Q(state__in=IncreaseState.values)
            ),
            models.CheckConstraint(
                name="increase_counts_only_if_decided",
                condition=~Q(state=IncreaseState.APPROVED) | ~Q(decided_by=""),
            ),
            models.CheckConstraint(
                name="increase_is_decided_by_another",
                condition=Q(is_grant=True)
                | ~Q(state=IncreaseState.APPROVED)
                | ~Q(decided_by=F("asked_by")),
            ),
            models.CheckConstraint(
                name="increase_is_seconded_by_another",
                condition=Q(seconded_by="")
                | (~Q(seconded_by=F("decided_by")) & ~Q(seconded_by=F("asked_by"))),
            ),
        ]

    def __str__(self) -> str:
        return f"+{money.plain(self.amount)} {self.account.currency} for {self.account}"

    @property
    def added(self) -> Added:
        return Added(self.amount, self.starts_at, self.ends_at)


class PeriodTotal(models.Model):
    """What the ledger says an account has spent in [start, end): the truth behind a counter."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="totals")
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    amount_units = models.BigIntegerField(default=0)
    """What counts against limits: less than what was spent by what resets took off."""
    reset_units = models.BigIntegerField(default=0, db_default=0)
    events = models.BigIntegerField(default=0)
    is_closed = models.BooleanField(default=False, db_default=False)
    """Whether the books of the period are closed: what is added from then on comes late."""

    class Meta:
        indexes = [
            models.Index(fields=["period_end"], condition=Q(is_closed=False), name="total_to_close")
        ]
        constraints = [
            models.UniqueConstraint(
                name="total_once_per_period", fields=["account", "period_start", "period_end"]
            ),
            models.CheckConstraint(
                name="total_period_is_forward", condition=Q(period_start__lt=F("period_end"))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.period_start:%Y-%m-%d}: {self.amount_units}"

    @property
    def spent_units(self) -> int:
        """What requests have cost, whatever was reset."""
        return self.amount_units + self.reset_units


class Reset(models.Model):
    """
    What was taken off what one account had spent in one running period, by whom and why.

    A row of the ledger, never altered: it counts in this period alone, and in no report of what
    was spent. The rows of one reset share ``reset_id``.
    """

    reset_id = models.UUIDField()
    account_id = models.UUIDField()
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    reset_to_units = models.BigIntegerField()
    before_units = models.BigIntegerField()
    amount_units = models.BigIntegerField()
    """Negative, or 0 in a period in which less was spent than it was reset to."""
    at = models.DateTimeField()
    requested_by = models.CharField(max_length=255)
    reason = models.CharField(max_length=500)
    idempotency_key = models.CharField(max_length=128, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="reset_once_per_period", fields=["reset_id", "period_start", "period_end"]
            ),
            models.UniqueConstraint(
                name="reset_once_per_idempotency_key",
                fields=["account_id", "idempotency_key", "period_start", "period_end"],
                condition=~Q(idempotency_key=""),
            ),
            models.CheckConstraint(name="reset_says_why", condition=~Q(reason="")),
            models.CheckConstraint(
                name="reset_takes_no_more_than_was_spent",
                condition=Q(amount_units=0)
                | Q(amount_units__lt=0, reset_to_units=F("before_units") + F("amount_units")),
            ),
            models.CheckConstraint(
                name="reset_is_not_below_zero", condition=Q(reset_to_units__gte=0)
            ),
        ]
        indexes = [models.Index(fields=["account_id", "-at"], name="reset_by_account")]

    def __str__(self) -> str:
        return f"{self.account_id} from {self.period_start:%Y-%m-%d}: {self.amount_units}"


class Book(models.Model):
    """
    Which period of a budget on an account is to be closed next.

    The database makes it with the :class:`AccountBudget`; it stands apart because what the clock
    writes here is no change of the configuration.
    """

    link = models.OneToOneField(
        AccountBudget, models.CASCADE, primary_key=True, related_name="book"
    )
    open_at = models.DateTimeField()
    """An instant within the next period to close; which one that is follows from the terms."""
    closes_at = models.DateTimeField()
    """When to look: the end of that period, or an instant that is gone where it may be new."""

    class Meta:
        indexes = [models.Index(fields=["closes_at"], name="book_by_time")]

    def __str__(self) -> str:
        return f"{self.link_id} closes {self.closes_at:%Y-%m-%d %H:%M}"


class Closing(models.Model):
    """
    What an account had spent of a budget in a period when its books were closed; never altered,
    but for what came late. The period's truth is its :class:`PeriodTotal`: spent plus late.
    """

    account = models.ForeignKey(Account, models.PROTECT, related_name="closings")
    budget = models.ForeignKey(Budget, models.SET_NULL, null=True, related_name="closings")
    """None once the budget is deleted; its name and zone stay."""
    budget_name = models.CharField(max_length=NAME_LENGTH_MAX)
    time_zone = models.CharField(max_length=64)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    limit = models.DecimalField(max_digits=19, decimal_places=9, null=True)
    """That of the last instant, with all increases."""
    room = models.DecimalField(max_digits=19, decimal_places=9, null=True)
    """The limit without temporary increases, but with what was carried into the period."""
    carries = models.DecimalField(max_digits=19, decimal_places=9, null=True)
    """The most of it that is carried into the next period; None: nothing is."""
    next_end = models.DateTimeField(null=True)
    """When that one ends, where something may be carried into it."""
    corrected_units = models.BigIntegerField(default=0)
    """What had come late when what is carried was last made right."""
    spent_units = models.BigIntegerField()
    events = models.BigIntegerField()
    late_units = models.BigIntegerField(default=0)
    late_events = models.BigIntegerField(default=0)
    closed_at = models.DateTimeField()

    class Meta:
        verbose_name = "closed period"
        indexes = [
            models.Index(fields=["account", "-period_end", "-id"], name="closing_by_account"),
            models.Index(fields=["-period_end", "-id"], name="closing_by_time"),
        ]
        constraints = [
            models.UniqueConstraint(
                name="closing_once_per_period",
                fields=["budget", "account", "period_start", "period_end"],
            ),
            models.CheckConstraint(
                name="closing_period_is_forward", condition=Q(period_start__lt=F("period_end"))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.budget_name} until {self.period_end:%Y-%m-%d %H:%M}"


class Team(models.Model):
    public_id = PublicIdField("team id")
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="teams")
    name = models.CharField(max_length=NAME_LENGTH_MAX)
    allowed_models = ArrayField(models.CharField(max_length=255), default=list, blank=True)
    blocked = models.BooleanField(default=False)
    metadata = models.JSONField(default=dict, blank=True)
    account = models.OneToOneField(Account, models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name", "id")

    def __str__(self) -> str:
        return self.name


class UserRole(models.TextChoices):
    PROXY_ADMIN = "proxy_admin", "Administrator"
    PROXY_ADMIN_VIEWER = "proxy_admin_viewer", "Administrator, read only"
    INTERNAL_USER = "internal_user", "User"
    INTERNAL_USER_VIEWER = "internal_user_viewer", "User, read only"


class User(AbstractUser):
    """Somebody who can own keys and, with a password and the staff flag, log in to the admin."""

    public_id = PublicIdField("user id")
    alias = models.CharField(max_length=NAME_LENGTH_MAX, blank=True)
    role = models.CharField(max_length=24, choices=UserRole, default=UserRole.INTERNAL_USER)
    allowed_models = ArrayField(models.CharField(max_length=255), default=list, blank=True)
    metadata = models.JSONField(default=dict, blank=True)

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(
                name="user_email_once", fields=["email"], condition=~Q(email="")
            )
        ]

    def __str__(self) -> str:
        return self.alias or self.email or self.username


class OrganizationMembership(models.Model):
    """A user in an organization; holds the account of all that the user spends there."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="memberships")
    user = models.ForeignKey(User, models.PROTECT, related_name="organizations")
    account = models.OneToOneField(Account, models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="user_once_per_organization", fields=["organization", "user"]
            )
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization}"


class TeamRole(models.TextChoices):
    ADMIN = "admin", "Admin"
    USER = "user", "User"


class Membership(models.Model):
    """A user in a team; holds the account of what the user spends for that team."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="teams")
    role = models.CharField(max_length=8, choices=TeamRole, default=TeamRole.USER)
    account = models.OneToOneField(Account, models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(name="user_once_per_team", fields=["team", "user"])]

    def __str__(self) -> str:
        return f"{self.user} in {self.team}"


class ApiKey(models.Model):
    """A virtual key. Its secret is shown once; its HMAC and its first characters are kept."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="keys")
    team = models.ForeignKey(Team, models.CASCADE, null=True, blank=True, related_name="keys")
    user = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="keys")
    name = models.CharField(max_length=NAME_LENGTH_MAX, blank=True)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    legacy_digest = models.CharField(max_length=64, unique=True, null=True, editable=False)  # noqa: DJ001  # null: most keys have none, and it is unique
    prefix = models.CharField(max_length=16, editable=False)
    allowed_models = ArrayField(models.CharField(max_length=255), default=list, blank=True)
    blocked = models.BooleanField(default=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    account = models.OneToOneField(Account, models.PROTECT, related_name="key", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = "API key"
        constraints = [
            models.UniqueConstraint(
                name="key_name_once_per_organization",
                fields=["organization", "name"],
                condition=~Q(name=""),
            )
        ]

    def __str__(self) -> str:
        return self.name or f"{self.prefix}…"


class EndUser(models.Model):
    """A customer of the caller, known by the text the caller sends; made when it first spends."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="end_users")
    external_id = models.CharField(max_length=END_USER_BYTES_MAX)
    alias = models.CharField(max_length=NAME_LENGTH_MAX, blank=True)
    blocked = models.BooleanField(default=False)
    allowed_models = ArrayField(models.CharField(max_length=255), default=list, blank=True)
    account = models.OneToOneField(Account, models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="end_user_once_per_organization", fields=["organization", "external_id"]
            )
        ]

    def __str__(self) -> str:
        return self.external_id


class Tag(models.Model):
    """A word that callers put on requests; made when it first spends."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="tags")
    name = models.CharField(max_length=TAG_BYTES_MAX)
    description = models.CharField(max_length=1_000, blank=True)
    account = models.OneToOneField(Account, models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="tag_once_per_organization", fields=["organization", "name"]
            )
        ]

    def __str__(self) -> str:
        return self.name


class ConfigVersion(models.Model):
    """
    How often the configuration of a scope (an organization's id, or 0: what all share) changed.

    Written by database triggers only, at commit, so that versions grow in the order of commits.
    """

    scope = models.BigIntegerField(primary_key=True)
    version = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.scope}: {self.version}"


class Partition(models.Model):
    """A partition of the live store: its generation, and how far its stream has been recorded."""

    number = models.PositiveSmallIntegerField(primary_key=True)
    generation = models.BigIntegerField(default=0)
    run_id = models.CharField(max_length=64, blank=True)
    position = models.CharField(max_length=48, default="0-0")
    revision = models.BigIntegerField(default=0)
    is_open = models.BooleanField(default=False)
    """False while a lost store is being rebuilt: gateway processes hand in what they hold."""

    def __str__(self) -> str:
        return f"partition {self.number}, generation {self.generation}"


class Member(models.Model):
    """A gateway process that may hold reservations; alive while it renews ``renewed_at``."""

    id = models.UUIDField(primary_key=True)
    name = models.CharField(max_length=120)
    supervised = models.BooleanField(default=False)
    generation = models.BigIntegerField(default=0)
    renewed_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class RefusalCount(models.Model):
    """How often an account refused for a reason in a minute, with a few of the request ids."""

    account_id = models.UUIDField()
    organization = models.ForeignKey(Organization, models.CASCADE, null=True, related_name="+")
    kind = models.CharField(max_length=16)
    label = models.CharField(max_length=NAME_LENGTH_MAX)
    reason = models.CharField(max_length=32)
    observed = models.BooleanField(default=False)
    minute = models.DateTimeField()
    requests = models.BigIntegerField()
    sample_ids = ArrayField(models.UUIDField(), default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="refusals_once_per_minute",
                fields=["account_id", "reason", "observed", "minute"],
            )
        ]
        indexes = [
            models.Index(fields=["-minute"], name="refusals_by_minute"),
            models.Index(fields=["account_id", "-minute"], name="refusals_by_account"),
        ]
        verbose_name = verbose_name_plural = "refusals"

    def __str__(self) -> str:
        return f"{self.kind} {self.label}: {self.requests} × {self.reason}"


class Reload(models.Model):
    """A counter that no longer equals its ledger and must be dropped from the live store."""

    account_id = models.UUIDField(primary_key=True)
    revision = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.account_id} at revision {self.revision}"


class Change(models.Model):
    """One change of one row, written by the history trigger; never altered."""

    at = models.DateTimeField()
    table_name = models.CharField(max_length=64)
    object_id = models.CharField(max_length=64)
    action = models.CharField(max_length=8)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    actor = models.CharField(max_length=255, blank=True)
    reason = models.CharField(max_length=1_000, blank=True)
    source = models.CharField(max_length=16, blank=True, db_default="")
    """By which way it came; empty: it was made before that was kept."""
    address = models.CharField(max_length=64, blank=True, db_default="")
    """From where in the network, if it came from there."""

    class Meta:
        indexes = [
            models.Index(fields=["table_name", "object_id", "-at"], name="change_by_object"),
            models.Index(fields=["-at"], name="change_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.table_name} {self.object_id}"
