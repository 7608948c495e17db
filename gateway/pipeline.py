"""
The life of one request. Read this file first: every other file in ``gateway`` serves it.

Authenticate, parse, choose a deployment, RESERVE (admission.py), forward, price, SETTLE
(attempt.py): in this order, on every way out. Both doors (lane.py, views.py) run :func:`serve`
and hold no logic of their own.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from budgets import failpoints
from budgets.errors import StoreUnavailable
from gateway import admission, chat, identity, metrics, refusals, reply_headers
from gateway.admission import Applicant
from gateway.attempt import Attempt, Reply
from gateway.errors import GatewayError, InternalError
from gateway.ids import new_request_id
from gateway.metrics import Flight
from gateway.process import GatewayProcess

log = logging.getLogger(__name__)

CHAT_COMPLETIONS = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Inbound:
    """What a door hands in; names of headers are lower case."""

    route: str
    headers: Mapping[str, str]
    body: bytes


async def serve(inbound: Inbound, *, process: GatewayProcess) -> Reply:
    """Answer a chat completion request; whatever goes wrong is an answer too."""
    flight = Flight(route=inbound.route, deployed=process.catalogues.deployed)
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


def refused(error: GatewayError, *, request_id: str | None = None) -> Reply:
    """Return the answer to a request that is not served."""
    metrics.refused(error)
    request_id = request_id or new_request_id()
    headers = {"content-type": "application/json"} | reply_headers.of_request(request_id)
    return Reply(error.http_status, headers | error.headers(), error.body(request_id=request_id))


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
    return refused(error, request_id=request_id)


async def _serve(
    inbound: Inbound, request_id: str, flight: Flight, process: GatewayProcess
) -> Reply:
    await process.wait_to_admit()
    secret = identity.secret_of(inbound.headers)
    snapshot = await process.identities.identify(secret)
    failpoints.hit(failpoints.AFTER_AUTH)
    asked = chat.parse(inbound.body, headers=inbound.headers)
    flight.parsed(model=asked.model)
    admitted = await admission.admit(
        Applicant(asked, secret, request_id, inbound.route), snapshot=snapshot, process=process
    )
    flight.admitted()
    return await Attempt(asked=asked, admitted=admitted, process=process).run()
