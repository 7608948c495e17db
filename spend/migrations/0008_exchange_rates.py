"""Exchange rates: never edited, never deleted; each change raises the version that all share."""

import budgets.fields
from decimal import Decimal
from django.db import migrations, models


TRIGGERS = """
CREATE FUNCTION costplatform_rate_is_never_edited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'UPDATE'
     OR (NEW.source, NEW.base, NEW.quote, NEW.date, NEW.rate, NEW.doubt, NEW.created_at)
        IS DISTINCT FROM
        (OLD.source, OLD.base, OLD.quote, OLD.date, OLD.rate, OLD.doubt, OLD.created_at) THEN
    RAISE EXCEPTION 'an exchange rate is never edited: correct it by adding another';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER exchange_rate_is_never_edited BEFORE UPDATE OR DELETE ON spend_exchangerate
  FOR EACH ROW EXECUTE FUNCTION costplatform_rate_is_never_edited();
CREATE TRIGGER exchange_rate_is_never_emptied BEFORE TRUNCATE ON spend_exchangerate
  FOR EACH STATEMENT EXECUTE FUNCTION costplatform_rate_is_never_edited();
CREATE TRIGGER spend_exchangerate_version AFTER INSERT OR UPDATE ON spend_exchangerate
  FOR EACH STATEMENT EXECUTE FUNCTION costplatform_common_changed();
CREATE TRIGGER spend_exchangerate_history AFTER INSERT OR UPDATE ON spend_exchangerate
  FOR EACH ROW EXECUTE FUNCTION costplatform_keep_history();
"""
BACK = """
DROP TRIGGER spend_exchangerate_history ON spend_exchangerate;
DROP TRIGGER spend_exchangerate_version ON spend_exchangerate;
DROP TRIGGER exchange_rate_is_never_emptied ON spend_exchangerate;
DROP TRIGGER exchange_rate_is_never_edited ON spend_exchangerate;
DROP FUNCTION costplatform_rate_is_never_edited();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("spend", "0007_invoices"),
    ]

    operations = [
        migrations.CreateModel(
            name="ExchangeRate",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        choices=[("manual", "manual"), ("http", "http"), ("ecb", "ecb")],
                        max_length=8,
                    ),
                ),
                (
                    "base",
                    models.CharField(max_length=3, validators=[budgets.fields.validate_currency]),
                ),
                (
                    "quote",
                    models.CharField(max_length=3, validators=[budgets.fields.validate_currency]),
                ),
                ("date", models.DateField()),
                ("rate", models.DecimalField(decimal_places=15, max_digits=30)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("in_force", "In force"),
                            ("quarantined", "Quarantined"),
                            ("rejected", "Rejected"),
                        ],
                        max_length=12,
                    ),
                ),
                ("doubt", models.CharField(blank=True, max_length=500)),
                ("reason", models.CharField(blank=True, max_length=500)),
                ("created_at", models.DateTimeField()),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                ("replaced_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ("-date", "base", "quote", "source", "-id"),
                "indexes": [
                    models.Index(fields=["base", "quote", "-date"], name="exchange_rate_by_pair"),
                    models.Index(fields=["date"], name="exchange_rate_by_date"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("replaced_at", None), ("state", "in_force")),
                        fields=("source", "base", "quote", "date"),
                        name="exchange_rate_in_force_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("rate__gt", 0), ("rate__lte", Decimal("100000000"))),
                        name="exchange_rate_in_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("base", models.F("quote")), _negated=True),
                        name="exchange_rate_of_two_currencies",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["in_force", "quarantined", "rejected"])),
                        name="exchange_rate_state_is_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state", "quarantined"), _negated=True),
                            models.Q(("doubt", ""), _negated=True),
                            _connector="OR",
                        ),
                        name="exchange_rate_quarantined_says_why",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("replaced_at", None), ("state", "in_force"), _connector="OR"
                        ),
                        name="exchange_rate_replaced_was_in_force",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="RateFetch",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(db_index=True)),
                ("problem", models.CharField(blank=True, max_length=500)),
                ("newest", models.DateField(blank=True, null=True)),
                ("added", models.PositiveIntegerField(default=0)),
                ("quarantined", models.PositiveIntegerField(default=0)),
            ],
            options={
                "ordering": ("-id",),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("problem", ""), _negated=True),
                            ("newest__isnull", False),
                            _connector="OR",
                        ),
                        name="rate_fetch_succeeded_or_says_why",
                    )
                ],
            },
        ),
        migrations.RunSQL(TRIGGERS, BACK),
    ]
