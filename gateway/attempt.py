"""
One admitted request at one deployment: forward it, meter the answer, settle, on every way out.

The exchange with the upstream runs in a task of its own, so that a client that goes away does not
take the bill with it: the answer is drained for a while, then settled by what was seen of it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.conf import settings

from budgets import failpoints, money
from gateway import sse, vault
from gateway.admission import Admitted
from gateway.chat import ChatRequest
from gateway.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from gateway.metering import Meter
from gateway.process import GatewayProcess
from gateway.reply_headers import of_admission, of_cost
from gateway.upstream import Response, UpstreamBroke, UpstreamNotReached
from spend import events
from spend.events import Outcome

log = logging.getLogger(__name__)

ERROR_STATUS_MIN = 400
REDIRECT_STATUS_MIN = 300
UNREAD_SECONDS_MAX = 120.0
"""A client that has not taken the next piece for so long counts as gone."""


@dataclass(slots=True)
class Reply:
    """What a door sends: a body, or a stream that must be closed if it is not read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    stream: "Relay | None" = field(default=None)


class Attempt:
    def __init__(self, *, asked: ChatRequest, admitted: Admitted, process: GatewayProcess) -> None:
        offer = admitted.offer
        self._asked = asked
        self._admitted = admitted
        self._process = process
        self.meter = Meter(
            price=offer.price,
            ceiling=offer.ceiling,
            model=offer.target.upstream_model,
            prompt=asked.fields,
            prompt_bytes=len(offer.body),
            region=offer.target.region,
            asked_tier=asked.service_tier,
        )
        if admitted.unasked:
            self.meter.flags.add(events.UNCHECKED)
        if offer.rate.is_stale:
            self.meter.flags.add(events.RATE_STALE)

    async def run(self) -> Reply:
        """
        Forward the request and return its answer, or the head of its stream.

        :raises GatewayError: if the upstream gave none
        """
        exchange = self._process.spawn(self._exchange())
        try:
            reply: Reply = await asyncio.shield(exchange)
        except asyncio.CancelledError:
            self._process.spawn(self._abandon(exchange))
            raise
        return reply

    async def settle_metered(self) -> Outcome:
        """Settle what the meter tells, whoever goes away meanwhile; return what was settled."""
        if self.meter.must_count:
            counted: Outcome = await asyncio.shield(self._process.spawn(self._count_and_settle()))
            return counted
        return await self.settle(self.meter.outcome(settled_at=_now()))

    async def _count_and_settle(self) -> Outcome:
        settled_at = _now()
        await self.meter.count()
        return await self.settle(self.meter.outcome(settled_at=settled_at))

    async def settle(self, outcome: Outcome) -> Outcome:
        """Settle in full, also what is above the ceiling; return what was settled."""
        try:
            event = self._admitted.event(outcome)
        except money.AmountTooLarge:
            outcome = self._at_ceiling(outcome)
            event = self._admitted.event(outcome)
        if self._admitted.unasked:
            self._process.store.settle_later(event)
        else:
            await asyncio.shield(self._process.spawn(self._process.store.settle(event)))
        return outcome

    async def _exchange(self) -> Reply:
        failpoints.hit(failpoints.BEFORE_SEND)
        try:
            response = await self._post()
        except UpstreamNotReached as error:
            await self._release()
            log.warning("upstream_not_reached", extra={"deployment": self._deployment})
            raise UpstreamFailed(f"{self._asked.model!r} cannot be reached.") from error
        except UpstreamBroke as error:
            await self._settle_broken()
            raise _failure(error, self._asked.model) from error
        except asyncio.CancelledError:
            await self._settle_broken()
            raise
        failpoints.hit(failpoints.AFTER_HEADERS)
        self.meter.status = response.status
        if response.status >= REDIRECT_STATUS_MIN:
            return await self._pass_error(response)
        if self._asked.stream and response.is_stream:
            headers = response.headers | of_admission(self._admitted)
            return Reply(200, headers, stream=Relay(self, response, self._asked, self._process))
        return await self._pass_reply(response)

    async def _post(self) -> Response:
        offer = self._admitted.offer
        return await self._process.upstream.post(
            f"{offer.target.api_base}/chat/completions",
            body=offer.body,
            headers=self._headers(),
        )

    def _headers(self) -> dict[str, str]:
        target = self._admitted.offer.target
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream" if self._asked.stream else "application/json",
            "accept-encoding": "identity",
            "user-agent": "costplatform",
            "x-request-id": self._admitted.request_id,
        }
        if target.sealed_secret is not None:
            try:
                secret = vault.unseal(
                    target.sealed_secret, bound_to=target.secret_host, api_base=target.api_base
                )
            except vault.CredentialError as error:
                raise UpstreamNotReached(str(error)) from error
            headers["authorization"] = f"Bearer {secret}"
        return headers

    async def _pass_reply(self, response: Response) -> Reply:
        try:
            body = await response.read(bytes_max=settings.GATEWAY_REPLY_BYTES_MAX)
        except UpstreamBroke as error:
            await self._settle_broken()
            raise _failure(error, self._asked.model) from error
        except asyncio.CancelledError:
            await self._settle_broken()
            raise
        finally:
            response.close()
        failpoints.hit(failpoints.AFTER_LAST_CHUNK)
        self.meter.read_reply(body)
        outcome = await self.settle_metered()
        return Reply(response.status, response.headers | of_cost(self._admitted, outcome), body)

    async def _pass_error(self, response: Response) -> Reply:
        """A provider does not bill what it refuses: settle 0, and hand its words on."""
        try:
            body = await response.read(bytes_max=settings.GATEWAY_REPLY_BYTES_MAX)
        except UpstreamBroke:
            body = b""
        finally:
            response.close()
            flags = (events.UPSTREAM_ERROR,)
            outcome = await self.settle(self.meter.nothing(settled_at=_now(), flags=flags))
        if response.status < ERROR_STATUS_MIN:
            raise UpstreamFailed(f"{self._asked.model!r} answered with a redirect.")
        return Reply(response.status, response.headers | of_cost(self._admitted, outcome), body)

    async def _settle_broken(self) -> None:
        """It was sent, and may have been billed in full."""
        self.meter.flags.add(events.UPSTREAM_ERROR)
        unseen = self.meter.unseen(held=self._admitted.held, settled_at=_now())
        settled = self._process.spawn(self.settle(unseen))
        await asyncio.shield(settled)

    async def _release(self) -> None:
        nothing = self.meter.nothing(settled_at=_now(), flags=(events.UPSTREAM_ERROR,))
        event = self._admitted.event(nothing)
        release = self._process.store.release(self._admitted.request_id, otherwise=event)
        await asyncio.shield(self._process.spawn(release))

    async def _abandon(self, exchange: "asyncio.Task[Reply]") -> None:
        """The client has gone: wait a while for the answer's usage, then cancel the upstream."""
        self.meter.flags.add(events.CLIENT_CLOSED)
        await asyncio.wait({exchange}, timeout=settings.GATEWAY_ABORT_DRAIN_SECONDS)
        if not exchange.done():
            exchange.cancel()
        try:
            reply = await exchange
        except (asyncio.CancelledError, GatewayError):
            return
        if reply.stream is not None:
            await reply.stream.aclose()

    def _at_ceiling(self, outcome: Outcome) -> Outcome:
        """An amount beyond 64 bits is nonsense from the upstream: settle what was held."""
        log.error("cost_too_large", extra={"request_id": self._admitted.request_id})
        flags = {*outcome.flags, events.OVER_CEILING, events.USAGE_CLAMPED}
        return Outcome(
            status=outcome.status, cost=self._admitted.offer.ceiling, usage={},
            flags=tuple(sorted(flags)), settled_at=outcome.settled_at,
        )  # fmt: skip

    @property
    def model(self) -> str:
        return self._asked.model

    @property
    def request_id(self) -> str:
        return self._admitted.request_id

    @property
    def _deployment(self) -> str:
        return self._admitted.offer.target.public_id


