"""The organization of whatever is made without naming one, and the partition of the live store."""

from django.db import migrations


def make(apps, schema_editor):
    account = apps.get_model("budgets", "Account").objects.create(
        kind="organization", label="Default"
    )
    organization = apps.get_model("budgets", "Organization").objects.create(
        public_id="default", name="Default", account=account
    )
    account.organization = organization
    account.save(update_fields=["organization"])
    apps.get_model("budgets", "Partition").objects.create(number=0)
    apps.get_model("budgets", "ConfigVersion").objects.get_or_create(scope=0)


class Migration(migrations.Migration):
    dependencies = [("budgets", "0002_versions_and_history")]

    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
