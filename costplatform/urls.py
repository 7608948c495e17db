from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from costplatform import health, metrics
from gateway.admin import platform
from gateway.api.cache import CacheDelete, CacheFlushAll, CachePing
from gateway.api.costs import CostEstimate, SpendCalculate, TokenCounter
from gateway.api.models import (
    DeploymentBudgetDelete,
    DeploymentBudgets,
    ModelDelete,
    ModelInfo,
    ModelNew,
)
from gateway.api.router import (
    ConfigUpdate,
    FallbackNew,
    FallbackOf,
    RouterFieldList,
    RouterSettingsNow,
)
from gateway.api.routing_rules import RoutingRuleDelete, RoutingRules
from spend.admin import reports

admin.autodiscover()

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("admin/platform/", admin.site.admin_view(platform.page), name="platform_budgets"),
    path("admin/spend/report/", admin.site.admin_view(reports.page), name="spend_report"),
    path("admin/", admin.site.urls),
    path("healthz/live", health.live, name="live"),
    path("healthz/ready", health.ready, name="ready"),
    path("metrics", metrics.scrape, name="metrics"),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("", include("budgets.api.urls")),
    path("spend/calculate", SpendCalculate.as_view(), name="spend-calculate"),
    path("cost/estimate", CostEstimate.as_view(), name="cost-estimate"),
    path("utils/token_counter", TokenCounter.as_view(), name="token-counter"),
    path("", include("spend.api.urls")),
    path("model/new", ModelNew.as_view(), name="model-new"),
    path("model/info", ModelInfo.as_view(), name="model-info"),
    path("v1/model/info", ModelInfo.as_view(), name="model-info-v1"),
    path("model/delete", ModelDelete.as_view(), name="model-delete"),
    path("api/v1/deployment-budgets", DeploymentBudgets.as_view(), name="deployment-budgets"),
    path(
        "api/v1/deployment-budgets/delete",
        DeploymentBudgetDelete.as_view(),
        name="deployment-budget-delete",
    ),
    path("fallback", FallbackNew.as_view(), name="fallback-new"),
    path("fallback/<path:model>", FallbackOf.as_view(), name="fallback-of"),
    path("cache/ping", CachePing.as_view(), name="cache-ping"),
    path("cache/delete", CacheDelete.as_view(), name="cache-delete"),
    path("cache/flushall", CacheFlushAll.as_view(), name="cache-flushall"),
    path("router/settings", RouterSettingsNow.as_view(), name="router-settings"),
    path("router/fields", RouterFieldList.as_view(), name="router-fields"),
    path("config/update", ConfigUpdate.as_view(), name="config-update"),
    path("api/v1/routing-rules", RoutingRules.as_view(), name="routing-rules"),
    path("api/v1/routing-rules/delete", RoutingRuleDelete.as_view(), name="routing-rule-delete"),
    path("", include("gateway.urls")),
]

handler400 = "costplatform.errors.bad_request"
handler404 = "costplatform.errors.not_found"
handler500 = "costplatform.errors.server_error"
