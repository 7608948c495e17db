"""``/model/*``: the deployments that serve models."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.utils import timezone
from rest_framework import serializers

from budgets import queries
from budgets.api import platform, platform_inputs
from budgets.api.answers import Anything
from budgets.api.budgets import headers_of
from budgets.api.endpoints import Answer, Asked, Defaults, ManagementView, Strict, endpoint
from budgets.api.fields import (
    OPTIONAL,
    Amount,
    BudgetDuration,
    Flag,
    LabelText,
    Parsed,
    ProviderName,
    PublicId,
    QueryWhole,
    Text,
    TextList,
    Whole,
)
from budgets.api.fields import Rate as RateLimit
from budgets.api.inputs import Paged
from budgets.api.label_answers import Message
from budgets.api.platform_answers import DeploymentBudget, PlatformView
from budgets.changes import change
from budgets.errors import InvalidInput, NotFound
from budgets.models import TAG_BYTES_MAX, AccountKind
from budgets.queries import PAGE_SIZE_MAX
from budgets.snapshots import GLOBAL_SCOPE
from gateway.api.deployment_limits import limits_of, set_limits
from gateway.api.deployment_places import PlaceFields, ProviderKey, place_of
from gateway.models import REGION, REGION_LENGTH_MAX, WEIGHT_MAX, Deployment
from gateway.services import (
    RATE_DECIMALS_MAX,
    SECRET_LENGTH_MAX,
    create_deployment,
    delete_deployment,
)
from spend.models import Model, PriceVersion
from spend.price_terms import RATE_MAX
from spend.pricebook import OVERRIDE_CURRENCY, OVERRIDE_FIELDS
from spend.queries import models_named, price_in_force

TOKENS_MAX: Final = 2**31 - 1

UNSUPPORTED_PARAMS: Final[Defaults] = {
    "configurable_clientside_auth_params": None,
    "drop_params": False,
    "input_cost_per_second": None,
    "litellm_credential_name": None,
    "litellm_trace_id": None,
    "max_file_size_mb": None,
    "max_retries": None,
    "merge_reasoning_content_in_choices": False,
    "mock_response": None,
    "model_info": {},
    "organization": None,
    "output_cost_per_second": None,
    "stream_timeout": None,
    "timeout": None,
    "use_in_pass_through": False,
    "use_litellm_proxy": False,
    "watsonx_region_name": None,
}
UNSUPPORTED_INFO: Final[Defaults] = {
    **dict.fromkeys(OVERRIDE_FIELDS),
    "access_groups": [],
    "base_model": None,
    "created_at": None,
    "created_by": None,
    "db_model": False,
    "litellm_provider": None,
    "team_id": None,
    "team_public_model_name": None,
    "tier": None,
    "updated_at": None,
    "updated_by": None,
}


class Region(Parsed):
    """A region as prices name it."""

    def parse(self, text: str) -> str:
        if len(text) > REGION_LENGTH_MAX or not REGION.fullmatch(text):
            raise ValueError("must be small letters, digits, - and _")
        return text


class Rate(Amount):
    """What one unit costs, in US dollars."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_value=RATE_MAX, decimals=RATE_DECIMALS_MAX, **options)


class ModelParams(PlaceFields, Strict):
    """Where a deployment is, how it is authenticated, and the prices that it has of its own."""

    unsupported = UNSUPPORTED_PARAMS

    model = Text(help_text="Provider and upstream model: openai/gpt-4o.")
    custom_llm_provider = ProviderName(**OPTIONAL)
    api_base = Text(max_length=500, **OPTIONAL)
    api_key = ProviderKey(max_length=SECRET_LENGTH_MAX, **OPTIONAL)
    weight = Whole(min_value=1, max_value=WEIGHT_MAX, **OPTIONAL)
    region_name = Region(**OPTIONAL)
    tags = TextList(child=LabelText(bytes_max=TAG_BYTES_MAX), **OPTIONAL)
    rpm = RateLimit(**OPTIONAL)
    tpm = RateLimit(**OPTIONAL)
    max_budget = Amount(**OPTIONAL)
    budget_duration = BudgetDuration(**OPTIONAL)
    input_cost_per_token = Rate(**OPTIONAL)
    output_cost_per_token = Rate(**OPTIONAL)
    cache_read_input_token_cost = Rate(**OPTIONAL)
    cache_creation_input_token_cost = Rate(**OPTIONAL)
    cache_creation_input_token_cost_above_1hr = Rate(**OPTIONAL)
    input_cost_per_audio_token = Rate(**OPTIONAL)
    output_cost_per_audio_token = Rate(**OPTIONAL)
    output_cost_per_reasoning_token = Rate(**OPTIONAL)
    input_cost_per_request = Rate(**OPTIONAL)


