"""
Files and batches through Django, for both doors. Only creating a batch can cost money, and passes
the gate; everything else is asked for by a key that may be used, and is not billed by providers.
"""

from collections.abc import Callable
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from gateway.batches import creating, files, lines, queries, reading, services, upstreams
from gateway.batches.creating import with_our_ids
from gateway.batches.files import Caller, Content
from gateway.batches.services import Uploaded
from gateway.batches.upstreams import Address, Answer
from gateway.errors import InvalidRequest, UpstreamFailed
from gateway.models import BatchState, Deployment, GatewayBatch, GatewayFile, Purpose
from gateway.process import current
from gateway.providers.provider import BATCHES, FILES
from gateway.reply import Reply
from gateway.routes import forms
from gateway.views import (
    GatewayView,
    begun_of,
    body_of,
    headers_of,
    identified,
    json_of,
    response_of,
    secret_in,
)

FILES_LISTED: Final = queries.FILES_LISTED_MAX
BATCHES_LISTED: Final = 20


class Files(GatewayView):
    """``POST /v1/files`` uploads the lines of a batch, ``GET`` lists them."""

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT, tags=["gateway"])
    def post(self, request: Request) -> HttpResponseBase:
        caller = Caller(identified(request), secret_in(request))
        headers = headers_of(request)
        form = forms.read(body_of(request), content_type=headers.get("content-type", ""))
        upload = files.file_in(form)
        checked = lines.check(upload.data)
        files.check_room(caller.snapshot)
        target = async_to_sync(_choose)(checked, caller)
        data = lines.rewritten(
            upload.data,
            route=checked.route,
            upstream_model=target.serving.model_sent(target.upstream_model),
        )
        deployment = _deployment(target.public_id)
        answer = async_to_sync(_send)(upstreams.address_of(deployment), data, upload.name)
        if answer.is_error:
            return _passed_on(answer)
        upstream_id = upstreams.id_in(answer.json())
        if not upstream_id:
            raise UpstreamFailed("The provider's answer is no file.")
        file = services.keep_file(
            uploaded=Uploaded(upstream_id, upload.name, len(upload.data)),
            checked=checked, deployment=deployment, snapshot=caller.snapshot, now=timezone.now(),
        )  # fmt: skip
        return json_of(files.told(file))

    @extend_schema(operation_id="v1_files_list", responses=OpenApiTypes.OBJECT, tags=["gateway"])
    def get(self, request: Request) -> HttpResponseBase:
        rows = queries.files_of(identified(request))
        if purpose := request.query_params.get("purpose"):
            rows = rows.filter(purpose=purpose)
        return _page(request, rows, files.told, usual=FILES_LISTED, most=queries.FILES_LISTED_MAX)


class FileDetail(GatewayView):
    """``GET /v1/files/{id}`` tells of a file, ``DELETE`` deletes it at its provider."""

    @extend_schema(responses=OpenApiTypes.OBJECT, tags=["gateway"])
    def get(self, request: Request, file_id: str) -> HttpResponseBase:
        file = queries.find_file(public_id=file_id, snapshot=identified(request))
        if file.purpose == Purpose.BATCH_OUTPUT and file.bytes is None:
            _note_size(file, _ask(files.address_of(file), "GET", FILES, file.upstream_id))
        return json_of(files.told(file))

    @extend_schema(responses=OpenApiTypes.OBJECT, tags=["gateway"])
    def delete(self, request: Request, file_id: str) -> HttpResponseBase:
        file = queries.find_file(public_id=file_id, snapshot=identified(request))
        files.check_deletable(file)
        answer = _ask(files.address_of(file), "DELETE", FILES, file.upstream_id)
        if answer.is_error and answer.status not in reading.GONE:
            return _passed_on(answer, file=file)
        services.delete_file(file=file, now=timezone.now())
        return json_of({"id": file.public_id, "object": "file", "deleted": True})


class FileContent(GatewayView):
    """``GET /v1/files/{id}/content`` passes on what is in a file."""

    @extend_schema(responses=OpenApiTypes.BINARY, tags=["gateway"])
    def get(self, request: Request, file_id: str) -> HttpResponseBase:
        file = queries.find_file(public_id=file_id, snapshot=identified(request))
        content = async_to_sync(_content)(file)
        begun_of(request).add(content)
        return StreamingHttpResponse(
            aiter(content), status=content.status, content_type=content.content_type
        )


