"""Addresses of the endpoints about prices, currencies, invoices and spend."""

from collections.abc import Mapping
from typing import Any

from django.urls import URLPattern, path

from spend.api import (
    adjustments,
    cost_config,
    exchange_rates,
    history,
    invoices,
    logs,
    prices,
    proposals,
    reports,
    reratings,
)


def _paths(below: str, views: Mapping[str, Any]) -> list[URLPattern]:
    return [path(f"{below}{rest}", view.as_view()) for rest, view in views.items()]


urlpatterns = [
    *_paths("", {
        "spend/logs": logs.SpendLogs,
        "config/cost_discount_config": cost_config.DiscountConfig,
        "config/cost_margin_config": cost_config.MarginConfig,
    }),
    *_paths("api/v1/", {
        "exchange-rates": exchange_rates.ExchangeRates,
        "exchange-rates/approve": exchange_rates.ExchangeRateApprove,
        "exchange-rates/reject": exchange_rates.ExchangeRateReject,
        "history": history.History,
        "invoices": invoices.Invoices,
        "invoices/info": invoices.InvoiceInfo,
        "invoices/compare": invoices.InvoiceCompare,
        "price-adjustments": adjustments.Adjustments,
        "price-adjustments/end": adjustments.AdjustmentEnd,
        "price-adjustments/delete": adjustments.AdjustmentDelete,
        "price-proposals": proposals.PriceProposals,
        "price-proposals/<int:proposal_id>/apply": proposals.PriceProposalApply,
        "price-proposals/<int:proposal_id>/reject": proposals.PriceProposalReject,
        "prices": prices.Prices,
        "prices/correct": prices.PriceCorrect,
        "prices/end": prices.PriceEnd,
        "prices/delete": prices.PriceDelete,
        "provider-keys": invoices.ProviderKeys,
        "provider-keys/delete": invoices.ProviderKeyDelete,
        "reratings": reratings.Reratings,
        "reratings/<int:rerating_id>": reratings.ReratingDetail,
        "spend": reports.Spend,
        "unpriced-models": reratings.UnpricedModels,
    }),
]  # fmt: skip
