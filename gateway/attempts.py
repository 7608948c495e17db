"""
The attempts at one request: at the deployments of its model, then at other models.

Each is its own reservation at its own price. The next one is made before the caller has seen a
byte, where a deployment has no room or gave no answer, and where a rule names another model for
what went wrong. What nobody else could do better is passed on as it is.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from budgets.snapshots import KeySnapshot
from gateway import admission
from gateway.admission import Admitted
from gateway.applicants import Applicant
from gateway.attempt import Attempt
from gateway.choosing import NoneLeft
from gateway.errors import GatewayError, LimitRefused, UpstreamFailed, UpstreamTimeout
from gateway.ids import new_request_id
from gateway.metrics import Flight
from gateway.process import GatewayProcess
from gateway.reply import Reply
from gateway.reply_headers import of_attempts
from gateway.routing.causes import Cause, cause_of_error
from gateway.routing.fallbacks import Rule, next_models
from gateway.routing.health import failure_of

ERROR_STATUS_MIN: Final = 400
BUDGET_EXCEEDED: Final = "budget_exceeded"
DEPLOYMENTS_MAX: Final = 20
"""So many deployments of a model are asked whether they have room."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What one model has come to: the answer that is passed on if no other does better."""

    cause: Cause
    answer: Reply | GatewayError

    def told(self) -> Reply:
        """
        Return the provider's own error.

        :raises GatewayError: if it gave none
        """
        if isinstance(self.answer, GatewayError):
            raise self.answer
        return self.answer


class Attempts:
    def __init__(
        self,
        applicant: Applicant,
        *,
        snapshot: KeySnapshot,
        process: GatewayProcess,
        flight: Flight,
    ) -> None:
        self._applicant = self._asking = applicant
        self._snapshot = snapshot
        self._process = process
        self._flight = flight
        self._made = 0

    async def run(self) -> Reply:
        """
        Return an answer, the first that was given, or what the model that was asked for said.

        :raises GatewayError: why there is none, in words for the caller
        :raises StoreUnavailable: if the live store could not be asked
        """
        asked = self._applicant.asked
        first = await self._at(asked.model)
        if isinstance(first, Reply):
            return self._marked(first)
        for model in next_models(await self._rule(asked.model), first.cause):
            try:
                other = await self._at(model)
            except GatewayError:
                continue  # whoever asks may not use it, say, and has not named it
            if isinstance(other, Reply):
                return self._marked(other, fallback=first.cause)
        return self._marked(first.told())

    async def _at(self, model: str) -> Reply | Failed:
        """Return what the deployments of a model have come to."""
        attempts = 0
        tried: set[str] = set()
        failed: Failed | None = None
        while len(tried) < DEPLOYMENTS_MAX:
            try:
                admitted = await self._admit(model, tried)
            except NoneLeft:
                break
            except LimitRefused as refusal:
                if refusal.full_deployment is None:
                    return _failed_by_budget(refusal)
                tried.add(refusal.full_deployment)
                failed = failed or Failed(Cause.DEFAULT, refusal)
                continue
            tried.add(admitted.offer.target.public_id)
            answer = await self._attempt(admitted)
            # The rule that counts is that of now: reserve has just seen that we know the newest.
            if isinstance(answer, Reply) or attempts >= await self._retries(model, answer):
                return answer
            failed = answer
            attempts += 1
        assert failed is not None, "the first choice finds one, or says why not"
        return failed

    async def _admit(self, model: str, tried: Collection[str]) -> Admitted:
        if self._made or model != self._applicant.asked.model:
            self._asking = self._further(model)
        admitted = await admission.admit(
            self._asking, snapshot=self._snapshot, process=self._process, tried=tried
        )
        if not self._made:
            self._flight.admitted()
        self._made += 1
        return admitted

    def _further(self, model: str) -> Applicant:
        applicant = self._applicant
        return replace(
            applicant,
            asked=replace(applicant.asked, model=model),
            attempt_id=new_request_id() if self._made else "",
        )

    async def _attempt(self, admitted: Admitted) -> Reply | Failed:
        attempt = Attempt(applicant=self._asking, admitted=admitted, process=self._process)
        try:
            reply = await attempt.run()
        except (UpstreamFailed, UpstreamTimeout) as error:
            return Failed(Cause.DEFAULT, error)
        if reply.status < ERROR_STATUS_MIN:
            return reply
        cause = cause_of_error(reply.status, reply.body)
        if cause is None and failure_of(reply.status) is None:
            return reply  # the request is at fault, and would be anywhere
        return Failed(cause or Cause.DEFAULT, reply)

    async def _retries(self, model: str, failed: Failed) -> int:
        """Return how often the model's other deployments are tried after such a failure."""
        if failed.cause is not Cause.DEFAULT:
            return 0
        return (await self._rule(model)).retries

    async def _rule(self, model: str) -> Rule:
        models = await self._process.catalogues.get()
        return models.rule_for(model, self._snapshot.organization_id)

    def _marked(self, reply: Reply, *, fallback: Cause | None = None) -> Reply:
        """Say how many attempts there were, and why another model answered."""
        reply.headers |= of_attempts(self._made, fallback=fallback)
        return reply


def _failed_by_budget(refusal: LimitRefused) -> Failed:
    """
    :raises LimitRefused: if it is one that other models would meet, or that waiting helps against
    """
    if refusal.reason != BUDGET_EXCEEDED:
        raise refusal
    return Failed(Cause.BUDGET, refusal)
