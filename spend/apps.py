from django.apps import AppConfig


class SpendConfig(AppConfig):
    name = "spend"
    verbose_name = "Prices and spend"

    def ready(self) -> None:
        from budgets import totals  # noqa: PLC0415  # models are not loaded before
        from spend import ledger  # noqa: PLC0415

        totals.use_ledger(ledger.sum_of)
