"""Temporary increases, with the version and history triggers of accounts' budgets."""

import django.db.models.deletion
import uuid
from decimal import Decimal
from django.db import migrations, models

VERSIONS_AND_HISTORY = """
CREATE CONSTRAINT TRIGGER budgets_increase_version AFTER INSERT OR UPDATE OR DELETE
  ON budgets_increase DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  EXECUTE FUNCTION costplatform_account_budget_changed();
CREATE TRIGGER budgets_increase_history AFTER INSERT OR UPDATE OR DELETE ON budgets_increase
  FOR EACH ROW EXECUTE FUNCTION costplatform_keep_history();
"""
BACK = """
DROP TRIGGER budgets_increase_history ON budgets_increase;
DROP TRIGGER budgets_increase_version ON budgets_increase;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("budgets", "0007_closings"),
    ]

    operations = [
        migrations.CreateModel(
            name="Increase",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("amount", models.DecimalField(decimal_places=9, max_digits=19)),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                ("why", models.CharField(max_length=1000)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("approved", "Approved"),
                            ("denied", "Denied"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="pending",
                        editable=False,
                        max_length=16,
                    ),
                ),
                (
                    "is_grant",
                    models.BooleanField(
                        default=False,
                        editable=False,
                        help_text="An administrator gave it at once: nobody asked, nobody else decided.",
                    ),
                ),
                ("asked_by", models.CharField(editable=False, max_length=150)),
                ("asked_at", models.DateTimeField(editable=False)),
                ("decided_by", models.CharField(blank=True, editable=False, max_length=150)),
                ("decided_at", models.DateTimeField(editable=False, null=True)),
                ("seconded_by", models.CharField(blank=True, editable=False, max_length=150)),
                ("seconded_at", models.DateTimeField(editable=False, null=True)),
                ("cancelled_by", models.CharField(blank=True, editable=False, max_length=150)),
                ("cancelled_at", models.DateTimeField(editable=False, null=True)),
                ("note", models.CharField(blank=True, max_length=1000)),
            ],
            options={
                "ordering": ("-asked_at", "id"),
            },
        ),
        migrations.AddField(
            model_name="organization",
            name="second_approver_above",
            field=models.DecimalField(
                blank=True,
                decimal_places=9,
                help_text="Temporary increases above this amount need two approvers; empty: never.",
                max_digits=19,
                null=True,
            ),
        ),
        migrations.AddConstraint(
            model_name="organization",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("second_approver_above", None),
                    models.Q(
                        ("second_approver_above__gte", 0),
                        ("second_approver_above__lte", Decimal("1000000000")),
                    ),
                    _connector="OR",
                ),
                name="organization_second_approver_in_range",
            ),
        ),
        migrations.AddField(
            model_name="increase",
            name="account",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="increases",
                to="budgets.account",
            ),
        ),
        migrations.AddField(
            model_name="increase",
            name="budget",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="increases",
                to="budgets.budget",
            ),
        ),
        migrations.AddIndex(
            model_name="increase",
            index=models.Index(fields=["account", "state", "ends_at"], name="increase_by_account"),
        ),
        migrations.AddIndex(
            model_name="increase",
            index=models.Index(fields=["state", "ends_at"], name="increase_by_deadline"),
        ),
        migrations.AddIndex(
            model_name="increase",
            index=models.Index(fields=["asked_by", "-asked_at"], name="increase_by_requester"),
        ),
        migrations.AddConstraint(
            model_name="increase",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount__gt", 0), ("amount__lte", Decimal("1000000000"))),
                name="increase_amount_in_range",
            ),
        ),
        migrations.AddConstraint(
            model_name="increase",
            constraint=models.CheckConstraint(
                condition=models.Q(("starts_at__lt", models.F("ends_at"))),
                name="increase_is_forward",
            ),
        ),
        migrations.AddConstraint(
            model_name="increase",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("why", ""), _negated=True), models.Q(("asked_by", ""), _negated=True)
                ),
                name="increase_says_why_and_by_whom",
            ),
        ),
        migrations.AddConstraint(
            model_name="increase",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["pending", "approved", "denied", "cancelled"])),
                name="increase_state_is_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="increase",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "approved"), _negated=True),
                    models.Q(("decided_by", ""), _negated=True),
                    _connector="OR",
                ),
                name="increase_counts_only_if_decided",
            ),
        ),
        migrations.AddConstraint(
            model_name="increase",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("is_grant", True),
                    models.Q(("state", "approved"), _negated=True),
                    models.Q(("decided_by", models.F("asked_by")), _negated=True),
                    _connector="OR",
                ),
                name="increase_is_decided_by_another",
            ),
        ),
        migrations.AddConstraint(
            model_name="increase",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("seconded_by", ""),
                    models.Q(
                        models.Q(("seconded_by", models.F("decided_by")), _negated=True),
                        models.Q(("seconded_by", models.F("asked_by")), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="increase_is_seconded_by_another",
            ),
        ),
        migrations.RunSQL(VERSIONS_AND_HISTORY, BACK),
    ]