class ModelFacts(Strict):
    """What is known of a deployment; ``max_tokens`` is the older name of the output's bound."""

    unsupported = UNSUPPORTED_INFO

    id = PublicId(**OPTIONAL)
    organization_id = PublicId(**OPTIONAL)
    max_input_tokens = Whole(min_value=1, max_value=TOKENS_MAX, **OPTIONAL)
    max_output_tokens = Whole(min_value=1, max_value=TOKENS_MAX, **OPTIONAL)
    max_tokens = Whole(min_value=1, max_value=TOKENS_MAX, **OPTIONAL)
    mode = Text(**OPTIONAL)


class NewModel(Strict):
    model_name = Text()
    litellm_params = ModelParams()
    model_info = ModelFacts(**OPTIONAL)
    blocked = Flag(**OPTIONAL)


class DeleteModel(Strict):
    id = PublicId()


class ModelQuery(Paged):
    unsupported = {
        "healthy_only": "false",
        "include_team_models": "false",
        "teamId": "",
    }

    size = QueryWhole(min_value=1, max_value=PAGE_SIZE_MAX, default=PAGE_SIZE_MAX)
    litellm_model_id = PublicId(**OPTIONAL)


@dataclass(frozen=True, slots=True)
class ModelView:
    """A deployment with what the price book knows of it."""

    deployment: Deployment
    listed: Model | None
    price: PriceVersion | None
    limits: Mapping[str, Any]

    @property
    def params(self) -> dict[str, Any]:
        deployment = self.deployment
        return {
            "model": f"{deployment.provider}/{deployment.upstream_model}",
            "custom_llm_provider": deployment.provider,
            "api_base": deployment.api_base,
            "weight": deployment.weight,
            **({"region_name": deployment.region} if deployment.region else {}),
            **({"api_version": deployment.api_version} if deployment.api_version else {}),
            **({"tags": deployment.tags} if deployment.tags else {}),
            **self.limits,
            **{name: Decimal(rate) for name, rate in deployment.price_override.items()},
        }

    @property
    def facts(self) -> dict[str, Any]:
        deployment, listed = self.deployment, self.listed
        organization = deployment.organization
        output = deployment.output_tokens_max or (listed and listed.output_tokens_max)
        return {
            **deployment.model_info,
            "id": deployment.public_id,
            "db_model": True,
            "organization_id": organization.public_id if organization else None,
            "max_input_tokens": deployment.input_tokens_max or (listed and listed.context_window),
            "max_output_tokens": output,
            "max_tokens": output,
            **self._prices(),
        }

    def _prices(self) -> dict[str, Any]:
        """Return the price that applies, and where it is from; null is: it has none."""
        own = self.deployment.price_override
        if own:
            rates = {name: Decimal(rate) for name, rate in own.items()}
            return {**rates, "price_source": "deployment", "price_currency": OVERRIDE_CURRENCY}
        if self.price is None:
            return {"price_source": None, "price_currency": None}
        of_component = {rate.component: rate for rate in self.price.rates.all()}
        rates = {
            name: of_component[component].for_units(1)
            for name, component in OVERRIDE_FIELDS.items()
            if component in of_component
        }
        source = {"price_source": self.price.source, "price_currency": self.price.currency}
        return {**rates, **source}


class ModelRow(serializers.Serializer):
    """
    A deployment. ``litellm_params`` is as it was given, without the credential; ``model_info`` adds
    bounds and rates that apply, and ``price_source``: the deployment, a price list, or null.
    """

    model_id = serializers.CharField(source="deployment.public_id")
    model_name = serializers.CharField(source="deployment.model_name")
    litellm_params = Anything(source="params")
    model_info = Anything(source="facts")
    blocked = serializers.BooleanField(source="deployment.blocked")
    created_at = serializers.DateTimeField(source="deployment.created_at")
    updated_at = serializers.DateTimeField(source="deployment.updated_at")


class ModelRows(serializers.Serializer):
    data = ModelRow(many=True)  # type: ignore[assignment]  # a field, which DRF takes out


class ModelNew(ManagementView):
    @endpoint(takes=NewModel, answers=ModelRow)
    def post(self, asked: Asked) -> ModelView:
        """Add an upstream to the group of deployments that serve a model name."""
        values, params, now = _values(asked), asked["litellm_params"], timezone.now()
        try:
            with change(scope=GLOBAL_SCOPE):  # all of it, or nothing
                deployment = create_deployment(values=values, api_key=place_of(params).api_key)
                set_limits(deployment=deployment, params=params, now=now)
        except InvalidInput as error:
            if "." in error.field:
                raise
            raise InvalidInput(f"litellm_params.{error.field}", error.problem) from error
        return _views([deployment], at=now)[0]


