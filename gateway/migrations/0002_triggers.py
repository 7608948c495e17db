from django.db import migrations

TRIGGERS = "".join(
    f"CREATE CONSTRAINT TRIGGER {table}_version AFTER INSERT OR UPDATE OR DELETE ON {table}"
    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION costplatform_common_changed();"
    f"CREATE TRIGGER {table}_history AFTER INSERT OR UPDATE OR DELETE ON {table}"
    " FOR EACH ROW EXECUTE FUNCTION costplatform_keep_history();"
    for table in ("gateway_deployment", "gateway_credential")
)


class Migration(migrations.Migration):
    dependencies = [("gateway", "0001_initial"), ("budgets", "0002_versions_and_history")]

    operations = [migrations.RunSQL(TRIGGERS, migrations.RunSQL.noop)]
