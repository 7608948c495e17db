"""The history says from where a change came, knows roles and the schedule, and no digests."""

from django.db import migrations, models

KEEP = """
CREATE OR REPLACE FUNCTION costplatform_keep_history() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  unkept text[] := ARRAY['password', 'last_login', 'digest', 'legacy_digest', 'key_digests',
                         'secret', 'updated_at'];
  before jsonb; after jsonb; actor text; source text; address text;
BEGIN
  IF TG_OP <> 'INSERT' THEN before := to_jsonb(OLD) - unkept; END IF;
  IF TG_OP <> 'DELETE' THEN after := to_jsonb(NEW) - unkept; END IF;
  IF TG_OP = 'UPDATE'
     AND to_jsonb(OLD) - ARRAY['last_login', 'updated_at']
         = to_jsonb(NEW) - ARRAY['last_login', 'updated_at'] THEN
    RETURN NULL;
  END IF;
  actor := nullif(current_setting('costplatform.actor', true), '');
  IF actor IS NULL THEN
    -- Somebody, or a program, that speaks SQL: the database knows no more than the login.
    actor := 'sql:' || session_user;
    source := 'sql';
    address := coalesce(host(inet_client_addr()), '');
  ELSE
    source := coalesce(current_setting('costplatform.source', true), '');
    address := left(coalesce(current_setting('costplatform.address', true), ''), 64);
  END IF;
  INSERT INTO budgets_change
    (at, table_name, object_id, action, before, after, actor, reason, source, address)
  VALUES (clock_timestamp(), TG_TABLE_NAME, coalesce(after, before) ->> 'id', lower(TG_OP),
          before, after, actor, coalesce(current_setting('costplatform.reason', true), ''),
          source, address);
  RETURN NULL;
END $$;
"""
KEEP_BACK = """
CREATE OR REPLACE FUNCTION costplatform_keep_history() RETURNS trigger LANGUAGE plpgsql AS $$
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
"""
WHOLE = (
    "auth_group",
    "auth_group_permissions",
    "budgets_user_groups",
    "budgets_user_user_permissions",
    "django_celery_beat_intervalschedule",
    "django_celery_beat_crontabschedule",
    "django_celery_beat_solarschedule",
    "django_celery_beat_clockedschedule",
)
# The recorder makes end users and tags under no name; what is made under one is somebody's doing.
NAMED = ("budgets_enduser", "budgets_tag")
COUNTED = "ARRAY['last_run_at', 'total_run_count', 'date_changed']"
TRIGGERS = (
    "".join(
        f"CREATE TRIGGER {table}_history AFTER INSERT OR UPDATE OR DELETE ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION costplatform_keep_history();"
        for table in WHOLE
    )
    + "".join(
        f"CREATE TRIGGER {table}_made AFTER INSERT ON {table} FOR EACH ROW"
        " WHEN (coalesce(current_setting('costplatform.actor', true), '') <> '')"
        " EXECUTE FUNCTION costplatform_keep_history();"
        for table in NAMED
    )
    + f"""
CREATE TRIGGER django_celery_beat_periodictask_history
  AFTER INSERT OR DELETE ON django_celery_beat_periodictask
  FOR EACH ROW EXECUTE FUNCTION costplatform_keep_history();
CREATE TRIGGER django_celery_beat_periodictask_changed
  AFTER UPDATE ON django_celery_beat_periodictask FOR EACH ROW
  WHEN (to_jsonb(OLD) - {COUNTED} IS DISTINCT FROM to_jsonb(NEW) - {COUNTED})
  EXECUTE FUNCTION costplatform_keep_history();
-- Also where a session plays a replica, which switches usual triggers off.
ALTER TABLE budgets_change ENABLE ALWAYS TRIGGER change_is_append_only;
ALTER TABLE budgets_change ENABLE ALWAYS TRIGGER change_is_never_emptied;
ALTER TABLE budgets_reset ENABLE ALWAYS TRIGGER reset_is_append_only;
ALTER TABLE budgets_reset ENABLE ALWAYS TRIGGER reset_is_never_emptied;
"""
)
BACK = (
    "".join(f"DROP TRIGGER {table}_history ON {table};" for table in WHOLE)
    + "".join(f"DROP TRIGGER {table}_made ON {table};" for table in NAMED)
    + """
DROP TRIGGER django_celery_beat_periodictask_history ON django_celery_beat_periodictask;
DROP TRIGGER django_celery_beat_periodictask_changed ON django_celery_beat_periodictask;
ALTER TABLE budgets_change ENABLE TRIGGER change_is_append_only;
ALTER TABLE budgets_change ENABLE TRIGGER change_is_never_emptied;
ALTER TABLE budgets_reset ENABLE TRIGGER reset_is_append_only;
ALTER TABLE budgets_reset ENABLE TRIGGER reset_is_never_emptied;
"""
)


class Migration(migrations.Migration):
    dependencies = [
        ("budgets", "0010_resets"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [
        migrations.AddField(
            "change", "source", models.CharField(max_length=16, blank=True, db_default="")
        ),
        migrations.AddField(
            "change", "address", models.CharField(max_length=64, blank=True, db_default="")
        ),
        migrations.AddIndex("change", models.Index(fields=["-at"], name="change_by_time")),
        migrations.RunSQL(KEEP, KEEP_BACK),
        migrations.RunSQL(TRIGGERS, BACK),
    ]
