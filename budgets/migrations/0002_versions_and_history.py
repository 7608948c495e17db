"""Triggers: configuration versions grow at commit, history is kept and never altered."""

from django.db import migrations

VERSIONS = """
CREATE FUNCTION costplatform_raise_version(scope_changed bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF scope_changed IS NULL THEN
    RETURN;
  END IF;
  INSERT INTO budgets_configversion AS kept (scope, version) VALUES (scope_changed, 1)
    ON CONFLICT (scope) DO UPDATE SET version = kept.version + 1;
  PERFORM pg_notify('costplatform_config', scope_changed::text);
END $$;

-- For tables whose column TG_ARGV[0] names the organization.
CREATE FUNCTION costplatform_organization_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE before bigint; after bigint;
BEGIN
  IF TG_OP <> 'INSERT' THEN before := (to_jsonb(OLD) ->> TG_ARGV[0])::bigint; END IF;
  IF TG_OP <> 'DELETE' THEN after := (to_jsonb(NEW) ->> TG_ARGV[0])::bigint; END IF;
  PERFORM costplatform_raise_version(after);
  IF before IS DISTINCT FROM after THEN PERFORM costplatform_raise_version(before); END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION costplatform_account_budget_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE changed uuid;
BEGIN
  FOR changed IN SELECT DISTINCT unnest(ARRAY[
      CASE WHEN TG_OP <> 'INSERT' THEN OLD.account_id END,
      CASE WHEN TG_OP <> 'DELETE' THEN NEW.account_id END]) LOOP
    PERFORM costplatform_raise_version(organization_id) FROM budgets_account WHERE id = changed;
  END LOOP;
  RETURN NULL;
END $$;

CREATE FUNCTION costplatform_membership_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE changed bigint;
BEGIN
  FOR changed IN SELECT DISTINCT unnest(ARRAY[
      CASE WHEN TG_OP <> 'INSERT' THEN OLD.team_id END,
      CASE WHEN TG_OP <> 'DELETE' THEN NEW.team_id END]) LOOP
    PERFORM costplatform_raise_version(organization_id) FROM budgets_team WHERE id = changed;
  END LOOP;
  RETURN NULL;
END $$;

CREATE FUNCTION costplatform_user_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.is_active, NEW.allowed_models, NEW.public_id)
     IS DISTINCT FROM (OLD.is_active, OLD.allowed_models, OLD.public_id) THEN
    PERFORM costplatform_raise_version(organization_id)
      FROM (SELECT DISTINCT organization_id FROM budgets_apikey WHERE user_id = NEW.id) AS having_keys;
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION costplatform_common_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM costplatform_raise_version(0);
  RETURN NULL;
END $$;
"""

HISTORY = """
CREATE FUNCTION costplatform_keep_history() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  unkept text[] := ARRAY['password', 'last_login', 'digest', 'legacy_digest', 'secret', 'updated_at'];
  before jsonb; after jsonb;
BEGIN
  IF TG_OP <> 'INSERT' THEN before := to_jsonb(OLD) - unkept; END IF;
  IF TG_OP <> 'DELETE' THEN after := to_jsonb(NEW) - unkept; END IF;
  IF TG_OP = 'UPDATE'
     AND to_jsonb(OLD) - ARRAY['last_login', 'updated_at']
         = to_jsonb(NEW) - ARRAY['last_login', 'updated_at'] THEN
    RETURN NULL;
  END IF;
  INSERT INTO budgets_change (at, table_name, object_id, action, before, after, actor, reason)
  VALUES (clock_timestamp(), TG_TABLE_NAME, coalesce(after, before) ->> 'id', lower(TG_OP),
          before, after,
          coalesce(nullif(current_setting('costplatform.actor', true), ''), 'sql:' || session_user),
          coalesce(current_setting('costplatform.reason', true), ''));
  RETURN NULL;
END $$;

CREATE FUNCTION costplatform_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: correct it by adding a row', TG_TABLE_NAME;
END $$;

CREATE TRIGGER change_is_append_only BEFORE UPDATE OR DELETE ON budgets_change
  FOR EACH ROW EXECUTE FUNCTION costplatform_append_only();
CREATE TRIGGER change_is_never_emptied BEFORE TRUNCATE ON budgets_change
  FOR EACH STATEMENT EXECUTE FUNCTION costplatform_append_only();
"""

FUNCTIONS = (
    "costplatform_raise_version(bigint)",
    "costplatform_organization_changed()",
    "costplatform_account_budget_changed()",
    "costplatform_membership_changed()",
    "costplatform_user_changed()",
    "costplatform_common_changed()",
    "costplatform_keep_history()",
    "costplatform_append_only()",
)
OF_ORGANIZATION = {
    "budgets_organization": "id",
    "budgets_team": "organization_id",
    "budgets_apikey": "organization_id",
    "budgets_budget": "organization_id",
    "budgets_organizationmembership": "organization_id",
}
KEPT = (
    "budgets_organization",
    "budgets_team",
    "budgets_user",
    "budgets_apikey",
    "budgets_budget",
    "budgets_accountbudget",
    "budgets_membership",
    "budgets_organizationmembership",
)


def version_trigger(table, function, *, events="INSERT OR UPDATE OR DELETE"):
    return (
        f"CREATE CONSTRAINT TRIGGER {table}_version AFTER {events} ON {table}"
        f" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {function};"
    )


def history_trigger(table):
    return (
        f"CREATE TRIGGER {table}_history AFTER INSERT OR UPDATE OR DELETE ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION costplatform_keep_history();"
    )


def triggers():
    for table, column in OF_ORGANIZATION.items():
        yield version_trigger(table, f"costplatform_organization_changed('{column}')")
    yield version_trigger("budgets_accountbudget", "costplatform_account_budget_changed()")
    yield version_trigger("budgets_membership", "costplatform_membership_changed()")
    yield version_trigger("budgets_user", "costplatform_user_changed()", events="UPDATE")
    yield from map(history_trigger, KEPT)


DROP = "".join(f"DROP FUNCTION IF EXISTS {name} CASCADE;" for name in FUNCTIONS)


class Migration(migrations.Migration):
    dependencies = [("budgets", "0001_initial")]

    operations = [
        migrations.RunSQL(VERSIONS + HISTORY, DROP),
        migrations.RunSQL("\n".join(triggers()), migrations.RunSQL.noop),
    ]
