"""
A batch begins: reserve the most that its lines can cost, keep its row, ask its provider.

Whatever the provider says or does not say, the reservation ends: at nothing where it has no batch,
at what it holds where nobody knows, and when the batch has ended where it has one (settling.py).
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import orjson
from django.db import Error as DatabaseError

from budgets import failpoints
from budgets.errors import StoreUnavailable
from gateway import admission, refusals, reply_headers
from gateway.admission import Admitted
from gateway.applicants import Applicant
from gateway.batches import files, services, upstreams
from gateway.batches.files import Caller
from gateway.batches.lines import ROUTES
from gateway.batches.routes import route_of
from gateway.batches.upstreams import Address, Answer
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    Unavailable,
    UnsupportedParameter,
    UpstreamFailed,
)
from gateway.ids import new_request_id
from gateway.models import BatchState, GatewayBatch, GatewayFile, Purpose
from gateway.process import GatewayProcess
from gateway.providers.provider import BATCHES
from gateway.reply import Reply
from gateway.routes import fields as read
from gateway.routes.asked import JSON, Asked, Together
from gateway.routes.fields import Headers
from gateway.routing.health import Failure, failure_of
from gateway.upstream import UpstreamBroke, UpstreamNotReached
from spend import events
from spend.events import Outcome

log = logging.getLogger(__name__)

WINDOW: Final = "24h"
METADATA_MAX: Final = 16
METADATA_NAME_MAX, METADATA_TEXT_MAX = 64, 512
ID_MAX: Final = 64
# With an expiry of its own the output could be gone before what it cost is read out of it.
_REFUSED: Final = ("output_expires_after",)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A batch as it is asked for."""

    fields: Mapping[str, Any]
    input_file_id: str
    endpoint: str
    end_user: str
    tags: tuple[str, ...]


def parse(body: bytes, *, headers: Headers) -> Wanted:
    """
    Read a request for a batch.

    :raises InvalidRequest: naming the parameter that does not fit
    :raises UnsupportedParameter: naming the one that no batch may have here
    """
    fields = read.of_body(body)
    for name in _REFUSED:
        if fields.get(name) is not None:
            raise UnsupportedParameter(f"{name} is not supported here.", param=name)
    file_id, endpoint = (read.text(fields, name) for name in ("input_file_id", "endpoint"))
    if len(file_id) > ID_MAX or not read.fits(file_id):
        raise InvalidRequest("input_file_id must be the id of a file.", param="input_file_id")
    if endpoint not in ROUTES:
        raise InvalidRequest(f"endpoint must be one of {', '.join(ROUTES)}.", param="endpoint")
    if fields.get("completion_window") != WINDOW:
        raise InvalidRequest(f"completion_window must be {WINDOW}.", param="completion_window")
    end_user, tags = read.end_user(fields, headers), read.tags(fields, headers)
    _check_metadata(read.without_our_own(fields).get("metadata"))
    return Wanted(fields, file_id, endpoint, end_user, tags)


def applicant_for(wanted: Wanted, file: GatewayFile, caller: Caller) -> Applicant:
    """
    Return who asks for what.

    :raises InvalidRequest: if the file is no input of such a batch
    """
    if file.purpose != Purpose.BATCH:
        raise InvalidRequest("This file is the output of a batch.", param="input_file_id")
    if file.endpoint != wanted.endpoint:
        raise InvalidRequest(f"The lines of this file are for {file.endpoint}.", param="endpoint")
    if wanted.end_user and file.end_user not in {"", wanted.end_user}:
        raise InvalidRequest("The lines of this file are for another end user.", param="user")
    asked = Asked(
        fields={**wanted.fields, "input_file_id": file.upstream_id},
        model=file.model,
        batch=Together(**file.together),
        end_user=wanted.end_user or file.end_user,
        tags=tuple(dict.fromkeys([*wanted.tags, *file.tags])),
    )
    return Applicant(
        asked,
        route_of(ROUTES[wanted.endpoint]),
        caller.secret,
        request_id=new_request_id(),
        deployment=file.deployment.public_id if file.deployment else "-",
    )


async def create(
    applicant: Applicant, file: GatewayFile, *, caller: Caller, process: GatewayProcess
) -> Reply:
    """
    Admit a batch and ask its provider for it; return what the provider says, with our ids.

    :raises GatewayError: why there is none, in words for the caller
    """
    address = files.address_of(file)
    await process.wait_to_admit()
    try:
        admitted = await admission.admit(applicant, snapshot=caller.snapshot, process=process)
    except StoreUnavailable as error:
        raise refusals.of_store(error) from error
    beginning = _Beginning(applicant, admitted, address, process)
    # Whoever asked may go away now; what was begun is brought to an end.
    reply: Reply = await asyncio.shield(process.spawn(beginning.run(file, caller)))
    return reply


