"""An organization's days are made anew, from the quarter-hours, when its time zone changes."""

from django.db import migrations

REBUILD = """
  DELETE FROM {days} WHERE account_id IN (
    SELECT id FROM budgets_account WHERE organization_id = NEW.id);
  INSERT INTO {days} (account_id, day, model, provider, deployment, amount_units, events,
                      input_tokens, output_tokens, saved_units)
  SELECT kept.account_id, (kept.bucket_start AT TIME ZONE NEW.time_zone)::date, kept.model,
         kept.provider, kept.deployment, sum(kept.amount_units), sum(kept.events),
         sum(kept.input_tokens), sum(kept.output_tokens), sum(kept.saved_units)
  FROM {quarter_hours} kept
  JOIN budgets_account account ON account.id = kept.account_id
  WHERE account.organization_id = NEW.id
  GROUP BY 1, 2, 3, 4, 5;
"""
FORWARD = f"""
CREATE FUNCTION costplatform_days_follow_the_zone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- The recorder writes days in the old zone until it is let in again.
  PERFORM FROM budgets_partition FOR UPDATE;
  {REBUILD.format(days="spend_day", quarter_hours="spend_quarterhour")}
  {REBUILD.format(days="spend_labelday", quarter_hours="spend_labelquarterhour")}
  RETURN NULL;
END $$;
CREATE TRIGGER organization_days_follow_the_zone
  AFTER UPDATE OF time_zone ON budgets_organization
  FOR EACH ROW WHEN (OLD.time_zone IS DISTINCT FROM NEW.time_zone)
  EXECUTE FUNCTION costplatform_days_follow_the_zone();
"""
BACKWARD = """
DROP TRIGGER organization_days_follow_the_zone ON budgets_organization;
DROP FUNCTION costplatform_days_follow_the_zone();
"""


class Migration(migrations.Migration):
    dependencies = [("spend", "0014_history_of_reratings")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
