"""Files of batches: checked, sent to the provider of one deployment, and read from there."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings

from budgets.errors import BudgetExceeded, StoreUnavailable
from budgets.reservations import Look
from budgets.snapshots import KeySnapshot
from gateway import admission, choosing, refusals
from gateway.admission import Candidate
from gateway.applicants import Applicant, Known
from gateway.batches import lines, queries, upstreams
from gateway.batches.lines import Checked
from gateway.batches.routes import route_of
from gateway.catalogue import Target
from gateway.counters import with_counters
from gateway.errors import (
    FileInUse,
    InvalidRequest,
    TooManyFiles,
    UnsupportedParameter,
    UpstreamFailed,
)
from gateway.models import BatchState, GatewayFile, Purpose
from gateway.process import GatewayProcess
from gateway.providers.provider import FILES
from gateway.routes import forms
from gateway.routes.asked import JSON, Asked
from gateway.routes.forms import Form, Upload
from gateway.upstream import Response, UpstreamBroke, UpstreamNotReached

JSONL: Final = "application/jsonl"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is."""

    snapshot: KeySnapshot
    secret: str


def file_in(form: Form) -> Upload:
    """
    Return the file that is uploaded for a batch.

    :raises InvalidRequest: if there is none, or several
    :raises UnsupportedParameter: if it is for anything else, or to be kept otherwise
    """
    fields = form.fields()
    purpose = fields.pop("purpose", None)
    if purpose != Purpose.BATCH:
        raise UnsupportedParameter(
            "Only files with the purpose 'batch' are taken: what others cost nobody could say.",
            param="purpose",
        )
    for name in fields:
        raise UnsupportedParameter(f"{name} is not supported here.", param=name)
    if len(form.files) != 1 or form.files[0].field != lines.FILE:
        raise InvalidRequest("There must be one file, in the field 'file'.", param=lines.FILE)
    return form.files[0]


def check_room(snapshot: KeySnapshot) -> None:
    """:raises TooManyFiles: if the organization has as many as it may"""
    most = settings.GATEWAY_FILES_MAX
    if queries.inputs_of(snapshot.organization_id) >= most:
        raise TooManyFiles(f"There may be {most} files: delete those that are done with.")


async def choose(checked: Checked, *, caller: Caller, process: GatewayProcess) -> Target:
    """
    Return the deployment whose provider gets the file: the first that serves batches of its route
    and at which a batch of it could be paid for.

    :raises GatewayError: if there is none, or the key may not call the model
    """
    await process.wait_to_admit()
    asked = Asked(
        fields={"model": checked.model}, model=checked.model, batch=checked.together,
        end_user=checked.end_user, tags=checked.tags,
    )  # fmt: skip
    applicant = Applicant(asked, route_of(checked.route), caller.secret, request_id="")

    async def make(known: Known) -> Candidate:
        chosen = await choosing.choose(applicant, known, process, tried=())
        return await admission.candidate_for(applicant, chosen.offer, known, process)

    async def look(candidate: Candidate, until: float) -> Target:
        context = candidate.context
        seen: Look = await with_counters(
            context, until, process,
            lambda: process.store.look(candidate.demand(), context=context),
        )  # fmt: skip
        if isinstance(seen.refusal, BudgetExceeded):
            raise refusals.of_limit(seen.refusal, context=context)
        return candidate.offer.target

    try:
        return await admission.on_newest(
            caller.secret, caller.snapshot, process, make=make, use=look
        )
    except StoreUnavailable as error:
        raise refusals.of_store(error) from error


async def send(
    address: upstreams.Address, data: bytes, *, name: str, process: GatewayProcess
) -> upstreams.Answer:
    """
    Upload a file; nothing is billed for it.

    :raises GatewayError: if the provider gave no answer
    """
    upload = Upload(lines.FILE, name, JSONL, data)
    form = Form((("purpose", Purpose.BATCH.value),), (upload,))
    body, content_type = form.encoded(replacing={})
    return await ask(
        address, "POST", (FILES,), process=process, body=body, content_type=content_type
    )


async def ask(
    address: upstreams.Address,
    method: str,
    path: tuple[str, ...],
    *,
    process: GatewayProcess,
    body: bytes | None = None,
    content_type: str = JSON,
) -> upstreams.Answer:
    """
    Ask a provider about a file or a batch; what it answers is told, an error too.

    :raises GatewayError: if it gave no answer
    """
    try:
        answer = await upstreams.ask(
            process.upstream, address, method, path, body=body, content_type=content_type
        )
    except (UpstreamNotReached, UpstreamBroke) as error:
        raise upstreams.failure(error) from error
    if upstreams.REDIRECT_STATUS_MIN <= answer.status < upstreams.ERROR_STATUS_MIN:
        raise UpstreamFailed("The provider answered with a redirect.")
    return answer


def address_of(file: GatewayFile) -> upstreams.Address:
    """:raises UpstreamFailed: if the deployment is gone that has the file"""
    if file.deployment is None:
        raise UpstreamFailed("The deployment that has this file is gone.")
    return upstreams.address_of(file.deployment)


def check_deletable(file: GatewayFile) -> None:
    """:raises FileInUse: if what its batch has cost is still to be read out of it"""
    if file.batch is not None and file.batch.state == BatchState.OPEN:
        raise FileInUse("What the batch has cost is read out of this file within minutes.")


def told(file: GatewayFile) -> dict[str, Any]:
    """Return a file as OpenAI's clients read it."""
    return {
        "id": file.public_id,
        "object": "file",
        "bytes": file.bytes or 0,
        "created_at": int(file.created_at.timestamp()),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "expires_at": None,
    }


async def content(file: GatewayFile, *, process: GatewayProcess) -> "Content":
    """
    Return what is in a file, or the provider's error, as soon as it has begun to come.

    :raises GatewayError: if the provider gave no answer
    """
    address = address_of(file)
    path = (FILES, file.upstream_id, "content")
    try:
        response = await upstreams.begin(process.upstream, address, "GET", path)
    except (UpstreamNotReached, UpstreamBroke) as error:
        raise upstreams.failure(error) from error
    return Content(response)


class Content:
    """The bytes of a file as they come; reading pauses while nobody takes them."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self.status = response.status
        self.content_type = response.headers.get("content-type", forms.BINARY)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.chunks():
                yield chunk
        finally:
            self._response.close()

    def let_go(self) -> None:
        """Close it wherever it is: its caller has it whole, or has gone."""
        self._response.close()