class ModelInfo(ManagementView):
    @endpoint(takes=ModelQuery, answers=ModelRows)
    def get(self, asked: Asked) -> Answer:
        """List deployments with the prices that apply; credentials are never shown."""
        found = Deployment.objects.select_related("organization")
        if public_id := asked.get("litellm_model_id"):
            found = found.filter(public_id=public_id)
            if not found.exists():
                raise NotFound("litellm_model_id", public_id)
        page = queries.page_of(found, number=asked["page"], size=asked["size"])
        rows = _views(page.rows, at=timezone.now())
        return Answer({"data": rows}, headers_of(page))


class ModelDelete(ManagementView):
    @endpoint(takes=DeleteModel, answers=Message)
    def post(self, asked: Asked) -> dict[str, str]:
        """Remove a deployment, and its credential where no other uses it."""
        public_id = asked["id"]
        delete_deployment(deployment=_deployment(public_id, field="id"))
        return {"message": f"Model: {public_id} deleted successfully"}


class DeploymentBudgets(ManagementView):
    @endpoint(takes=platform_inputs.ListPlatformBudgets, answers=DeploymentBudget, many=True)
    def get(self, asked: Asked) -> Answer:
        """List the budgets of deployments, over all organizations."""
        ids = {
            queries.platform_account_id(AccountKind.DEPLOYMENT, public_id): public_id
            for public_id in Deployment.objects.values_list("public_id", flat=True)
        }
        limited = queries.limited_accounts(AccountKind.DEPLOYMENT).filter(id__in=ids)
        return platform.listed(limited, asked, name_of=lambda each: ids[each.pk])

    @endpoint(
        takes=platform_inputs.SetDeploymentBudget,
        answers=DeploymentBudget,
        operation_id="deployment_budget_set",
    )
    def post(self, asked: Asked) -> PlatformView:
        """Limit a deployment: what is left out stays, null takes away."""
        deployment = _deployment(asked["deployment_id"], field="deployment_id")
        return platform.limited(
            AccountKind.DEPLOYMENT, deployment.public_id, asked, label=str(deployment)
        )


class DeploymentBudgetDelete(ManagementView):
    @endpoint(takes=platform_inputs.OneDeployment, answers=DeploymentBudget)
    def post(self, asked: Asked) -> PlatformView:
        """Take a deployment's budget away; what was spent stays."""
        public_id = asked["deployment_id"]
        return platform.unlimited(AccountKind.DEPLOYMENT, public_id, field="deployment_id")


def _deployment(public_id: str, *, field: str) -> Deployment:
    rows = Deployment.objects.select_related("credential").filter(public_id=public_id)
    deployment = rows.first()
    if deployment is None:
        raise NotFound(field, public_id)
    return deployment


def _views(deployments: Iterable[Deployment], *, at: datetime) -> list[ModelView]:
    deployments = list(deployments)
    listed = models_named((each.provider, each.upstream_model) for each in deployments)
    limits = limits_of(deployments)
    return [
        ModelView(
            each,
            model,
            price_in_force(model, at=at, organization_id=each.organization_id) if model else None,
            limits[each.pk],
        )
        for each in deployments
        for model in [listed.get((each.provider, each.upstream_model))]
    ]


def _values(asked: Asked) -> dict[str, Any]:
    params, facts = asked["litellm_params"], asked.get("model_info") or {}
    place = place_of(params)
    values = {
        "model_name": asked["model_name"],
        "provider": place.provider,
        "upstream_model": place.upstream_model,
        "api_base": place.api_base,
        "api_version": params.get("api_version") or "",
        "weight": params.get("weight") or 1,
        "region": params.get("region_name") or "",
        "tags": params.get("tags") or [],
        "price_override": {
            name: params[name] for name in OVERRIDE_FIELDS if params.get(name) is not None
        },
        "input_tokens_max": facts.get("max_input_tokens"),
        "output_tokens_max": facts.get("max_output_tokens") or facts.get("max_tokens"),
        "blocked": bool(asked.get("blocked")),
        "model_info": {"mode": facts["mode"]} if facts.get("mode") else {},
    }
    if facts.get("id"):
        values["public_id"] = facts["id"]
    if facts.get("organization_id"):
        values["organization"] = queries.find_organization(
            facts["organization_id"], field="model_info.organization_id"
        )
    return values
