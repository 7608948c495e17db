"""The headers that tell what a request cost and what is left; LiteLLM's names beside ours."""

from budgets import money
from budgets.models import AccountKind
from gateway.admission import Admitted
from spend.events import Outcome


def of_request(request_id: str) -> dict[str, str]:
    return {"x-request-id": request_id, "x-litellm-call-id": request_id}


def of_admission(admitted: Admitted) -> dict[str, str]:
    """Return the headers of a stream: it has only begun, so its ceiling still counts as held."""
    return _common(admitted) | _remaining(admitted, settled=None)


def of_cost(admitted: Admitted, outcome: Outcome) -> dict[str, str]:
    """Return the headers of a whole answer."""
    settled = money.to_units(outcome.cost, currency=admitted.context.currency)
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


def _common(admitted: Admitted) -> dict[str, str]:
    target = admitted.offer.target
    return of_request(admitted.request_id) | {
        "x-litellm-model-id": _ascii(target.public_id),
        "x-litellm-model-group": _ascii(target.model_name),
    }


def _remaining(admitted: Admitted, *, settled: int | None) -> dict[str, str]:
    """Return what the tightest limit of the path has left, and the key's own spend."""
    currency, held = admitted.context.currency, admitted.offer.held
    freed = 0 if settled is None else held - settled
    headers: dict[str, str] = {}
    tightest: int | None = None
    for limit, standing in zip(admitted.context.limits, admitted.admission.standings, strict=False):
        left = limit.limit - standing.spent - standing.reserved + freed
        if tightest is None or left < tightest:
            tightest = left
            headers["x-costplatform-remaining"] = _text(left, currency)
            headers["x-costplatform-remaining-account"] = limit.account.kind
        if limit.account.kind == AccountKind.KEY:
            headers["x-litellm-key-spend"] = _text(standing.spent + (settled or 0), currency)
            headers["x-litellm-key-max-budget"] = _text(limit.limit, currency)
    return headers


def _text(units: int, currency: str) -> str:
    return money.plain(money.to_decimal(units, currency=currency))


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode().replace("\r", " ").replace("\n", " ")