class _Beginning:
    """One admitted batch until its provider has answered."""

    def __init__(
        self, applicant: Applicant, admitted: Admitted, address: Address, process: GatewayProcess
    ) -> None:
        self._applicant = applicant
        self._admitted = admitted
        self._address = address
        self._process = process

    async def run(self, file: GatewayFile, caller: Caller) -> Reply:
        try:
            batch = await self._keep(file, caller)
            answer = await self._ask(batch)
        finally:
            self._admitted.trial.ended()
        if answer.is_error:
            return await self._pass_error(batch, answer)
        return await self._open(batch, answer)

    async def _keep(self, file: GatewayFile, caller: Caller) -> GatewayBatch:
        try:
            return await self._process.database.run(
                services.begin_batch,
                admitted=self._admitted,
                file=file,
                snapshot=caller.snapshot,
                now=_now(),
            )
        except DatabaseError as error:
            await self._release()
            raise Unavailable(
                "Batches cannot be kept right now.", code="ledger_unavailable"
            ) from error

    async def _ask(self, batch: GatewayBatch) -> Answer:
        failpoints.hit(failpoints.BEFORE_SEND)
        body = orjson.dumps(read.without_our_own(self._applicant.asked.fields))
        try:
            answer = await upstreams.ask(
                self._process.upstream, self._address, "POST", (BATCHES,), body=body
            )
        except UpstreamNotReached as error:
            self._failed(Failure.UNREACHABLE)
            await self._release()
            await self._end(batch, BatchState.REFUSED, "The provider was not reached.")
            raise upstreams.failure(error) from error
        except UpstreamBroke as error:
            self._failed(Failure.TIMEOUT if error.timed_out else Failure.BROKEN)
            raise await self._lost(batch, upstreams.failure(error)) from error
        failpoints.hit(failpoints.AFTER_HEADERS)
        return answer

    async def _open(self, batch: GatewayBatch, answer: Answer) -> Reply:
        told, upstream_id = answer.json(), upstreams.id_in(answer.json())
        if not upstream_id:
            raise await self._lost(batch, UpstreamFailed("The provider's answer is no batch."))
        try:
            ours = await self._process.database.run(
                services.opened, batch=batch, answer=told, upstream_id=upstream_id
            )
        except DatabaseError as error:
            # Its reservation is charged when its time is over; who operates this can look for it.
            log.exception(
                "batch_not_kept", extra={"batch": batch.public_id, "upstream_id": upstream_id}
            )
            raise Unavailable(
                "Batches cannot be kept right now.", code="ledger_unavailable"
            ) from error
        self._admitted.trial.succeeded(time.monotonic(), seconds=0, output_tokens=0)
        headers = {"content-type": JSON} | reply_headers.of_admission(self._admitted)
        return Reply(200, headers, orjson.dumps(ours))

    async def _pass_error(self, batch: GatewayBatch, answer: Answer) -> Reply:
        """A provider does not bill what it refuses: settle 0, and hand its words on."""
        if (failure := failure_of(answer.status)) is not None:
            self._failed(failure)
        outcome = self._outcome(status=answer.status, cost=Decimal(0))
        await self._settle(outcome)
        await self._end(batch, BatchState.REFUSED, f"The provider answered {answer.status}.")
        if answer.status < upstreams.ERROR_STATUS_MIN:
            raise UpstreamFailed("The provider answered with a redirect.")
        headers = dict(answer.headers) | reply_headers.of_cost(self._admitted, outcome)
        ours = {batch.input_file.upstream_id: batch.input_file.public_id}
        return Reply(answer.status, headers, with_our_ids(answer.body, ours))

    async def _lost(self, batch: GatewayBatch, error: GatewayError) -> GatewayError:
        """It was asked for, and may be there: what it holds is charged."""
        outcome = self._outcome(status=0, cost=self._admitted.held, estimated=True)
        await self._settle(outcome)
        await self._end(batch, BatchState.UNKNOWN, error.message)
        return error

    def _outcome(self, *, status: int, cost: Decimal, estimated: bool = False) -> Outcome:
        flags = {events.UPSTREAM_ERROR, *self._admitted.offer.flags}
        flags |= {events.ESTIMATED} if estimated else set()
        flags |= {events.UNCHECKED} if self._admitted.unasked else set()
        return Outcome(
            status=status, cost=cost, usage={}, flags=tuple(sorted(flags)), settled_at=_now()
        )

    async def _settle(self, outcome: Outcome) -> None:
        event = self._admitted.event(outcome)
        if self._admitted.unasked:
            self._process.store.settle_later(event)
        else:
            await self._process.store.settle(event)

    async def _release(self) -> None:
        event = self._admitted.event(self._outcome(status=0, cost=Decimal(0)))
        await self._process.store.release(self._admitted.id, otherwise=event)

    async def _end(self, batch: GatewayBatch, state: BatchState, problem: str) -> None:
        """Note it in the row; where that cannot be, the row stays as it is, and told of later."""
        try:
            await self._process.database.run(
                services.not_opened, batch=batch, state=state, problem=problem
            )
        except DatabaseError:
            log.exception("batch_end_not_noted", extra={"batch": batch.public_id})

    def _failed(self, failure: Failure) -> None:
        self._admitted.trial.failed(time.monotonic(), failure)


def with_our_ids(body: bytes, ours: Mapping[str, str]) -> bytes:
    """Return a provider's words with our ids in place of those of its own that we know."""
    for theirs, our_id in ours.items():
        if theirs:
            body = body.replace(theirs.encode(), our_id.encode())
    return body


def _check_metadata(metadata: object) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or len(metadata) > METADATA_MAX:
        raise InvalidRequest(f"metadata may have {METADATA_MAX} pairs at most.", param="metadata")
    for name, text in metadata.items():
        if not isinstance(text, str) or len(text) > METADATA_TEXT_MAX:
            problem = f"{name[:METADATA_NAME_MAX]} must be text of at most {METADATA_TEXT_MAX}"
            raise InvalidRequest(f"metadata.{problem} characters.", param="metadata")
        if len(name) > METADATA_NAME_MAX:
            raise InvalidRequest("A name in metadata is too long.", param="metadata")


def _now() -> datetime:
    return datetime.now(UTC)
