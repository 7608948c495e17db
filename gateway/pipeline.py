"""
The life of one request. Read this file first: every other file in ``gateway`` serves it.

Authenticate, parse (routes/), choose a deployment (choosing.py), RESERVE (admission.py), forward,
price, SETTLE (attempt.py), and again where another may do better (attempts.py): in this order, on
every way out. An answer that is kept (caching/) is reserved and settled as well, and not forwarded.
Both doors (lane.py, views.py) run :func:`serve` and hold no logic of their own.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import orjson

from budgets import failpoints
from budgets.errors import StoreUnavailable
from budgets.snapshots import KeySnapshot
from gateway import error_shapes, identity, metrics, refusals, reply_headers
from gateway.applicants import Applicant
from gateway.attempts import Attempts
from gateway.caching import hits
from gateway.caching.controls import controls_of
from gateway.caching.slots import slot_for
from gateway.errors import GatewayError, InternalError
from gateway.ids import new_request_id
from gateway.metrics import Flight
from gateway.process import GatewayProcess
from gateway.reply import Reply
from gateway.routes.route import Route

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inbound:
    """What a door hands in; names of headers are lower case."""

    route: Route
    headers: Mapping[str, str]
    body: bytes
    model: str | None = None
    """As the path names it; a body that names none is taken to mean it."""


async def serve(inbound: Inbound, *, process: GatewayProcess) -> Reply:
    """Answer an inference request; whatever goes wrong is an answer too."""
    flight = Flight(route=inbound.route.path, deployed=process.catalogues.deployed)
    try:
        reply = await _answer(inbound, flight, process)
    except asyncio.CancelledError:
        flight.left()
        raise
    flight.replied()
    if reply.stream is None:
        flight.ended(status=reply.status)
    else:
        reply.stream.when_settled = flight.stream_ended
    return reply


def refused(
    error: GatewayError, *, route: Route | None = None, request_id: str | None = None
) -> Reply:
    """Return the answer to a request that is not served, as the route's clients read errors."""
    metrics.refused(error)
    request_id = request_id or new_request_id()
    headers = {"content-type": "application/json"} | reply_headers.of_request(request_id)
    body = error_shapes.body(error, request_id=request_id, route=route)
    return Reply(error.http_status, headers | error.headers(), body)


async def _answer(inbound: Inbound, flight: Flight, process: GatewayProcess) -> Reply:
    request_id = new_request_id()
    try:
        return await _serve(inbound, request_id, flight, process)
    except StoreUnavailable as store_error:
        error: GatewayError = refusals.of_store(store_error)
    except GatewayError as gateway_error:
        error = gateway_error
    except Exception:  # the outermost edge: logged, and answered in the one shape
        log.exception("request_failed", extra={"request_id": request_id})
        error = InternalError("Something broke on our side.")
    flight.failed(error)
    return refused(error, route=inbound.route, request_id=request_id)


async def _serve(
    inbound: Inbound, request_id: str, flight: Flight, process: GatewayProcess
) -> Reply:
    await process.wait_to_admit()
    secret = identity.secret_of(inbound.headers)
    snapshot = await process.identities.identify(secret)
    failpoints.hit(failpoints.AFTER_AUTH)
    asked = inbound.route.parse(_body(inbound), headers=inbound.headers)
    flight.parsed(model=asked.model)
    controls = controls_of(asked, inbound.headers)
    applicant = Applicant(asked, inbound.route, secret, request_id, _passed_on(inbound))
    if process.cache is None:
        return await Attempts(applicant, snapshot=snapshot, process=process, flight=flight).run()
    slot = slot_for(
        asked, route=inbound.route, passed_on=applicant.passed_on, controls=controls,
        organization_id=snapshot.organization_id, body_bytes=len(inbound.body),
    )  # fmt: skip
    return await _serve_again_or_anew(replace(applicant, slot=slot), snapshot, flight, process)


async def _serve_again_or_anew(
    applicant: Applicant, snapshot: KeySnapshot, flight: Flight, process: GatewayProcess
) -> Reply:
    """Return an answer that the response cache has kept, else a new one, which may be kept."""
    looked_up = hits.is_looked_up(applicant)
    if looked_up:
        kept = await hits.answer(applicant, snapshot=snapshot, process=process, flight=flight)
        if kept is not None:
            return kept
    reply = await Attempts(applicant, snapshot=snapshot, process=process, flight=flight).run()
    reply.headers["x-costplatform-cache"] = hits.MISS if looked_up else hits.OFF
    return reply


def _passed_on(inbound: Inbound) -> dict[str, str]:
    """Return the headers of the client that the upstream must see."""
    sent = inbound.headers
    return {name: sent[name] for name in inbound.route.passes_on if name in sent}


def _body(inbound: Inbound) -> bytes:
    """Return the body, with the model that the path names where it names none itself."""
    if inbound.model is None:
        return inbound.body
    try:
        fields = orjson.loads(inbound.body)
    except orjson.JSONDecodeError:
        return inbound.body
    if not isinstance(fields, dict) or fields.get("model"):
        return inbound.body
    return orjson.dumps(fields | {"model": inbound.model})
