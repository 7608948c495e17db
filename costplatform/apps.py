from django.apps import AppConfig


class CostplatformConfig(AppConfig):
    name = "costplatform"
