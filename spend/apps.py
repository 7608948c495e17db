from django.apps import AppConfig


class SpendConfig(AppConfig):
    name = "spend"
    verbose_name = "Prices and spend"

    def ready(self) -> None:
        from budgets import totals  # models are not loaded before
        from spend import ledger

        totals.use_ledger(ledger.sums_of)
