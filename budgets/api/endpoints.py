"""What all endpoints of the management API have in common: strict input, and who acts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ClassVar, Final

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from budgets.changes import Origin, Source, acting
from budgets.errors import InvalidInput

ACTOR: Final = "master key"

NON_FIELD_ERRORS_KEY: Final = api_settings.NON_FIELD_ERRORS_KEY

Asked = dict[str, Any]
"""A request's fields, checked; what was not given is not in it."""
Defaults = Mapping[str, Any]
"""Names of LiteLLM's that we do not have, and LiteLLM's default for each."""


class Strict(serializers.Serializer):
    """
    Refuses every name that it does not know.

    A name of LiteLLM's that we do not have may be sent with null or its default, so that clients
    which send everything work; with a value it is refused, since it would not be obeyed.
    """

    unsupported: ClassVar[Defaults] = {}

    @classmethod
    def by_name(cls) -> serializers.DictField | None:
        """Return what checks names and values, where the names are the caller's."""
        return None

    def to_internal_value(self, data: Any) -> Asked:
        if not isinstance(data, Mapping):
            # As DRF raises it itself: its errors are objects, also those of the whole.
            raise serializers.ValidationError({NON_FIELD_ERRORS_KEY: ["must be an object"]})
        for name, value in data.items():
            if name not in self.fields:
                self._check_unsupported(name, value)
        asked: Asked = super().to_internal_value(data)
        return asked

    def _check_unsupported(self, name: str, value: Any) -> None:
        if name not in self.unsupported:
            raise serializers.ValidationError({name: _error("is unknown", "unknown_field")})
        default = self.unsupported[name]
        is_default = value == default and isinstance(value, bool) == isinstance(default, bool)
        if value is not None and not is_default:
            raise serializers.ValidationError(
                {name: _error("is not supported yet; leave it out", "unsupported_field")}
            )


class StrictQuery(Strict):
    """The same for a query string, where everything is text and an empty one is null."""

    def _check_unsupported(self, name: str, value: Any) -> None:
        super()._check_unsupported(name, value.lower() or None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered, where headers go with it."""

    content: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class Error(serializers.Serializer):
    message = serializers.CharField()
    type = serializers.CharField()
    param = serializers.CharField(allow_null=True)
    code = serializers.CharField()


class ErrorAnswer(serializers.Serializer):
    """Every error has this shape."""

    error = Error()


class OneFormat(BaseContentNegotiation):
    """Answers in JSON whatever ``Accept`` says: clients of LiteLLM send all kinds of things."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((each for each in parsers if each.media_type == media_type), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class ManagementView(APIView):
    """A view whose changes are those of the master key, the only one that gets in."""

    content_negotiation_class = OneFormat
    http_method_names = ["get", "head", "post", "patch", "delete"]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # DRF takes a body that comes in chunks, without a length, for none.
        request.META["CONTENT_LENGTH"] = str(len(request.body))


def endpoint(
    *,
    takes: type[Strict],
    answers: type[serializers.BaseSerializer],
    many: bool = False,
    operation_id: str | None = None,
    described_as: Any = None,
) -> Callable[[Callable[..., Any]], Callable[..., HttpResponse]]:
    """
    Make a view's method out of one that takes checked fields and returns what is to be told.

    ``takes`` checks the body, or for GET and DELETE the query string; ``answers`` writes the
    answer, and describes it unless ``described_as`` does. What is a response already, as a file is,
    stays so.
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., HttpResponse]:
        in_query = method.__name__ in {"get", "delete"}

        @wraps(method)
        def handle(self: ManagementView, request: Request, **path: str) -> HttpResponse:
            asked = checked(takes, _query(request) if in_query else _body(request))
            with acting(ACTOR, origin=_origin(request)):
                told = method(self, asked, **path)
            if isinstance(told, HttpResponse):
                return told
            answer = told if isinstance(told, Answer) else Answer(told)
            content = answers(answer.content, many=many).data
            return Response(content, headers=dict(answer.headers))

        handle.takes = takes  # type: ignore[attr-defined]  # tests ask what every endpoint takes
        described = extend_schema(
            operation_id=operation_id,
            request=None if in_query else takes,
            parameters=[takes] if in_query and takes().fields else [],
            responses={200: described_as or answers(many=many), "4XX": ErrorAnswer},
        )
        result: Callable[..., HttpResponse] = described(handle)
        return result

    return decorate


def checked(takes: type[Strict], given: Any) -> Asked:
    """
    Return what was given, checked and converted.

    :raises ValidationError: naming what does not fit
    """
    if not isinstance(given, Mapping):
        raise serializers.ValidationError("The body must be a JSON object.", "invalid")
    wanted = takes(data=given)
    wanted.is_valid(raise_exception=True)
    return dict(wanted.validated_data)


def _origin(request: Request) -> Origin:
    return Origin(Source.API, request.META.get("REMOTE_ADDR") or "")


def _query(request: Request) -> dict[str, str]:
    return {name: _only(name, values) for name, values in request.query_params.lists()}


def _only(name: str, values: list[str]) -> str:
    if len(values) > 1:
        raise InvalidInput(name, "is given more than once")
    return values[0]


def _body(request: Request) -> Any:
    for name in request.query_params:
        raise InvalidInput(name, "belongs into the body")
    return request.data


def _error(problem: str, code: str) -> list[serializers.ErrorDetail]:
    return [serializers.ErrorDetail(problem, code)]
