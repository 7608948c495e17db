"""The headers that tell what a request cost and what is left; LiteLLM's names beside ours."""

from collections.abc import Mapping, Sequence
from typing import Final

from budgets import money
from budgets.contexts import Limit, LimitKind
from budgets.models import AccountKind
from budgets.reservations import Standing
from gateway.admission import Held
from gateway.refusals import WINDOW_SECONDS
from spend.events import Outcome

_RATE_HEADERS: Final = {
    LimitKind.REQUESTS: (
        "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    ),
    LimitKind.TOKENS: (
        "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
    ),
}  # fmt: skip


def of_request(request_id: str) -> dict[str, str]:
    return {"x-request-id": request_id, "x-litellm-call-id": request_id}


def of_attempts(made: int, *, fallback: str | None) -> dict[str, str]:
    """Return how many attempts there were, and why another model answered, if one did."""
    headers = {
        "x-costplatform-attempts": str(made),
        "x-litellm-attempted-retries": str(max(made - 1, 0)),
        "x-litellm-attempted-fallbacks": str(int(fallback is not None)),
    }
    return headers if fallback is None else headers | {"x-costplatform-fallback": fallback}


def of_admission(admitted: Held) -> dict[str, str]:
    """Return the headers of a stream: it has only begun, so its ceiling still counts as held."""
    return _common(admitted) | _remaining(admitted, settled=None)


def of_cost(admitted: Held, outcome: Outcome) -> dict[str, str]:
    """Return the headers of a whole answer."""
    settled = admitted.offer.units_of(outcome.cost)
    cost = money.plain(outcome.cost)
    return (
        _common(admitted)
        | {
            "x-costplatform-cost": cost,
            "x-costplatform-currency": admitted.offer.price.currency,
            "x-litellm-response-cost": cost,
        }
        | _remaining(admitted, settled=settled)
    )


def _common(admitted: Held) -> dict[str, str]:
    target = admitted.offer.target
    return of_request(admitted.request_id) | {
        "x-costplatform-deployment": _ascii(target.public_id),
        "x-costplatform-chosen-by": admitted.why,
        "x-litellm-model-id": _ascii(target.public_id),
        "x-litellm-model-group": _ascii(target.model_name),
    }


def _remaining(admitted: Held, *, settled: int | None) -> dict[str, str]:
    """Return what the tightest limits of the path have left, and the key's own spend."""
    context, standings = admitted.context, admitted.admission.standings
    if not standings:
        return _soft(admitted)
    currency, told = context.currency, context.told
    headers: dict[str, str] = {}
    lefts: list[tuple[int, int, Limit]] = []
    for place, limit in told[LimitKind.MONEY]:
        standing = standings[place]
        freed = 0 if settled is None else admitted.held_in(limit) - settled
        lefts.append((limit.limit - standing.used - standing.reserved + freed, place, limit))
        if limit.account.kind == AccountKind.KEY:
            headers["x-litellm-key-spend"] = _text(standing.used + (settled or 0), currency)
            headers["x-litellm-key-max-budget"] = _text(limit.limit, currency)
    if lefts:
        left, _, tightest = min(lefts)
        headers["x-costplatform-remaining"] = _text(left, currency)
        headers["x-costplatform-remaining-account"] = tightest.account.kind
    return headers | _rates(told, standings) | _soft(admitted)


def _rates(
    told: Mapping[LimitKind, Sequence[tuple[int, Limit]]], standings: Sequence[Standing]
) -> dict[str, str]:
    """Return OpenAI's headers on rates: those of the tightest limit of either kind."""
    headers: dict[str, str] = {}
    for kind, (name_limit, name_remaining, name_reset) in _RATE_HEADERS.items():
        limits = told[kind]
        if limits:
            remaining, limit = min(
                (max(each.limit - standings[place].used, 0), each.limit) for place, each in limits
            )
            headers[name_limit], headers[name_remaining] = str(limit), str(remaining)
            # The window slides: this request is in it for as long as it is.
            headers[name_reset] = f"{WINDOW_SECONDS}s"
    return headers


def _soft(admitted: Held) -> dict[str, str]:
    if not admitted.admission.observed:
        return {}
    limits = [admitted.context.limits[index] for index in admitted.admission.observed]
    kinds = [each.account.kind for each in limits if each.kind == LimitKind.SOFT]
    return {"x-costplatform-soft-budget-exceeded": ",".join(kinds)} if kinds else {}


def _text(units: int, currency: str) -> str:
    return money.plain_units(units, currency=currency)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode().replace("\r", " ").replace("\n", " ")
