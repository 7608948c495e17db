from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from costplatform import health, metrics
from gateway.admin import platform
from gateway.api.costs import CostEstimate, SpendCalculate, TokenCounter
from gateway.api.models import (
    DeploymentBudgetDelete,
    DeploymentBudgets,
    ModelDelete,
    ModelInfo,
    ModelNew,
)
from spend.api_proposals import PriceProposalApply, PriceProposalReject, PriceProposals
from spend.api_reratings import ReratingDetail, Reratings, UnpricedModels
from spend.exchange_api import ExchangeRateApprove, ExchangeRateReject, ExchangeRates
from spend.invoice_api import (
    InvoiceCompare,
    InvoiceInfo,
    Invoices,
    ProviderKeyDelete,
    ProviderKeys,
)

admin.autodiscover()

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("admin/platform/", admin.site.admin_view(platform.page), name="platform_budgets"),
    path("admin/", admin.site.urls),
    path("healthz/live", health.live, name="live"),
    path("healthz/ready", health.ready, name="ready"),
    path("metrics", metrics.scrape, name="metrics"),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("", include("budgets.api.urls")),
    path("api/v1/exchange-rates", ExchangeRates.as_view(), name="exchange-rates"),
    path(
        "api/v1/exchange-rates/approve", ExchangeRateApprove.as_view(), name="exchange-rate-approve"
    ),
    path("api/v1/exchange-rates/reject", ExchangeRateReject.as_view(), name="exchange-rate-reject"),
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
    path("api/v1/invoices", Invoices.as_view(), name="invoices"),
    path("api/v1/invoices/info", InvoiceInfo.as_view(), name="invoice-info"),
    path("api/v1/invoices/compare", InvoiceCompare.as_view(), name="invoice-compare"),
    path("api/v1/provider-keys", ProviderKeys.as_view(), name="provider-keys"),
    path("api/v1/provider-keys/delete", ProviderKeyDelete.as_view(), name="provider-key-delete"),
    path("api/v1/price-proposals", PriceProposals.as_view(), name="price-proposals"),
    path(
        "api/v1/price-proposals/<int:proposal_id>/apply",
        PriceProposalApply.as_view(),
        name="price-proposal-apply",
    ),
    path(
        "api/v1/price-proposals/<int:proposal_id>/reject",
        PriceProposalReject.as_view(),
        name="price-proposal-reject",
    ),
    path("api/v1/reratings", Reratings.as_view(), name="reratings"),
    path("api/v1/reratings/<int:rerating_id>", ReratingDetail.as_view(), name="rerating"),
    path("api/v1/unpriced-models", UnpricedModels.as_view(), name="unpriced-models"),
    path("", include("gateway.urls")),
]

handler400 = "costplatform.errors.bad_request"
handler404 = "costplatform.errors.not_found"
handler500 = "costplatform.errors.server_error"
