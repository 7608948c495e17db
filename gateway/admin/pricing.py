"""Which price applies to deployments now: for a whole page of them in a few queries."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from django.db.models import Prefetch, Q

from gateway.models import Deployment
from spend.admin.prices import with_rates
from spend.models import Model, PriceVersion


def in_force(deployments: Sequence[Deployment], *, now: datetime) -> dict[int, PriceVersion | None]:
    """
    Return the price book's version in force for each deployment, whatever its own price is.

    Finds models as :func:`spend.pricebook.find_model` does, but for many at once.
    """
    candidates = _candidates(deployments, now=now)
    found = {}
    for deployment in deployments:
        model = _fitting(candidates.get(deployment.provider, ()), deployment.upstream_model)
        versions = getattr(model, "in_force", [])
        found[deployment.pk] = versions[-1] if versions else None
    return found


def _candidates(
    deployments: Iterable[Deployment], *, now: datetime
) -> Mapping[str, Sequence[Model]]:
    names = {deployment.upstream_model for deployment in deployments}
    providers = {deployment.provider for deployment in deployments}
    versions = with_rates(PriceVersion.objects.filter(effective_from__lte=now))
    models = (
        Model.objects.filter(provider__slug__in=providers)
        .filter(Q(name__in=names) | Q(other_names__overlap=list(names)) | ~Q(prefixes=[]))
        .select_related("provider")
        .prefetch_related(
            Prefetch("prices", versions.order_by("effective_from"), to_attr="in_force")
        )
        .order_by("id")
    )
    by_provider: dict[str, list[Model]] = defaultdict(list)
    for model in models:
        by_provider[model.provider.slug].append(model)
    return by_provider


def _fitting(models: Iterable[Model], name: str) -> Model | None:
    """Return the model of that name, else of that other name, else of its longest prefix."""
    models = list(models)
    exact = [model for model in models if model.name == name]
    aliases = sorted(
        (model for model in models if name in model.other_names), key=lambda model: len(model.name)
    )
    prefixed = sorted(
        (
            (-len(prefix), model.pk, model)
            for model in models
            for prefix in model.prefixes
            if name.startswith(prefix)
        ),
        key=lambda each: each[:2],
    )
    return next(iter([*exact, *aliases, *(model for *_, model in prefixed)]), None)
