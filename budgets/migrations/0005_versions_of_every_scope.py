"""Triggers for templates and end users, and the platform's own accounts and budgets in scope 0."""

from django.db import migrations

VERSIONS = """
CREATE OR REPLACE FUNCTION costplatform_account_budget_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE changed uuid;
BEGIN
  FOR changed IN SELECT DISTINCT unnest(ARRAY[
      CASE WHEN TG_OP <> 'INSERT' THEN OLD.account_id END,
      CASE WHEN TG_OP <> 'DELETE' THEN NEW.account_id END]) LOOP
    PERFORM costplatform_raise_version(coalesce(organization_id, 0))
      FROM budgets_account WHERE id = changed;
  END LOOP;
  RETURN NULL;
END $$;

CREATE FUNCTION costplatform_budget_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE changed bigint;
BEGIN
  FOR changed IN SELECT DISTINCT coalesce(scope, 0) FROM unnest(CASE TG_OP
      WHEN 'INSERT' THEN ARRAY[NEW.organization_id]
      WHEN 'DELETE' THEN ARRAY[OLD.organization_id]
      ELSE ARRAY[OLD.organization_id, NEW.organization_id] END) AS scope LOOP
    PERFORM costplatform_raise_version(changed);
  END LOOP;
  RETURN NULL;
END $$;

CREATE FUNCTION costplatform_template_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE changed uuid;
BEGIN
  FOR changed IN SELECT DISTINCT unnest(CASE TG_OP
      WHEN 'INSERT' THEN ARRAY[NEW.holder_id]
      WHEN 'DELETE' THEN ARRAY[OLD.holder_id]
      ELSE ARRAY[OLD.holder_id, NEW.holder_id] END) LOOP
    PERFORM costplatform_raise_version(organization_id)
      FROM budgets_account WHERE id = changed;
  END LOOP;
  RETURN NULL;
END $$;

-- An end user that first spends changes nothing; one that is blocked does.
CREATE FUNCTION costplatform_end_user_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    PERFORM costplatform_raise_version(OLD.organization_id);
  ELSIF TG_OP = 'INSERT' THEN
    IF NEW.blocked OR cardinality(NEW.allowed_models) > 0 THEN
      PERFORM costplatform_raise_version(NEW.organization_id);
    END IF;
  ELSIF (NEW.blocked, NEW.allowed_models) IS DISTINCT FROM (OLD.blocked, OLD.allowed_models) THEN
    PERFORM costplatform_raise_version(NEW.organization_id);
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION costplatform_account_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM costplatform_raise_version(coalesce(NEW.organization_id, 0));
  RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER budgets_account_version AFTER UPDATE OF closed_because ON budgets_account
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN (OLD.closed_because IS DISTINCT FROM NEW.closed_because)
  EXECUTE FUNCTION costplatform_account_closed();
CREATE TRIGGER budgets_account_history AFTER UPDATE OF closed_because ON budgets_account
  FOR EACH ROW WHEN (OLD.closed_because IS DISTINCT FROM NEW.closed_because)
  EXECUTE FUNCTION costplatform_keep_history();

DROP TRIGGER budgets_budget_version ON budgets_budget;
"""
TRIGGERS = "".join(
    f"CREATE CONSTRAINT TRIGGER {table}_version AFTER INSERT OR UPDATE OR DELETE ON {table}"
    f" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {function};"
    for table, function in (
        ("budgets_budget", "costplatform_budget_changed()"),
        ("budgets_budgettemplate", "costplatform_template_changed()"),
        ("budgets_enduser", "costplatform_end_user_changed()"),
    )
)
# Rows that the recorder makes are no decisions of anybody: only what people do is kept.
HISTORY = "".join(
    f"CREATE TRIGGER {table}_history AFTER {events} ON {table}"
    " FOR EACH ROW EXECUTE FUNCTION costplatform_keep_history();"
    for table, events in (
        ("budgets_budgettemplate", "INSERT OR UPDATE OR DELETE"),
        ("budgets_enduser", "UPDATE OR DELETE"),
        ("budgets_tag", "UPDATE OR DELETE"),
    )
)
BACK = """
DROP TRIGGER budgets_account_history ON budgets_account;
DROP FUNCTION costplatform_account_closed() CASCADE;
DROP TRIGGER budgets_tag_history ON budgets_tag;
DROP TRIGGER budgets_enduser_history ON budgets_enduser;
DROP TRIGGER budgets_budgettemplate_history ON budgets_budgettemplate;
DROP TRIGGER budgets_budget_version ON budgets_budget;
DROP FUNCTION costplatform_budget_changed() CASCADE;
DROP FUNCTION costplatform_template_changed() CASCADE;
DROP FUNCTION costplatform_end_user_changed() CASCADE;
CREATE CONSTRAINT TRIGGER budgets_budget_version AFTER INSERT OR UPDATE OR DELETE ON budgets_budget
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  EXECUTE FUNCTION costplatform_organization_changed('organization_id');
"""


class Migration(migrations.Migration):
    dependencies = [("budgets", "0004_every_scope_and_limit")]

    operations = [migrations.RunSQL(VERSIONS + TRIGGERS + HISTORY, BACK)]
