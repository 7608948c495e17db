from django.apps import AppConfig


class CostplatformConfig(AppConfig):
    name = "costplatform"

    def ready(self) -> None:
        from costplatform import celery  # noqa: F401  # tasks are sent by this app
