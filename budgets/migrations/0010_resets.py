"""Resets of what was spent: rows of the ledger, append-only; totals tell what they took off."""

import django.db.models.expressions
from django.db import migrations, models


TRIGGERS = """
CREATE TRIGGER reset_is_append_only BEFORE UPDATE OR DELETE ON budgets_reset
  FOR EACH ROW EXECUTE FUNCTION costplatform_append_only();
CREATE TRIGGER reset_is_never_emptied BEFORE TRUNCATE ON budgets_reset
  FOR EACH STATEMENT EXECUTE FUNCTION costplatform_append_only();
CREATE TRIGGER budgets_reset_history AFTER INSERT ON budgets_reset
  FOR EACH ROW EXECUTE FUNCTION costplatform_keep_history();
"""
BACK = """
DROP TRIGGER budgets_reset_history ON budgets_reset;
DROP TRIGGER reset_is_never_emptied ON budgets_reset;
DROP TRIGGER reset_is_append_only ON budgets_reset;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("budgets", "0009_rollover"),
    ]

    operations = [
        migrations.AddField(
            model_name="periodtotal",
            name="reset_units",
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.CreateModel(
            name="Reset",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("reset_id", models.UUIDField()),
                ("account_id", models.UUIDField()),
                ("period_start", models.DateTimeField()),
                ("period_end", models.DateTimeField()),
                ("reset_to_units", models.BigIntegerField()),
                ("before_units", models.BigIntegerField()),
                ("amount_units", models.BigIntegerField()),
                ("at", models.DateTimeField()),
                ("requested_by", models.CharField(max_length=255)),
                ("reason", models.CharField(max_length=500)),
                ("idempotency_key", models.CharField(blank=True, max_length=128)),
            ],
            options={
                "indexes": [models.Index(fields=["account_id", "-at"], name="reset_by_account")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("reset_id", "period_start", "period_end"),
                        name="reset_once_per_period",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("idempotency_key", ""), _negated=True),
                        fields=("account_id", "idempotency_key", "period_start", "period_end"),
                        name="reset_once_per_idempotency_key",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("reason", ""), _negated=True), name="reset_says_why"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("amount_units", 0),
                            models.Q(
                                ("amount_units__lt", 0),
                                (
                                    "reset_to_units",
                                    django.db.models.expressions.CombinedExpression(
                                        models.F("before_units"), "+", models.F("amount_units")
                                    ),
                                ),
                            ),
                            _connector="OR",
                        ),
                        name="reset_takes_no_more_than_was_spent",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("reset_to_units__gte", 0)),
                        name="reset_is_not_below_zero",
                    ),
                ],
            },
        ),
        migrations.RunSQL(TRIGGERS, BACK),
    ]
