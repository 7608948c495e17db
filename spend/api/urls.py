"""Addresses of the endpoints about prices and spend."""

from django.urls import path

from spend.api import adjustments, cost_config, logs, prices

urlpatterns = [
    path("spend/logs", logs.SpendLogs.as_view(), name="spend-logs"),
    path("api/v1/prices", prices.Prices.as_view(), name="prices"),
    path("api/v1/prices/correct", prices.PriceCorrect.as_view(), name="price-correct"),
    path("api/v1/prices/end", prices.PriceEnd.as_view(), name="price-end"),
    path("api/v1/prices/delete", prices.PriceDelete.as_view(), name="price-delete"),
    path("api/v1/price-adjustments", adjustments.Adjustments.as_view(), name="price-adjustments"),
    path(
        "api/v1/price-adjustments/end",
        adjustments.AdjustmentEnd.as_view(),
        name="price-adjustment-end",
    ),
    path(
        "api/v1/price-adjustments/delete",
        adjustments.AdjustmentDelete.as_view(),
        name="price-adjustment-delete",
    ),
    path(
        "config/cost_discount_config",
        cost_config.DiscountConfig.as_view(),
        name="cost-discount-config",
    ),
    path(
        "config/cost_margin_config", cost_config.MarginConfig.as_view(), name="cost-margin-config"
    ),
]
