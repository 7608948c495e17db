"""The ledger keeps what decided a price beside the counts, and takes adjusting rows."""

from django.db import migrations

FORWARD = """
ALTER TABLE spend_event
  ADD COLUMN service_tier varchar(24) NOT NULL DEFAULT '',
  ADD COLUMN variant varchar(64) NOT NULL DEFAULT '',
  ADD COLUMN region varchar(32) NOT NULL DEFAULT '',
  ADD COLUMN rerating_id bigint;
ALTER TABLE spend_event DROP CONSTRAINT event_kind_is_known;
ALTER TABLE spend_event ADD CONSTRAINT event_kind_is_known
  CHECK (kind IN ('usage', 'orphan', 'orphan_reversal', 'adjustment'));
ALTER TABLE spend_event ADD CONSTRAINT event_adjustment_says_why
  CHECK ((kind = 'adjustment') = (rerating_id IS NOT NULL));
"""
BACKWARD = """
ALTER TABLE spend_event DROP CONSTRAINT event_adjustment_says_why;
ALTER TABLE spend_event DROP CONSTRAINT event_kind_is_known;
ALTER TABLE spend_event ADD CONSTRAINT event_kind_is_known
  CHECK (kind IN ('usage', 'orphan', 'orphan_reversal'));
ALTER TABLE spend_event
  DROP COLUMN service_tier, DROP COLUMN variant, DROP COLUMN region, DROP COLUMN rerating_id;
"""


class Migration(migrations.Migration):
    dependencies = [("spend", "0004_price_conditions_and_adjustments")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
