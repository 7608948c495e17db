"""Writes: deployments and the credentials they use."""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import orjson

from budgets import money
from budgets.changes import change, unique
from budgets.errors import InvalidInput
from budgets.models import TAG_BYTES_MAX
from gateway import vault
from gateway.models import Credential, Deployment
from spend.price_terms import RATE_MAX
from spend.pricebook import OVERRIDE_FIELDS

GLOBAL_SCOPE: Final = 0
DEPLOYMENT_TAGS_MAX: Final = 16
RATE_DECIMALS_MAX: Final = 18
SECRET_LENGTH_MAX: Final = 4_096
_URL_CHARACTERS: Final = re.compile(r"[!-~]+")


def create_deployment(*, values: Mapping[str, Any], api_key: str | None) -> Deployment:
    """
    Add an upstream to the group of its model name, with its credential if one is given.

    :raises Conflict: if the id is taken
    :raises InvalidInput: naming the field that does not fit
    """
    deployment = Deployment(**values)
    _check(deployment)
    with change(scope=GLOBAL_SCOPE), unique("model_info.id"):
        if api_key:
            deployment.credential = _new_credential(deployment, api_key)
        deployment.save()
    return deployment


def update_deployment(
    *, deployment: Deployment, values: Mapping[str, Any], api_key: str | None
) -> Deployment:
    """
    Change an upstream; a new base URL on another host needs its credential again.

    :raises InvalidInput: naming the field that does not fit
    """
    for name, value in values.items():
        setattr(deployment, name, value)
    _check(deployment)
    _check_binding(deployment, api_key)
    with change(scope=GLOBAL_SCOPE):
        if api_key:
            deployment.credential = _new_credential(deployment, api_key)
        deployment.save()
    return deployment


def delete_deployment(*, deployment: Deployment) -> None:
    """Remove an upstream, and its credential where no other uses it."""
    credential = deployment.credential
    with change(scope=GLOBAL_SCOPE):
        deployment.delete()
        if credential is not None and not credential.deployments.exists():
            credential.delete()


def checked_override(fields: Mapping[str, object]) -> dict[str, str]:
    """
    Return a deployment's own price fields as exact decimals in text.

    :raises InvalidInput: naming the field that is unknown or no rate
    """
    return {name: _rate(name, value) for name, value in fields.items()}


def _rate(name: str, value: object) -> str:
    if name not in OVERRIDE_FIELDS:
        raise InvalidInput(name, "is no price field that is known here")
    try:
        rate = Decimal(str(value)) if not isinstance(value, bool) else Decimal("NaN")
    except InvalidOperation:
        rate = Decimal("NaN")
    if not rate.is_finite() or not 0 <= rate <= RATE_MAX or not str(value).isascii():
        raise InvalidInput(name, f"must be a number from 0 to {RATE_MAX}")
    if not money.fits_in_decimals(rate, RATE_DECIMALS_MAX):
        raise InvalidInput(name, f"must not have more than {RATE_DECIMALS_MAX} decimals")
    return format(rate, "f")


def _check(deployment: Deployment) -> None:
    parts = _parts(deployment.api_base)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidInput("api_base", "must be an http or https URL")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidInput("api_base", "must have no user, query or fragment")
    _check_tags(deployment.tags)
    deployment.price_override = checked_override(deployment.price_override)


def _check_tags(tags: list[str]) -> None:
    if len(tags) > DEPLOYMENT_TAGS_MAX:
        raise InvalidInput("tags", f"must not be more than {DEPLOYMENT_TAGS_MAX}")
    if len(set(tags)) < len(tags):
        raise InvalidInput("tags", "must not have one twice")
    if not all(0 < len(tag.encode()) <= TAG_BYTES_MAX for tag in tags):
        raise InvalidInput("tags", f"must have 1 to {TAG_BYTES_MAX} bytes each")


def _parts(url: str) -> SplitResult:
    if not _URL_CHARACTERS.fullmatch(url):
        raise InvalidInput("api_base", "must be written in ASCII, without spaces")
    try:
        parts = urlsplit(url)
        is_port = parts.port is None or parts.port > 0
    except ValueError as error:
        raise InvalidInput("api_base", "is no URL") from error
    if not is_port:
        raise InvalidInput("api_base", "has no such port")
    return parts


def _check_binding(deployment: Deployment, api_key: str | None) -> None:
    kept = deployment.credential
    if kept is not None and not api_key and kept.host != vault.host_of(deployment.api_base):
        raise InvalidInput("api_key", f"was saved for {kept.host}; give it again for the new host")


def _new_credential(deployment: Deployment, api_key: str) -> Credential:
    api_key = _on_one_line(api_key)
    if len(api_key) > SECRET_LENGTH_MAX or not api_key.isprintable():
        raise InvalidInput("api_key", f"must be printable, {SECRET_LENGTH_MAX} characters at most")
    return Credential.objects.create(
        organization=deployment.organization,
        name=f"{deployment.provider}/{deployment.model_name}"[:255],
        host=vault.host_of(deployment.api_base),
        secret=vault.seal(api_key),
    )


def _on_one_line(api_key: str) -> str:
    """Return keys that are JSON, as of service accounts, without their line breaks."""
    if not api_key.lstrip().startswith("{"):
        return api_key
    try:
        return orjson.dumps(orjson.loads(api_key)).decode()
    except orjson.JSONDecodeError as error:
        raise InvalidInput("api_key", "begins as JSON and is none") from error
