"""Where a deployment is and with which key, as LiteLLM's clients say it for each provider."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson
from rest_framework import serializers

from budgets.api.fields import OPTIONAL, Parsed, ProviderName, Text
from budgets.errors import InvalidInput
from gateway.models import validate_api_version
from gateway.providers import base_url_of, bedrock, vertex
from gateway.services import SECRET_LENGTH_MAX
from spend.catalogues.providers import canonical_name

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.:-]{0,62}")
_VERTEX: Final = ("vertex_project", "vertex_location", "vertex_credentials")
_AWS: Final = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


class ProviderKey(Text):
    """A credential for the upstream; it is kept encrypted and never shown."""

    default_error_messages = {"environment": "must be the key itself, not a variable's name"}

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if text.startswith("os.environ/"):
            self.fail("environment")
        return text


class ServiceAccount(ProviderKey):
    """The key of a service account: the JSON itself, as text or as an object."""

    default_error_messages = {"no_account": "is no service account's key"}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, dict):
            return super().to_internal_value(data)
        if not all(isinstance(data.get(name), str) for name in vertex.KEY_FIELDS):
            self.fail("no_account")
        return super().to_internal_value(orjson.dumps(data).decode())


class PlaceName(Parsed):
    """The name of a project or a region, as it stands in host names."""

    def parse(self, text: str) -> str:
        if not _NAME.fullmatch(text):
            raise ValueError("must be small letters, digits and -")
        return text


class ApiVersion(Parsed):
    """Azure's version of its API."""

    def parse(self, text: str) -> str:
        if len(text) > 32:  # noqa: PLR2004  # as the column
            raise ValueError("must have 32 characters at most")
        validate_api_version(text)
        return text


class PlaceFields(serializers.Serializer):
    """What may be given beside ``api_base`` and ``api_key``."""

    api_version = ApiVersion(**OPTIONAL)
    vertex_project = PlaceName(**OPTIONAL)
    vertex_location = PlaceName(**OPTIONAL)
    vertex_credentials = ServiceAccount(max_length=SECRET_LENGTH_MAX, **OPTIONAL)
    aws_region_name = PlaceName(**OPTIONAL)
    aws_access_key_id = ProviderKey(max_length=128, **OPTIONAL)
    aws_secret_access_key = ProviderKey(max_length=128, **OPTIONAL)
    aws_session_token = ProviderKey(max_length=2_048, **OPTIONAL)


class Place(NamedTuple):
    provider: str
    upstream_model: str
    api_base: str
    api_key: str | None


def place_of(params: Mapping[str, Any]) -> Place:
    """
    Return the provider by the price book's name, its name of the model, base URL and key.

    :raises InvalidInput: naming the parameter that is missing or contradicts another
    """
    named, upstream_model = _provider_and_model(params)
    provider = canonical_name(named)
    _check_only(params, _VERTEX, provider == "google", named)
    _check_only(params, ("aws_region_name", *_AWS), provider == "aws", named)
    base = params.get("api_base") or _made(params, named) or _preset(named, provider)
    return Place(provider, upstream_model, base, _key(params))


def _made(params: Mapping[str, Any], named: str) -> str | None:
    """Return the URL that a project or a region makes."""
    if params.get("aws_region_name"):
        return bedrock.base_url(region=params["aws_region_name"])
    if named.startswith("vertex_ai") or params.get("vertex_project"):
        for name in ("vertex_project", "vertex_location"):
            if not params.get(name):
                raise InvalidInput(f"litellm_params.{name}", "is needed for Vertex AI")
        return vertex.base_url(project=params["vertex_project"], location=params["vertex_location"])
    return None


def _key(params: Mapping[str, Any]) -> str | None:
    given = params.get("api_key") or params.get("vertex_credentials")
    signing = {name: params[name] for name in _AWS if params.get(name)}
    if not signing:
        return given
    if given:
        raise InvalidInput("litellm_params.api_key", "cannot stand beside an access key of AWS")
    for name in _AWS[:2]:
        if name not in signing:
            raise InvalidInput(f"litellm_params.{name}", "is needed to sign")
    return orjson.dumps(signing).decode()


def _check_only(
    params: Mapping[str, Any], names: tuple[str, ...], is_theirs: bool, provider: str
) -> None:
    for name in names:
        if params.get(name) and not is_theirs:
            raise InvalidInput(f"litellm_params.{name}", f"is nothing of {provider}")


def _provider_and_model(params: Mapping[str, Any]) -> tuple[str, str]:
    """Return who serves the model, as it was said, and the provider's name of it."""
    prefix, slash, rest = params["model"].partition("/")
    provider = params.get("custom_llm_provider")
    if provider:
        return provider, rest if slash and prefix == provider else params["model"]
    if not slash or not rest:
        problem = "must begin with its provider, as openai/gpt-4o does"
        raise InvalidInput("litellm_params.model", problem)
    return _checked_provider(prefix), rest


def _checked_provider(prefix: str) -> str:
    try:
        return ProviderName().run_validation(prefix)  # type: ignore[no-any-return]  # its type is lost
    except serializers.ValidationError as error:
        raise InvalidInput("litellm_params.model", "has no provider before its /") from error


def _preset(named: str, provider: str) -> str:
    base_url = base_url_of(provider)
    if base_url is None:
        raise InvalidInput("litellm_params.api_base", f"is needed: {named} has no usual one")
    return base_url