class Relay:
    """
    The events of a stream, untouched, metered as they pass; at most one chunk is kept in memory.

    The spend is settled before the last event goes out, so that whoever has read the whole
    stream finds it settled.
    """

    def __init__(
        self, attempt: Attempt, response: Response, asked: ChatRequest, process: GatewayProcess
    ) -> None:
        self._attempt = attempt
        self._meter = attempt.meter
        self._response = response
        self._hides_usage = not asked.wants_usage
        self._process = process
        self._chunks = response.chunks()
        self._splitter = sse.EventSplitter()
        self._out: deque[bytes] = deque()
        self._has_ended = False
        self._is_settled = False
        self._is_closed = False
        self.when_settled: Callable[[Collection[str]], None] = lambda _: None
        self._loop = asyncio.get_running_loop()
        self._touched_at = self._loop.time()
        self._watch()

    def __aiter__(self) -> "Relay":
        return self

    async def __anext__(self) -> bytes:
        self._touched_at = self._loop.time()
        while not self._out:
            if self._has_ended:
                raise StopAsyncIteration
            await self._pull()
        piece = b"".join(self._out)
        self._out.clear()
        return piece

    async def aclose(self) -> None:
        """End the stream wherever it is; what was not read is drained for a while and settled."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self._is_settled:
            self._meter.flags.add(events.CLIENT_CLOSED)
            self._process.spawn(self._drain())
        else:
            self._response.close()

    def let_go(self) -> None:
        """Close it soon: its caller has gone, and the door may never have begun to read."""
        if not self._is_closed:
            self._process.spawn(self.aclose())

    def _watch(self) -> None:
        """Close a stream that nobody reads any more: a door may be dropped without a word."""
        if self._is_settled:
            return
        if self._loop.time() - self._touched_at > UNREAD_SECONDS_MAX:
            self._process.spawn(self.aclose())
            return
        self._loop.call_later(UNREAD_SECONDS_MAX / 4, self._watch)

    async def _pull(self) -> None:
        try:
            chunk = await anext(self._chunks, None)
            failpoints.hit(failpoints.MID_STREAM)
            self._touched_at = self._loop.time()
        except UpstreamBroke as error:
            self._meter.flags.add(events.UPSTREAM_ERROR)
            self._out.append(_error_event(error, self._attempt))
            chunk = None
        if chunk is None:
            await self._end()
        else:
            await self._take(chunk)

    async def _take(self, chunk: bytes) -> None:
        for event in self._splitter.feed(chunk):
            only_usage = self._read(event)
            if self._meter.is_done:
                await self._settle()
            if not (only_usage and self._hides_usage):
                self._out.append(event)

    async def _end(self) -> None:
        if rest := self._splitter.rest():
            self._read(rest)
            self._out.appendleft(rest)
        self._has_ended = True
        failpoints.hit(failpoints.AFTER_LAST_CHUNK)
        await self._settle()
        self._response.close()

    def _read(self, event: bytes) -> bool:
        data = sse.data_of(event)
        return self._meter.read_event(data) if data else False

    async def _settle(self) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        self.when_settled(self._meter.flags)
        await self._attempt.settle_metered()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(settings.GATEWAY_ABORT_DRAIN_SECONDS):
                async for chunk in self._response.chunks():
                    await self._take(chunk)
                    self._out.clear()
        except TimeoutError:
            # What was seen until now is what is billed, flagged as an estimate.
            await self._take(await self._response.arrived())
        except UpstreamBroke:
            pass
        finally:
            self._response.close()
            await self._settle()


def _now() -> datetime:
    return datetime.now(UTC)


def _failure(error: UpstreamBroke, model: str) -> GatewayError:
    if error.timed_out:
        return UpstreamTimeout(f"{model!r} did not answer in time.")
    return UpstreamFailed(f"{model!r} broke off its answer.")


def _error_event(error: UpstreamBroke, attempt: Attempt) -> bytes:
    """OpenAI's way to tell of an error once the stream has begun; its SDKs raise it."""
    failure = _failure(error, attempt.model)
    return b"data: " + failure.body(request_id=attempt.request_id) + b"\n\n"
