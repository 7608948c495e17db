"""
One admitted request at one deployment: forward it, meter the answer, settle, on every way out.

The exchange with the upstream runs in a task of its own, so that a client that goes away does not
take the bill with it: the answer is drained for a while, then settled by what was seen of it.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

from django.conf import settings

from budgets import failpoints, money
from gateway import admission, error_shapes, vault
from gateway.admission import Admitted
from gateway.applicants import Applicant
from gateway.caching.recording import Recording
from gateway.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from gateway.metering import Meter
from gateway.process import GatewayProcess
from gateway.providers import CredentialRefused, Outgoing
from gateway.relay import Relay
from gateway.reply import Reply
from gateway.reply_headers import of_admission, of_cost
from gateway.retry_after import retry_after_seconds
from gateway.routing.causes import cause_of_error
from gateway.routing.health import Failure, failure_of
from gateway.routing.strategies import Why
from gateway.upstream import Response, UpstreamBroke, UpstreamNotReached
from spend import events
from spend.events import Outcome

log = logging.getLogger(__name__)

ERROR_STATUS_MIN = 400
REDIRECT_STATUS_MIN = 300
SOUND = ("audio/", "application/octet-stream")


class Attempt:
    def __init__(
        self, *, applicant: Applicant, admitted: Admitted, process: GatewayProcess
    ) -> None:
        offer, asked = admitted.offer, applicant.asked
        self._applicant = applicant
        self._asked = asked
        self._admitted = admitted
        self._process = process
        self._exchanging: asyncio.Task[Reply] | None = None
        self._is_settling = False
        self.meter = Meter(
            price=offer.price,
            ceiling=offer.ceiling,
            model=offer.target.upstream_model,
            prompt=asked.fields,
            prompt_bytes=len(offer.body.data) if asked.text_bytes is None else asked.text_bytes,
            answers=offer.target.serving.answers_of(applicant.route),
            assumed=asked.assumed,
            region=offer.target.region,
            asked_tier=asked.service_tier,
        )
        self.recording = _recording(applicant, process)
        self._sent_at = time.monotonic()
        if admitted.unasked:
            self.meter.flags.add(events.UNCHECKED)
        if offer.rate.is_stale:
            self.meter.flags.add(events.RATE_STALE)

    async def run(self) -> Reply:
        """
        Forward the request and return its answer, or the head of its stream.

        :raises GatewayError: if the upstream gave none
        """
        self._exchanging = exchange = self._process.spawn(self._exchange())
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
        self._admitted.trial.ended()
        self._is_settling = True
        try:
            event = self._admitted.event(outcome)
        except money.AmountTooLarge:
            outcome = self._at_ceiling(outcome)
            event = self._admitted.event(outcome)
        if asyncio.current_task() is self._exchanging and not self._admitted.unasked:
            await self._process.store.settle(event)  # nobody cancels it any more
        else:
            await admission.settle(self._admitted, event, self._process)
        return outcome

    def keep(self, outcome: Outcome, headers: Mapping[str, str], *, is_stream: bool) -> None:
        """Keep what was recorded in the response cache, if it is fit for that, once."""
        if self.recording is None or self._process.cache is None:
            return
        entry = self.recording.entry(
            self._admitted.offer.target, outcome,
            is_stream=is_stream, content_type=headers.get("content-type", ""),
        )  # fmt: skip
        if entry is not None:
            slot = self.recording.slot
            seconds = slot.controls.seconds or settings.RESPONSE_CACHE_SECONDS
            self._process.spawn(self._process.cache.keep(slot.key, entry, seconds=seconds))

    async def _exchange(self) -> Reply:
        failpoints.hit(failpoints.BEFORE_SEND)
        try:
            response = await self._post()
        except UpstreamNotReached as error:
            self._failed(Failure.UNREACHABLE)
            await self._release()
            log.warning("upstream_not_reached", extra={"deployment": self._deployment})
            raise UpstreamFailed(f"{self._asked.model!r} cannot be reached.") from error
        except UpstreamBroke as error:
            self.broke(error)
            await self._settle_broken()
            raise _failure(error, self._asked.model) from error
        except asyncio.CancelledError:
            await self._settle_broken()
            raise
        failpoints.hit(failpoints.AFTER_HEADERS)
        self.meter.status = response.status
        if response.status >= REDIRECT_STATUS_MIN:
            return await self._pass_error(response)
        if response.is_stream or _is_sound(response):
            headers = response.headers | of_admission(self._admitted)
            return Reply(200, headers, stream=Relay(self, response, self._process))
        return await self._pass_reply(response)

    async def _post(self) -> Response:
        offer, route = self._admitted.offer, self._applicant.route
        serving = offer.target.serving
        url = serving.url(offer.target, serving.paths[route.name])
        outgoing = Outgoing(url, offer.body.data, offer.body.content_type, route.name)
        headers = await self._headers(outgoing)
        return await self._process.upstream.post(url, body=outgoing.body, headers=headers)

    async def _headers(self, outgoing: Outgoing) -> dict[str, str]:
        """
        Return what is sent beside the body, with the deployment's credential.

        :raises UpstreamNotReached: if there is no using the credential
        """
        target = self._admitted.offer.target
        headers = {
            "content-type": outgoing.content_type,
            "accept": "text/event-stream" if self._asked.stream else "*/*",
            "accept-encoding": "identity",
            "user-agent": "costplatform",
            "x-request-id": self._admitted.id,
            **target.serving.headers,
            **self._applicant.passed_on,
        }
        if target.sealed_secret is None:
            return headers
        try:
            secret = vault.unseal(
                target.sealed_secret, bound_to=target.secret_host, api_base=target.api_base
            )
            return headers | dict(await target.serving.authenticate(secret, outgoing))
        except (vault.CredentialError, CredentialRefused) as error:
            raise UpstreamNotReached(str(error)) from error

    async def _pass_reply(self, response: Response) -> Reply:
        try:
            body = await response.read(bytes_max=settings.GATEWAY_REPLY_BYTES_MAX)
        except UpstreamBroke as error:
            self.broke(error)
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
        self.succeeded(outcome)
        if self.recording is not None:
            self.recording.add_body(body)
            self.keep(outcome, response.headers, is_stream=False)
        return Reply(response.status, response.headers | of_cost(self._admitted, outcome), body)

    async def _pass_error(self, response: Response) -> Reply:
        """A provider does not bill what it refuses: settle 0, and hand its words on."""
        body = b""
        try:
            with suppress(UpstreamBroke):
                body = await response.read(bytes_max=settings.GATEWAY_REPLY_BYTES_MAX)
        finally:
            response.close()
            self._note_error(response, body)
            flags = (events.UPSTREAM_ERROR,)
            outcome = await self.settle(self.meter.nothing(settled_at=_now(), flags=flags))
        if response.status < ERROR_STATUS_MIN:
            raise UpstreamFailed(f"{self._asked.model!r} answered with a redirect.")
        return Reply(response.status, response.headers | of_cost(self._admitted, outcome), body)

    def began_to_answer(self) -> None:
        """Learn how long the first piece of a stream took."""
        self._admitted.trial.first_byte(time.monotonic(), self._sent_at)

    def succeeded(self, outcome: Outcome) -> None:
        """Learn from a whole answer how fast its deployment is, and what such requests use."""
        now, target = time.monotonic(), self._admitted.offer.target
        self._admitted.trial.succeeded(
            now, seconds=now - self._sent_at, output_tokens=events.output_tokens(outcome.usage)
        )
        if events.ESTIMATED not in outcome.flags and self._admitted.why is not Why.ONLY_ONE:
            size = len(self._admitted.offer.body.data)
            name = target.model_name
            self._process.mixes.learn(name, now=now, body_bytes=size, usage=outcome.usage)

    def broke(self, error: UpstreamBroke) -> None:
        """Learn that the deployment broke off."""
        self._failed(Failure.TIMEOUT if error.timed_out else Failure.BROKEN)

    def _failed(self, failure: Failure, retry_after: float | None = None) -> None:
        self._admitted.trial.failed(time.monotonic(), failure, retry_after)

    def _note_error(self, response: Response, body: bytes) -> None:
        """Learn from an error whether the deployment is at fault, or the request."""
        failure = failure_of(response.status)
        if failure is not None and cause_of_error(response.status, body) is None:
            self._failed(failure, retry_after_seconds(response.headers))

    async def _settle_broken(self) -> None:
        """It was sent, and may have been billed in full."""
        self.meter.flags.add(events.UPSTREAM_ERROR)
        unseen = self.meter.unseen(held=self._admitted.held, settled_at=_now())
        settled = self._process.spawn(self.settle(unseen))
        await asyncio.shield(settled)

    async def _release(self) -> None:
        self._admitted.trial.ended()
        nothing = self.meter.nothing(settled_at=_now(), flags=(events.UPSTREAM_ERROR,))
        event = self._admitted.event(nothing)
        release = self._process.store.release(self._admitted.id, otherwise=event)
        await asyncio.shield(self._process.spawn(release))

    async def _abandon(self, exchange: "asyncio.Task[Reply]") -> None:
        """The client has gone: wait a while for the answer's usage, then cancel the upstream."""
        self.meter.flags.add(events.CLIENT_CLOSED)
        await asyncio.wait({exchange}, timeout=self.drain_seconds)
        if not (exchange.done() or self._is_settling):
            exchange.cancel()
        try:
            reply = await exchange
        except (asyncio.CancelledError, GatewayError):
            return
        if reply.stream is not None:
            await reply.stream.aclose()

    def _at_ceiling(self, outcome: Outcome) -> Outcome:
        """An amount beyond 64 bits is nonsense from the upstream: settle what was held."""
        log.error("cost_too_large", extra={"request_id": self._admitted.id})
        flags = {*outcome.flags, events.OVER_CEILING, events.USAGE_CLAMPED}
        return Outcome(
            status=outcome.status, cost=self._admitted.offer.ceiling, usage={},
            flags=tuple(sorted(flags)), settled_at=outcome.settled_at,
        )  # fmt: skip

    @property
    def drain_seconds(self) -> float:
        """How long an answer is read on whose client has gone."""
        cancels = self._admitted.offer.target.cancels
        return 0 if cancels else settings.GATEWAY_ABORT_DRAIN_SECONDS

    @property
    def hides_usage(self) -> bool:
        return self._asked.stream and self._asked.hides_usage

    def error_event(self, error: UpstreamBroke) -> bytes:
        """Return the event that tells a client of a stream that its upstream broke off."""
        return error_shapes.event(
            _failure(error, self._asked.model),
            request_id=self._admitted.request_id,
            route=self._applicant.route,
        )

    @property
    def _deployment(self) -> str:
        return self._admitted.offer.target.public_id


def _now() -> datetime:
    return datetime.now(UTC)


def _recording(applicant: Applicant, process: GatewayProcess) -> Recording | None:
    """Return what takes the answer down, if it may be kept: that of the model asked for first."""
    slot = applicant.slot
    if slot is None or not slot.controls.keeps or slot.model != applicant.asked.model:
        return None
    assert process.cache is not None, "there is no slot without a cache"
    return Recording(slot, process.cache.room)


def _failure(error: UpstreamBroke, model: str) -> GatewayError:
    if error.timed_out:
        return UpstreamTimeout(f"{model!r} did not answer in time.")
    return UpstreamFailed(f"{model!r} broke off its answer.")


def _is_sound(response: Response) -> bool:
    """Sound is passed on as it comes: whoever listens does not want to wait for its end."""
    return response.headers.get("content-type", "").startswith(SOUND)
