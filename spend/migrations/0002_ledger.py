"""The ledger: one table, partitioned by day, append-only; and triggers on the price book."""

from django.db import migrations

LEDGER = """
CREATE TABLE spend_event (
  id uuid NOT NULL,
  admitted_at timestamptz NOT NULL,
  part smallint NOT NULL,
  request_id uuid NOT NULL,
  kind varchar(16) NOT NULL,
  settled_at timestamptz NOT NULL,
  recorded_at timestamptz NOT NULL,
  organization_id bigint NOT NULL,
  accounts uuid[] NOT NULL,
  amount_units bigint NOT NULL,
  currency varchar(3) NOT NULL,
  cost numeric(38, 18) NOT NULL,
  cost_currency varchar(3) NOT NULL,
  exchange_rate numeric(30, 15) NOT NULL,
  exchange_rate_date date,
  reserved_units bigint NOT NULL,
  key_digest varchar(64) NOT NULL,
  team varchar(255) NOT NULL,
  "user" varchar(255) NOT NULL,
  end_user varchar(256) NOT NULL,
  tags varchar(256)[] NOT NULL,
  route varchar(64) NOT NULL,
  model varchar(255) NOT NULL,
  provider varchar(64) NOT NULL,
  upstream_model varchar(255) NOT NULL,
  deployment varchar(255) NOT NULL,
  price_reference varchar(128) NOT NULL,
  streamed boolean NOT NULL,
  status smallint NOT NULL,
  input_tokens bigint NOT NULL,
  output_tokens bigint NOT NULL,
  usage jsonb NOT NULL,
  lines jsonb NOT NULL,
  flags varchar(24)[] NOT NULL,
  CONSTRAINT event_once PRIMARY KEY (id, admitted_at, part),
  CONSTRAINT event_has_accounts CHECK (cardinality(accounts) > 0),
  CONSTRAINT event_kind_is_known CHECK (kind IN ('usage', 'orphan', 'orphan_reversal'))
) PARTITION BY RANGE (admitted_at);
CREATE INDEX event_by_time ON spend_event (admitted_at);
CREATE INDEX event_by_organization ON spend_event (organization_id, admitted_at);
CREATE TRIGGER event_is_append_only BEFORE UPDATE OR DELETE ON spend_event
  FOR EACH ROW EXECUTE FUNCTION costplatform_append_only();
CREATE TRIGGER event_is_never_emptied BEFORE TRUNCATE ON spend_event
  FOR EACH STATEMENT EXECUTE FUNCTION costplatform_append_only();
"""
COMMON = ("spend_provider", "spend_model", "spend_priceversion", "spend_pricerate")
TRIGGERS = "".join(
    # By statement, not by row: an import writes thousands of rates.
    f"CREATE TRIGGER {table}_version AFTER INSERT OR UPDATE OR DELETE ON {table}"
    " FOR EACH STATEMENT EXECUTE FUNCTION costplatform_common_changed();"
    f"CREATE TRIGGER {table}_history AFTER INSERT OR UPDATE OR DELETE ON {table}"
    " FOR EACH ROW EXECUTE FUNCTION costplatform_keep_history();"
    for table in COMMON
)


class Migration(migrations.Migration):
    dependencies = [("spend", "0001_initial"), ("budgets", "0002_versions_and_history")]

    operations = [
        migrations.RunSQL(LEDGER, "DROP TABLE spend_event CASCADE"),
        migrations.RunSQL(TRIGGERS, migrations.RunSQL.noop),
    ]
