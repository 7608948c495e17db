from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("spend", "0010_rerating_progress")]

    operations = [
        migrations.AlterModelOptions(
            name="priceversion",
            options={"ordering": ("model", "-effective_from"), "verbose_name": "price"},
        ),
        migrations.AlterModelOptions(
            name="priceadjustment",
            options={
                "ordering": ("provider", "organization", "team", "-effective_from"),
                "verbose_name": "discount or margin",
                "verbose_name_plural": "discounts and margins",
            },
        ),
    ]
