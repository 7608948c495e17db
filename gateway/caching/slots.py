"""
Under which key an answer is kept: requests that would be sent on alike have the same.

An organization's keys are its own. What only says for whom a request is (``user``, ``metadata``,
``safety_identifier``) is not in a key, nor whether the usage of a stream is wanted.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.caching.controls import Controls
from gateway.routes import fields as read
from gateway.routes.asked import Asked
from gateway.routes.route import Route

VERSION: Final = 1
"""Of the form of keys and of what is kept: others are never found."""
BODY_BYTES_MAX: Final = 2**20
"""Larger requests are not looked up: sorting and hashing them would hold up all others."""
_CALLERS: Final = ("user", "metadata", "safety_identifier")
# With these a provider reads what the request does not say, and may read something else next time.
_KEPT_THERE: Final = (
    "previous_response_id", "conversation", "container", "mcp_servers", "context_management",
    "data_sources", "cached_content", "plugins", "search_parameters", "extra_body",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the answer to a request is looked for, and kept."""

    key: str
    organization_id: int
    model: str
    """The name that was asked for: what another model answers is not kept."""
    controls: Controls


def slot_for(
    asked: Asked,
    *,
    route: Route,
    passed_on: Mapping[str, str],
    organization_id: int,
    controls: Controls,
    body_bytes: int,
) -> Slot | None:
    """Return where the answer is kept; None where it is neither looked for nor kept."""
    if body_bytes > BODY_BYTES_MAX or not _can_be_repeated(asked, route):
        return None
    if not (controls.reads or controls.keeps):
        return None
    head = [
        VERSION, route.name, organization_id, controls.namespace, asked.model,
        sorted(passed_on.items()),
    ]  # fmt: skip
    try:
        text = orjson.dumps([*head, _told(asked)], option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        return None  # nested too deeply to be sent on, either
    return Slot(hashlib.sha256(text).hexdigest(), organization_id, asked.model, controls)


def _can_be_repeated(asked: Asked, route: Route) -> bool:
    """Uploads are not compared, and what the provider looks up or runs may differ next time."""
    if asked.form is not None or route.is_free or asked.may_search:
        return False
    fields = asked.fields
    # A prompt that is an object is one of the provider's templates.
    is_template = isinstance(fields.get("prompt"), dict)
    return not is_template and all(fields.get(name) is None for name in _KEPT_THERE)


def _told(asked: Asked) -> dict[str, Any]:
    """Return what decides the answer: a stream is another one than a whole answer."""
    told = read.without_our_own(asked.fields)
    for name in (*_CALLERS, "model"):
        told.pop(name, None)
    if not told.get("stream"):
        told.pop("stream", None)
    if isinstance(options := told.get("stream_options"), dict):
        others = {name: value for name, value in options.items() if name != "include_usage"}
        told["stream_options"] = others
    if not told.get("stream_options"):
        told.pop("stream_options", None)
    return told