class Batches(GatewayView):
    """``POST /v1/batches`` creates a batch, and holds what it can cost; ``GET`` lists them."""

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT, tags=["gateway"])
    def post(self, request: Request) -> HttpResponseBase:
        caller = Caller(identified(request), secret_in(request))
        wanted = creating.parse(body_of(request), headers=headers_of(request))
        file = queries.find_file(public_id=wanted.input_file_id, snapshot=caller.snapshot)
        applicant = creating.applicant_for(wanted, file, caller)
        return response_of(async_to_sync(_create)(applicant, file, caller))

    @extend_schema(operation_id="v1_batches_list", responses=OpenApiTypes.OBJECT, tags=["gateway"])
    def get(self, request: Request) -> HttpResponseBase:
        rows = queries.batches_of(identified(request))
        return _page(
            request, rows, _as_last_told, usual=BATCHES_LISTED, most=queries.BATCHES_LISTED_MAX
        )


class BatchDetail(GatewayView):
    """``GET /v1/batches/{id}`` asks its provider how a batch is doing; it costs nothing."""

    @extend_schema(responses=OpenApiTypes.OBJECT, tags=["gateway"])
    def get(self, request: Request, batch_id: str) -> HttpResponseBase:
        batch = queries.find_batch(public_id=batch_id, snapshot=identified(request))
        return _passed_through(batch, "GET", batch.upstream_id)


class BatchCancel(GatewayView):
    """``POST /v1/batches/{id}/cancel`` has its provider end a batch; what is done is charged."""

    @extend_schema(request=None, responses=OpenApiTypes.OBJECT, tags=["gateway"])
    def post(self, request: Request, batch_id: str) -> HttpResponseBase:
        batch = queries.find_batch(public_id=batch_id, snapshot=identified(request))
        return _passed_through(batch, "POST", batch.upstream_id, "cancel")


def _passed_through(batch: GatewayBatch, method: str, *below: str) -> HttpResponseBase:
    """Ask for a batch that its provider has; of another only we can tell."""
    if not batch.upstream_id or batch.deployment is None:
        return json_of(_as_last_told(batch))
    answer = _ask(upstreams.address_of(batch.deployment), method, BATCHES, *below)
    told = answer.json()
    if answer.is_error:
        return _passed_on(answer, batch=batch)
    if not isinstance(told.get("status"), str):
        raise UpstreamFailed("The provider's answer is no batch.")
    if told["status"] in reading.ENDED:
        services.look_soon(batch=batch, now=timezone.now())
    return json_of(services.note_told(batch=batch, answer=told))


def _as_last_told(batch: GatewayBatch) -> dict[str, Any]:
    """Return a batch as it was told of last; one that its provider never took has failed."""
    if batch.told:
        return dict(batch.told)
    is_waiting = batch.state == BatchState.CREATING
    return {
        "id": batch.public_id,
        "object": "batch",
        "endpoint": batch.input_file.endpoint,
        "input_file_id": batch.input_file.public_id,
        "completion_window": creating.WINDOW,
        "status": "validating" if is_waiting else "failed",
        "created_at": int(batch.created_at.timestamp()),
    }


def _page(
    request: Request,
    rows: QuerySet[Any],
    told: Callable[[Any], dict[str, Any]],
    *,
    usual: int,
    most: int,
) -> HttpResponse:
    limit = request.query_params.get("limit", str(usual))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= most):
        raise InvalidRequest(f"limit must be a whole number from 1 to {most}.", param="limit")
    after = request.query_params.get("after", "")
    found, has_more = queries.page(rows, after=after, limit=int(limit))
    data = [told(row) for row in found]
    return json_of(
        {
            "object": "list",
            "data": data,
            "has_more": has_more,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
        }
    )


def _passed_on(
    answer: Answer, *, file: GatewayFile | None = None, batch: GatewayBatch | None = None
) -> HttpResponseBase:
    """Return the provider's own error, in which our ids stand for its own."""
    ours = {file.upstream_id: file.public_id} if file else {}
    ours |= {batch.upstream_id: batch.public_id} if batch else {}
    return response_of(Reply(answer.status, dict(answer.headers), with_our_ids(answer.body, ours)))


def _note_size(file: GatewayFile, answer: Answer) -> None:
    """Take over how long a file is that a batch has written."""
    size = answer.json().get("bytes")
    if isinstance(size, int) and 0 <= size < 2**63:
        file.bytes = size
        file.save(update_fields=["bytes"])


def _deployment(public_id: str) -> Deployment:
    return Deployment.objects.select_related("credential").get(public_id=public_id)


def _ask(address: Address, method: str, *path: str) -> Answer:
    return async_to_sync(_asked)(address, method, path)


async def _asked(address: Address, method: str, path: tuple[str, ...]) -> Answer:
    return await files.ask(address, method, path, process=current())


async def _choose(checked: lines.Checked, caller: Caller) -> Any:
    return await files.choose(checked, caller=caller, process=current())


async def _send(address: Address, data: bytes, name: str) -> Answer:
    return await files.send(address, data, name=name, process=current())


async def _content(file: GatewayFile) -> Content:
    return await files.content(file, process=current())


async def _create(applicant: Any, file: GatewayFile, caller: Caller) -> Reply:
    return await creating.create(applicant, file, caller=caller, process=current())
