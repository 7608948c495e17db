"""Closed periods: what was spent when the books of each were closed, and what came late."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F, Q

BOOKS = """
CREATE FUNCTION costplatform_begin_book() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO budgets_book (link_id, open_at, closes_at) VALUES (NEW.id, now(), now());
  RETURN NULL;
END $$;
CREATE FUNCTION costplatform_end_book() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM budgets_book WHERE link_id = OLD.id;
  RETURN OLD;
END $$;
CREATE TRIGGER accountbudget_begins_book AFTER INSERT ON budgets_accountbudget
  FOR EACH ROW EXECUTE FUNCTION costplatform_begin_book();
CREATE TRIGGER accountbudget_ends_book BEFORE DELETE ON budgets_accountbudget
  FOR EACH ROW EXECUTE FUNCTION costplatform_end_book();

CREATE FUNCTION costplatform_closing_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE changing text[] := ARRAY['late_units', 'late_events'];
BEGIN
  IF NEW.budget_id IS NULL THEN changing := array_append(changing, 'budget_id'); END IF;
  IF to_jsonb(NEW) - changing <> to_jsonb(OLD) - changing THEN
    RAISE EXCEPTION '% is append-only: only what came late is added', TG_TABLE_NAME;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER closing_is_kept BEFORE UPDATE ON budgets_closing
  FOR EACH ROW EXECUTE FUNCTION costplatform_closing_is_kept();
CREATE TRIGGER closing_is_append_only BEFORE DELETE ON budgets_closing
  FOR EACH ROW EXECUTE FUNCTION costplatform_append_only();
CREATE TRIGGER closing_is_never_emptied BEFORE TRUNCATE ON budgets_closing
  FOR EACH STATEMENT EXECUTE FUNCTION costplatform_append_only();

-- Books begin now: what ended before is in the totals, and nobody knows under which limits.
INSERT INTO budgets_book (link_id, open_at, closes_at)
  SELECT id, now(), now() FROM budgets_accountbudget;
UPDATE budgets_periodtotal SET is_closed = true WHERE period_end <= now();
"""
BACK = """
DROP FUNCTION costplatform_begin_book() CASCADE;
DROP FUNCTION costplatform_end_book() CASCADE;
DROP FUNCTION costplatform_closing_is_kept() CASCADE;
"""


class Migration(migrations.Migration):
    dependencies = [("budgets", "0006_layouts_of_periods")]

    operations = [
        migrations.AddField(
            "periodtotal", "is_closed", models.BooleanField(default=False, db_default=False)
        ),
        migrations.CreateModel(
            "Book",
            [
                (
                    "link",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="book",
                        serialize=False,
                        to="budgets.accountbudget",
                    ),
                ),
                ("open_at", models.DateTimeField()),
                ("closes_at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["closes_at"], name="book_by_time")],
            },
        ),
        migrations.CreateModel(
            "Closing",
            [
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("budget_name", models.CharField(max_length=255)),
                ("time_zone", models.CharField(max_length=64)),
                ("period_start", models.DateTimeField()),
                ("period_end", models.DateTimeField()),
                ("limit", models.DecimalField(decimal_places=9, max_digits=19, null=True)),
                ("spent_units", models.BigIntegerField()),
                ("events", models.BigIntegerField()),
                ("late_units", models.BigIntegerField(default=0)),
                ("late_events", models.BigIntegerField(default=0)),
                ("closed_at", models.DateTimeField()),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="closings",
                        to="budgets.account",
                    ),
                ),
                (
                    "budget",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="closings",
                        to="budgets.budget",
                    ),
                ),
            ],
            options={
                "verbose_name": "closed period",
                "indexes": [
                    models.Index(
                        fields=["account", "-period_end", "-id"], name="closing_by_account"
                    ),
                    models.Index(fields=["-period_end", "-id"], name="closing_by_time"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=["budget", "account", "period_start", "period_end"],
                        name="closing_once_per_period",
                    ),
                    models.CheckConstraint(
                        condition=Q(period_start__lt=F("period_end")),
                        name="closing_period_is_forward",
                    ),
                ],
            },
        ),
        migrations.RunSQL(BOOKS, BACK),
        migrations.AddIndex(
            "periodtotal",
            models.Index(
                condition=Q(is_closed=False), fields=["period_end"], name="total_to_close"
            ),
        ),
    ]
