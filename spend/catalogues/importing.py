"""Writes a price list into the price book where nothing is known yet; changes nothing that is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db import transaction

from spend.catalogues.checks import rounded
from spend.catalogues.listing import ListedModel, ListedPrice, Listing
from spend.models import Model, PriceRate, PriceVersion, Provider
from spend.rates import Rate


@dataclass(frozen=True, slots=True)
class Imported:
    """What a list brought, and the models whose prices it has in no form that is known here."""

    providers: int
    models: int
    versions: int
    left_out: tuple[str, ...]


def add_unknown(listing: Listing) -> Imported:
    """Add every provider and model with its price versions that is not there yet."""
    by_provider: dict[str, list[ListedModel]] = {}
    for model in listing.models:
        by_provider.setdefault(model.provider, []).append(model)
    models = versions = 0
    left_out: list[str] = []
    with transaction.atomic():
        for slug, listed in by_provider.items():
            name = listing.provider_names.get(slug, slug)
            provider, _ = Provider.objects.get_or_create(slug=slug, defaults={"name": name})
            known = set(Model.objects.filter(provider=provider).values_list("name", flat=True))
            fresh = [each for each in listed if each.name not in known]
            left_out += [f"{slug}/{each.name}" for each in fresh if not each.prices]
            added = [each for each in fresh if each.prices]
            versions += _add(provider, added, listing)
            models += len(added)
    return Imported(len(by_provider), models, versions, tuple(left_out))


def model_row(provider: Provider, listed: ListedModel) -> Model:
    return Model(
        provider=provider,
        name=listed.name,
        other_names=list(listed.other_names),
        prefixes=list(listed.prefixes),
        context_window=listed.context_window,
        output_tokens_max=listed.output_tokens_max,
    )


def version_row(model: Model, price: ListedPrice, *, source: str, version: str) -> PriceVersion:
    return PriceVersion(
        model=model,
        currency=price.currency,
        effective_from=price.effective_from,
        region_factors={name: str(factor) for name, factor in price.region_factors.items()},
        source=source,
        source_version=version,
    )


def rate_rows(version: PriceVersion, rates: Iterable[Rate]) -> list[PriceRate]:
    return [
        PriceRate(
            version=version, component=rate.component, rate=rounded(rate.rate), per=rate.per,
            tier_from=rate.tier_from, service_tier=rate.service_tier, variant=rate.variant,
            window=rate.window,
        )
        for rate in rates
    ]  # fmt: skip


def _add(provider: Provider, listed: Sequence[ListedModel], listing: Listing) -> int:
    """Write models with their versions and rates, in three statements."""
    models = Model.objects.bulk_create([model_row(provider, each) for each in listed])
    dated = [
        (version_row(model, price, source=listing.source, version=listing.version), price.rates)
        for model, each in zip(models, listed, strict=True)
        for price in each.prices
    ]
    PriceVersion.objects.bulk_create([version for version, _ in dated])
    rows = [row for version, rates in dated for row in rate_rows(version, rates)]
    PriceRate.objects.bulk_create(rows, batch_size=5_000)
    return len(dated)
