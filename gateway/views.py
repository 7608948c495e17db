"""The second door: DRF views over the same pipeline, and the gateway's reads."""

import hmac
from collections.abc import AsyncIterator, Iterable
from typing import Any
from uuid import UUID

import orjson
from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.views import APIView

from budgets import keys, snapshots
from budgets.snapshots import KeySnapshot
from gateway import estimates, identity, pipeline, process, queries
from gateway.begun import BEGUN, Begun
from gateway.catalogue import read_catalogue
from gateway.errors import GatewayError, RequestNotFound, Unauthorized, UnknownRoute
from gateway.pipeline import Inbound
from gateway.reply import Reply, Streamed
from gateway.routes import CHAT, find


class Indifferent(BaseContentNegotiation):
    """Whatever a client accepts: what it gets is the upstream's to decide."""

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[Any], format_suffix: str | None = None
    ) -> tuple[Any, str]:
        first = next(iter(renderers))
        return first, first.media_type


class GatewayView(APIView):
    """Authenticates by virtual key as the pipeline does, not as the management API does."""

    authentication_classes = ()
    permission_classes = ()
    content_negotiation_class = Indifferent

    def handle_exception(self, exc: Exception) -> HttpResponseBase:  # type: ignore[override]  # an answer in the gateway's own shape
        if isinstance(exc, GatewayError):
            return response_of(pipeline.refused(exc))
        return super().handle_exception(exc)


class Inference(GatewayView):
    """Every inference route through Django: same pipeline, same answers as the lane."""

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT, tags=["gateway"])
    def post(self, request: Request, **_: str) -> HttpResponseBase:
        found = find(request.path)
        if found is None:
            raise UnknownRoute(f"There is no {request.path[:200]} here.")
        inbound = Inbound(found.route, headers_of(request), body_of(request), found.model)
        return response_of(async_to_sync(_serve)(inbound, begun_of(request)))


class Estimate(GatewayView):
    """``POST /v1/estimate`` tells what a chat completion request would cost; it costs nothing."""

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT, tags=["gateway"])
    def post(self, request: Request) -> HttpResponse:
        inbound = Inbound(CHAT, headers_of(request), body_of(request))
        return json_of(async_to_sync(_estimate)(inbound))


class Models(GatewayView):
    """``GET /v1/models`` lists what this key may call."""

    @extend_schema(responses=OpenApiTypes.OBJECT, tags=["gateway"])
    def get(self, request: Request) -> HttpResponseBase:
        snapshot = identified(request)
        models = read_catalogue(today=timezone.now().date())
        names = models.names(organization_id=snapshot.organization_id)
        listed = [
            {
                "id": name, "object": "model", "owned_by": target.provider,
                "created": int(target.created_at.timestamp()),
            }
            for name, target in names
            if snapshot.may_call(name)
        ]  # fmt: skip
        return json_of({"object": "list", "data": listed})


class KeyDetail(GatewayView):
    """``GET /v1/key`` tells a key its own limits, also when they are used up."""

    @extend_schema(responses=OpenApiTypes.OBJECT, tags=["gateway"])
    def get(self, request: Request) -> HttpResponseBase:
        snapshot = identified(request)
        return json_of(queries.key_report(snapshot=snapshot, at=timezone.now()))


class RequestDetail(GatewayView):
    """``GET /v1/requests/{id}`` tells what a request cost, and on which accounts."""

    @extend_schema(responses=OpenApiTypes.OBJECT, tags=["gateway"])
    def get(self, request: Request, request_id: UUID) -> HttpResponseBase:
        digest = None if _is_master(request) else identified(request).digest
        report = queries.request_report(request_id=request_id, key_digest=digest)
        if report is None:
            raise RequestNotFound("There is no such request of this key in the ledger (yet).")
        return json_of(report)


async def _serve(inbound: Inbound, begun: Begun) -> Reply:
    reply = await pipeline.serve(inbound, process=process.current())
    if reply.stream is not None:
        begun.add(reply.stream)
    return reply


async def _estimate(inbound: Inbound) -> dict[str, Any]:
    return await estimates.estimate(inbound, process=process.current())


def identified(request: Request) -> KeySnapshot:
    """
    Return the key of a request as Postgres has it now.

    :raises GatewayError: if it may not be used
    """
    secret = secret_in(request)
    snapshot = snapshots.read_key(
        digest=keys.digest(secret), legacy_digest=keys.legacy_digest(secret)
    )
    if snapshot is None:
        raise Unauthorized("There is no such key.")
    identity.check_usable(snapshot, at=timezone.now())
    return snapshot


def secret_in(request: Request) -> str:
    """:raises Unauthorized: if it carries no key"""
    return identity.secret_of(headers_of(request))


def _is_master(request: Request) -> bool:
    _, _, bearer = headers_of(request).get("authorization", "").partition(" ")
    return hmac.compare_digest(bearer.strip().encode(), settings.MASTER_KEY.encode())


def headers_of(request: Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def body_of(request: Request) -> bytes:
    return request._request.body  # noqa: SLF001  # DRF would parse it; the pipeline wants bytes


def begun_of(request: Request) -> Begun:
    begun: Begun = request._request.scope[BEGUN]  # type: ignore[attr-defined]  # noqa: SLF001  # DRF hides it
    return begun


def json_of(content: dict[str, Any]) -> HttpResponse:
    return HttpResponse(orjson.dumps(content), content_type="application/json")


def response_of(reply: Reply) -> HttpResponseBase:
    headers = dict(reply.headers)
    content_type = headers.pop("content-type", "application/json")
    if reply.stream is None:
        return HttpResponse(
            reply.body, status=reply.status, headers=headers, content_type=content_type
        )
    return StreamingHttpResponse(
        _pieces(reply.stream), status=reply.status, headers=headers, content_type=content_type
    )


async def _pieces(stream: Streamed) -> AsyncIterator[bytes]:
    try:
        async for piece in stream:
            yield piece
    finally:
        await stream.aclose()
