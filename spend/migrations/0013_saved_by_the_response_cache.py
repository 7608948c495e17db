"""What answers from the response cache would have cost: in the ledger, and in its roll-ups."""

from django.db import migrations, models

# No NOT NULL: recorders of before copy rows into tables that are made like this one, and name no
# such column. All rows that are there have the default, so none must be looked at.
FORWARD = """
ALTER TABLE spend_event ADD COLUMN saved_units bigint DEFAULT 0;
ALTER TABLE spend_event ADD CONSTRAINT event_saved_is_known
  CHECK (saved_units IS NOT NULL AND saved_units >= 0) NOT VALID;
"""
BACKWARD = """
ALTER TABLE spend_event DROP COLUMN saved_units;
"""
ROLLUPS = ("day", "labelday", "labelquarterhour", "quarterhour")


class Migration(migrations.Migration):
    dependencies = [("spend", "0012_attempts")]

    operations = [
        migrations.RunSQL(FORWARD, BACKWARD),
        *(
            migrations.AddField(
                model_name=name,
                name="saved_units",
                field=models.BigIntegerField(default=0, db_default=0),
            )
            for name in ROLLUPS
        ),
    ]
