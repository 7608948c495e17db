"""Further attempts at one request: rows of their own that name the first."""

from django.db import migrations

FORWARD = """
ALTER TABLE spend_event ADD COLUMN attempt_of uuid;
CREATE INDEX spend_event_attempt_of ON spend_event (attempt_of) WHERE attempt_of IS NOT NULL;
"""
BACKWARD = """
DROP INDEX spend_event_attempt_of;
ALTER TABLE spend_event DROP COLUMN attempt_of;
"""


class Migration(migrations.Migration):
    dependencies = [("spend", "0011_words_for_prices")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
