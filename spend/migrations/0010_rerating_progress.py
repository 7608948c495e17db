from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("budgets", "0005_versions_of_every_scope"),
        ("spend", "0009_price_proposals"),
    ]

    operations = [
        migrations.AddField(
            model_name="rerating",
            name="requests_total",
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="rerating",
            name="skipped",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddConstraint(
            model_name="rerating",
            constraint=models.CheckConstraint(
                condition=models.Q(("reason", ""), _negated=True), name="rerating_says_why"
            ),
        ),
    ]
