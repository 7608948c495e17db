"""Who had past requests re-rated stands in the history; how far it has come is no change."""

from django.db import migrations

FORWARD = """
CREATE TRIGGER spend_rerating_history AFTER INSERT OR DELETE ON spend_rerating
  FOR EACH ROW EXECUTE FUNCTION costplatform_keep_history();
CREATE TRIGGER spend_invoiceimport_history AFTER INSERT OR DELETE ON spend_invoiceimport
  FOR EACH ROW EXECUTE FUNCTION costplatform_keep_history();
"""
BACKWARD = """
DROP TRIGGER spend_invoiceimport_history ON spend_invoiceimport;
DROP TRIGGER spend_rerating_history ON spend_rerating;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("spend", "0013_saved_by_the_response_cache"),
        ("budgets", "0011_history"),
    ]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
