"""Reads the fields of a request, and tells which one does not fit."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from budgets.models import END_USER_BYTES_MAX, TAG_BYTES_MAX, TAGS_PER_REQUEST_MAX
from gateway.errors import InvalidRequest, UnsupportedParameter

TOKENS_ASKED_MAX: Final = 10**9
MODEL_NAME_MAX: Final = 255
SERVICE_TIER_MAX: Final = 24
_END_USER_ORDER: Final = (
    "x-costplatform-end-user", "x-litellm-customer-id", "x-litellm-end-user-id",
)  # fmt: skip
END_USER_HEADERS: Final = frozenset(_END_USER_ORDER)
_NAMED_IN: Final = frozenset({"user", "metadata", "safety_identifier"})
TAG_HEADERS: Final = ("x-costplatform-tags", "x-litellm-tags")
_TAGGED: Final = frozenset(TAG_HEADERS)
# With these a provider serves another model than the one that was asked for and priced, or
# answers at another time.
_REFUSED: Final = frozenset({"models", "route", "fallbacks", "deferred", "background"})

Headers = Mapping[str, str]


def of_body(body: bytes) -> dict[str, Any]:
    """
    Return the fields of a JSON body that may be served at all.

    :raises InvalidRequest: if it is no object
    :raises UnsupportedParameter: if another model could answer, or at another time
    """
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The body is not valid JSON.") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.")
    check_refused(fields)
    return fields


def check_refused(fields: Mapping[str, Any]) -> None:
    """
    Return if no field has another model answer, or this one at another time.

    :raises UnsupportedParameter: naming it
    """
    if _REFUSED.isdisjoint(fields):
        return
    for name in sorted(_REFUSED):
        if fields.get(name):
            raise UnsupportedParameter(f"{name} is not supported here.", param=name)


def model_of(fields: Mapping[str, Any]) -> str:
    """
    Return the name of the model that is asked for.

    :raises InvalidRequest: if it is none
    """
    model = fields.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= MODEL_NAME_MAX or not fits(model):
        raise InvalidRequest("model must be the name of a model.", param="model")
    return model


def typed(fields: Mapping[str, Any], name: str, kind: type) -> Any:
    """
    Return a field, None where it is null or missing.

    :raises InvalidRequest: if it is of another type
    """
    value = fields.get(name)
    if value is not None and not isinstance(value, kind):
        raise InvalidRequest(f"{name} has the wrong type.", param=name)
    return value


def whole(fields: Mapping[str, Any], name: str, *, at_least: int, at_most: int) -> int | None:
    """
    Return a field that is a whole number, None where it is null or missing.

    :raises InvalidRequest: if it is none in these bounds
    """
    value = typed(fields, name, int)
    if value is None:
        return None
    if isinstance(value, bool) or not at_least <= value <= at_most:
        raise InvalidRequest(
            f"{name} must be a whole number from {at_least} to {at_most}.", param=name
        )
    return int(value)


def tokens(fields: Mapping[str, Any], *names: str) -> int | None:
    """
    Return the largest of several limits on tokens: providers differ on which one they obey.

    :raises InvalidRequest: naming the one that is none
    """
    asked = [whole(fields, name, at_least=1, at_most=TOKENS_ASKED_MAX) for name in names]
    given = [number for number in asked if number is not None]
    return max(given) if given else None


def text(fields: Mapping[str, Any], name: str) -> str:
    """
    Return a field that must be text.

    :raises InvalidRequest: if it is none, or empty
    """
    value = typed(fields, name, str)
    if not value:
        raise InvalidRequest(f"{name} must be text that is not empty.", param=name)
    return str(value)


def filled_list(fields: Mapping[str, Any], name: str) -> list[Any]:
    """
    Return a field that must be a list.

    :raises InvalidRequest: if it is none, or empty
    """
    value = fields.get(name)
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"{name} must be a list that is not empty.", param=name)
    return value


def service_tier(fields: Mapping[str, Any]) -> str | None:
    """
    Return the service tier that is asked for.

    :raises InvalidRequest: if it is no text, or too long
    """
    tier: str | None = typed(fields, "service_tier", str)
    if tier is not None and len(tier) > SERVICE_TIER_MAX:
        raise InvalidRequest(
            f"service_tier must be text of at most {SERVICE_TIER_MAX} characters.",
            param="service_tier",
        )
    return tier


def is_of(kind: object, kinds: frozenset[str]) -> bool:
    return isinstance(kind, str) and kind in kinds


def end_user(fields: Mapping[str, Any], headers: Headers) -> str:
    """
    Return whom the request is for: by a header, else by the fields that clients use for it.

    :raises InvalidRequest: if that is no text of a bounded length
    """
    if _NAMED_IN.isdisjoint(fields) and END_USER_HEADERS.isdisjoint(headers):
        return ""
    metadata = typed(fields, "metadata", dict) or {}
    named: Iterable[tuple[str, object]] = (
        *((name, headers.get(name)) for name in _END_USER_ORDER),
        ("user", fields.get("user")),
        ("metadata.user_id", metadata.get("user_id")),
        ("safety_identifier", fields.get("safety_identifier")),
    )
    for name, value in named:
        if not value:
            continue
        if not isinstance(value, str) or not fits(value, END_USER_BYTES_MAX):
            problem = f"{name} must be text of at most {END_USER_BYTES_MAX} bytes."
            raise InvalidRequest(problem, param=name)
        return value
    return ""


def tags(fields: Mapping[str, Any], headers: Headers) -> tuple[str, ...]:
    """
    Return what the request is tagged with, in its metadata and by headers.

    :raises InvalidRequest: if there are too many, or one is no text of a bounded length
    """
    if "metadata" not in fields and _TAGGED.isdisjoint(headers):
        return ()
    named = (fields.get("metadata") or {}).get("tags") or []
    if not isinstance(named, list) or not all(isinstance(tag, str) for tag in named):
        raise InvalidRequest("metadata.tags must be a list of text.", param="metadata.tags")
    listed = [part.strip() for name in TAG_HEADERS for part in headers.get(name, "").split(",")]
    found = tuple(dict.fromkeys([*named, *(tag for tag in listed if tag)]))
    if len(found) > TAGS_PER_REQUEST_MAX:
        raise InvalidRequest(f"At most {TAGS_PER_REQUEST_MAX} tags.", param="metadata.tags")
    for tag in found:
        if not tag or not fits(tag, TAG_BYTES_MAX):
            raise InvalidRequest(
                f"Each tag must be text of at most {TAG_BYTES_MAX} bytes.", param="metadata.tags"
            )
    return found


def fits(value: str, bytes_max: int | None = None) -> bool:
    """Return whether Postgres can keep it: no NUL, and a lone surrogate has no bytes."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return False
    return "\x00" not in value and (bytes_max is None or size <= bytes_max)


def as_json(fields: Mapping[str, Any]) -> bytes:
    """
    Return fields as they are sent on.

    :raises InvalidRequest: if they are nested deeper than JSON can be written here
    """
    try:
        return orjson.dumps(fields)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest("The body is nested too deeply.") from error


def without_our_own(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is sent on: without what was meant for us."""
    kept = dict(fields)
    kept.pop("cache", None)  # the response cache's, whether there is one or not
    metadata = kept.get("metadata")
    if isinstance(metadata, dict) and "tags" in metadata:
        kept["metadata"] = {name: value for name, value in metadata.items() if name != "tags"}
        if not kept["metadata"]:
            del kept["metadata"]
    return kept
