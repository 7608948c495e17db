"""Every route, through both doors: bytes pass unchanged, and what is used is what is charged."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import orjson
import pytest
from django.urls import URLResolver, get_resolver

from gateway import urls as gateway_urls
from gateway.routes import (
    AZURE_PATH,
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    IMAGE_EDITS,
    IMAGE_GENERATIONS,
    MESSAGES,
    MODERATIONS,
    RERANK,
    RESPONSES,
    ROUTES,
    SPEECH,
    TRANSCRIPTIONS,
    TRANSLATIONS,
    find,
    forms,
    paths_of,
)
from gateway.routes.route import Route
from tests.conftest import Cast
from tests.gateway.support import HELLO, Answer, post, recorded
from tests.gateway.upstreams import Canned, Upstream, deployed
from tests.spend.usage_support import events_of
from tests.stack import Stack

DATA = Path(__file__).parents[1] / "data" / "usage"
WAV = (
    b"RIFF" + (36 + 32_000).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    + (1).to_bytes(2, "little") + (1).to_bytes(2, "little") + (8_000).to_bytes(4, "little")
    + (16_000).to_bytes(4, "little") + (2).to_bytes(2, "little") + (16).to_bytes(2, "little")
    + b"data" + (32_000).to_bytes(4, "little") + bytes(32_000)
)  # fmt: skip
"""Two seconds of silence."""
FIELDS: dict[str, dict[str, Any]] = {
    CHAT.name: {"messages": HELLO},
    COMPLETIONS.name: {"prompt": "Once upon a time"},
    EMBEDDINGS.name: {"input": "a text"},
    RESPONSES.name: {"input": "a question"},
    IMAGE_GENERATIONS.name: {"prompt": "a cat"},
    IMAGE_EDITS.name: {"prompt": "a hat on it"},
    SPEECH.name: {"input": "Good evening.", "voice": "alloy"},
    TRANSCRIPTIONS.name: {"language": "en"},
    TRANSLATIONS.name: {},
    MODERATIONS.name: {"input": "a text"},
    RERANK.name: {"query": "where?", "documents": ["here", "there"]},
    MESSAGES.name: {"messages": HELLO, "max_tokens": 100},
    COUNT_TOKENS.name: {"messages": HELLO},
}
FILES = {TRANSCRIPTIONS.name: "file", TRANSLATIONS.name: "file", IMAGE_EDITS.name: "image[]"}
PAYLOADS = {
    MESSAGES: "anthropic_messages",
    EMBEDDINGS: "openai_embeddings",
    RESPONSES: "openai_responses",
    IMAGE_GENERATIONS: "openai_images",
    TRANSCRIPTIONS: "openai_transcription",
    RERANK: "rerank",
}


@pytest.fixture
def model(upstream: Upstream, cast: Cast) -> str:
    return deployed(upstream, cast).model_name


def ask(url: str, secret: str, route: Route, name: str, **fields: Any) -> Answer:
    sent = FIELDS[route.name] | fields | {"model": name}
    if route.name not in FILES:
        return post(url, secret, sent, path=route.path)
    texts = tuple((name, str(value)) for name, value in sent.items())
    file = forms.Upload(FILES[route.name], "a.wav", "audio/wav", WAV)
    body, content_type = forms.Form(texts, (file,)).encoded(replacing={})
    return post(url, secret, body, path=route.path, content_type=content_type)


def payloads(name: str) -> list[Any]:
    listed: list[Any] = json.loads((DATA / f"{name}.json").read_text())
    return listed


def test_whatever_the_gateway_serves_passes_the_gate_or_is_known_to_be_free() -> None:
    served: dict[str, set[str]] = {}
    for pattern in gateway_urls.urlpatterns:
        view = getattr(pattern.callback, "cls").__name__  # noqa: B009  # which its type does not know
        served.setdefault(view, set()).add(str(pattern.pattern))

    inference = served.pop("Inference")

    # Creating a batch passes the gate; files, polls and cancelling are billed by no provider
    # (tests/gateway/test_batches.py).
    batches = {"Batches", "BatchDetail", "BatchCancel", "Files", "FileDetail", "FileContent"}
    # A view that is not here can cost money, and must be a route instead.
    assert served.keys() - batches == {"Estimate", "Models", "KeyDetail", "RequestDetail"}
    assert batches <= served.keys()
    paths = {path.removeprefix("/") for route in ROUTES for path in paths_of(route)}
    assert inference == paths | {AZURE_PATH}
    assert all(find(path) == (route, None) for route in ROUTES for path in paths_of(route))


@pytest.mark.parametrize(
    "word",
    [
        "completions",
        "embeddings",
        "responses",
        "images",
        "audio",
        "moderations",
        "rerank",
        "messages",
    ],
)
def test_no_other_part_of_the_url_conf_has_an_inference_path(word: str) -> None:
    found = [
        path for path, view in all_paths(get_resolver().url_patterns)
        if word in path.split("/") and view != "Inference"
    ]  # fmt: skip

    assert found == []


def all_paths(patterns: list[Any], before: str = "") -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        path = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from all_paths(pattern.url_patterns, path)
        else:
            yield path, getattr(getattr(pattern.callback, "cls", None), "__name__", "")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_an_exhausted_budget_lets_nothing_through_on_any_route(
    route: Route, door: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    upstream.answers(Canned.json({"never": "sent"}))
    key = cast.key("0")

    answer = ask(door, key.secret, route, model)

    if route.is_free:
        assert answer.status == 200
        return
    assert answer.status == 429
    assert upstream.seen == []
    told = answer.json["error"]
    assert (told["code"], answer.headers["x-should-retry"]) == ("budget_exceeded", "false")
    assert answer.json.get("type") == ("error" if route is MESSAGES else None)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_blocked_key_gets_nothing_on_any_route(
    route: Route, stack: Stack, cast: Cast, upstream: Upstream, model: str
) -> None:
    upstream.answers(Canned.json({}))

    answer = ask(stack.lane, "sk-cp-" + "a" * 49, route, model)

    assert answer.status == 401
    assert upstream.seen == []


@pytest.mark.parametrize(
    ("route", "payload"),
    [(route, each) for route, name in PAYLOADS.items() for each in payloads(name)],
    ids=lambda value: value.name if isinstance(value, Route) else str(value.get("provider")),
)
def test_an_answer_passes_byte_for_byte_and_is_charged_by_its_classes(
    route: Route, payload: Any, stack: Stack, cast: Cast, upstream: Upstream, model: str
) -> None:
    canned = Canned((json.dumps(payload["answer"], indent=1).encode(),))
    upstream.answers(canned)

    answer = ask(stack.lane, cast.key("100").secret, route, model, **payload.get("request", {}))

    assert (answer.status, answer.body) == (200, canned.body)
    row = recorded(answer.headers["x-request-id"])
    if payload["classes"] is not None:
        assert row.usage == payload["classes"]
        assert row.cost > 0


@pytest.mark.parametrize(
    ("route", "payload"),
    [
        (route, each)
        for route in (MESSAGES, RESPONSES, TRANSCRIPTIONS)
        for each in payloads(PAYLOADS[route])
    ],
    ids=lambda value: value.name if isinstance(value, Route) else str(value.get("provider")),
)
def test_a_stream_passes_byte_for_byte_and_is_charged_by_its_classes(
    route: Route, payload: Any, door: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    told = events_of(PAYLOADS[route], payload["answer"])
    canned = Canned.events(told, named=route is MESSAGES)
    upstream.answers(canned)
    stream = "true" if route.name in FILES else True

    answer = ask(door, cast.key("100").secret, route, model, stream=stream)

    assert (answer.status, answer.body) == (200, canned.body)
    assert recorded(answer.headers["x-request-id"]).usage == payload["classes"]


def test_sound_passes_in_pieces_and_its_characters_are_charged(
    door: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    canned = Canned((b"ID3", b"\x00" * 5_000, b"end"), content_type="audio/mpeg")
    upstream.answers(canned)

    answer = ask(door, cast.key("1").secret, SPEECH, model, input="Grüße!")

    assert (answer.body, answer.headers["content-type"]) == (canned.body, "audio/mpeg")
    row = recorded(answer.headers["x-request-id"])
    assert (row.usage, row.flags) == ({"input_characters": 6, "request": 1}, [])


def test_a_transcript_without_usage_is_charged_by_how_long_the_recording_is(
    door: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    upstream.answers(Canned((b"Good evening.\n",), content_type="text/plain"))

    answer = ask(door, cast.key("1").secret, TRANSCRIPTIONS, model, response_format="text")

    row = recorded(answer.headers["x-request-id"])
    assert answer.body == b"Good evening.\n"
    assert (row.usage["input_audio_ms"], row.flags) == (2_000, ["estimated"])


def test_a_form_reaches_the_upstream_with_its_file_and_the_upstreams_name_of_the_model(
    door: str, cast: Cast, upstream: Upstream
) -> None:
    deployment = deployed(upstream, cast)
    upstream.answers(Canned.json({"text": "", "usage": {"type": "duration", "seconds": 2}}))

    ask(door, cast.key("1").secret, TRANSCRIPTIONS, deployment.model_name)

    (sent,) = upstream.seen
    form = forms.read(sent.body, content_type=sent.headers["content-type"])
    assert form.fields() == {"language": "en", "model": deployment.upstream_model}
    assert form.files == (forms.Upload("file", "a.wav", "audio/wav", WAV),)


def test_unknown_fields_pass_through_and_our_own_do_not(
    door: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    upstream.answers(Canned.json({}))

    ask(
        door, cast.key("1").secret, MESSAGES, model,
        brand_new={"a": [1, None]}, metadata={"user_id": "u", "tags": ["t"]},
    )  # fmt: skip

    (sent,) = upstream.seen
    assert sent.json["brand_new"] == {"a": [1, None]}
    assert sent.json["metadata"] == {"user_id": "u"}


def test_counting_tokens_costs_nothing_and_says_what_the_provider_says(
    door: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    upstream.answers(Canned.json({"input_tokens": 14}))

    answer = ask(door, cast.key("1").secret, COUNT_TOKENS, model)

    assert answer.json == {"input_tokens": 14}
    row = recorded(answer.headers["x-request-id"])
    assert not row.cost
    assert not row.usage
    assert not row.flags


def test_the_anthropic_sdk_runs_unchanged(door: str, cast: Cast, upstream: Upstream) -> None:
    deployment = deployed(upstream, cast)
    secret = cast.key("1").secret
    usage = {"input_tokens": 9, "output_tokens": 3}
    message: dict[str, Any] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
        "content": [], "stop_reason": None, "stop_sequence": None,
    }  # fmt: skip
    events = [
        {"type": "message_start", "message": message | {"usage": usage | {"output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": "Good evening."},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]  # fmt: skip
    upstream.answers(Canned.events(events, named=True))

    with (
        anthropic.Anthropic(base_url=door, api_key=secret, max_retries=0) as sdk,
        sdk.messages.stream(
            model=deployment.model_name, max_tokens=10, messages=HELLO, metadata={"user_id": "ann"}
        ) as stream,
    ):
        text = "".join(stream.text_stream)
        request_id = stream.response.headers["x-request-id"]

    assert text == "Good evening."
    row = recorded(request_id)
    assert (row.input_tokens, row.output_tokens, row.end_user) == (9, 3, "ann")
    assert row.flags == []


def test_the_anthropic_sdk_raises_its_own_errors_and_does_not_retry_a_spent_budget(
    door: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    upstream.answers(Canned.json({}))
    sdk = anthropic.Anthropic(base_url=door, api_key=cast.key("0").secret)

    with pytest.raises(anthropic.RateLimitError) as refusal:
        sdk.messages.create(model=model, max_tokens=10, messages=HELLO)

    body: Any = refusal.value.body
    assert body["type"] == "error"
    assert (body["error"]["type"], body["error"]["code"]) == ("rate_limit_error", "budget_exceeded")
    assert refusal.value.request.headers["x-stainless-retry-count"] == "0"


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK's word on some
def test_the_openai_sdk_runs_every_route_unchanged(
    door: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    sdk = openai.OpenAI(base_url=f"{door}/v1", api_key=cast.key("1").secret, max_retries=0)
    spoken = {"text": "hi", "usage": {"type": "duration", "seconds": 2}}
    tokens = {"input_tokens": 1, "output_tokens": 1}
    image = {"created": 1, "data": [{"b64_json": "AA=="}]}
    upstream.answers(
        Canned.json({"data": [{"embedding": [0.1], "index": 0}], "usage": {"prompt_tokens": 1}}),
        Canned.json({"id": "resp_1", "output": [], "usage": tokens}),
        Canned.json(image),
        Canned.json(image),
        Canned((b"ID3",), content_type="audio/mpeg"),
        Canned.json(spoken),
        Canned.json(spoken),
        Canned.json({"id": "modr_1", "model": model, "results": []}),
    )

    assert sdk.embeddings.create(model=model, input="hi", encoding_format="float").data
    assert sdk.responses.create(model=model, input="hi").id == "resp_1"
    assert sdk.images.generate(model=model, prompt="a cat").data
    assert sdk.images.edit(model=model, prompt="a hat", image=("a.png", b"png")).data
    assert sdk.audio.speech.create(model=model, input="hi", voice="alloy").content == b"ID3"
    file = ("a.wav", io.BytesIO(WAV))
    assert sdk.audio.transcriptions.create(model=model, file=file).text == "hi"
    assert sdk.audio.translations.create(model=model, file=file).text == "hi"
    assert sdk.moderations.create(model=model, input="hi").results == []
    assert [sent.path for sent in upstream.seen] == [
        route.path
        for route in (
            EMBEDDINGS, RESPONSES, IMAGE_GENERATIONS, IMAGE_EDITS, SPEECH, TRANSCRIPTIONS,
            TRANSLATIONS, MODERATIONS,
        )
    ]  # fmt: skip


def test_azures_client_runs_unchanged(door: str, cast: Cast, upstream: Upstream) -> None:
    deployment = deployed(upstream, cast)
    usage = {"prompt_tokens": 5, "completion_tokens": 1}
    upstream.answers(Canned.json({"id": "c", "choices": [], "usage": usage}))
    sdk = openai.AzureOpenAI(
        azure_endpoint=door, api_key=cast.key("1").secret, api_version="2025-01-01"
    )

    raw = sdk.chat.completions.with_raw_response.create(model=deployment.model_name, messages=HELLO)

    assert recorded(raw.headers["x-request-id"]).input_tokens == 5


def test_the_path_names_the_model_where_the_body_does_not(
    door: str, cast: Cast, upstream: Upstream, model: str
) -> None:
    upstream.answers(Canned.json({}))
    path = f"/openai/deployments/{model}/embeddings"

    answer = post(door, cast.key("1").secret, {"input": "hi"}, path=path)

    assert answer.status == 200
    assert orjson.loads(upstream.seen[0].body)["model"] == model


def test_what_is_no_route_of_a_deployment_is_not_found(
    stack: Stack, cast: Cast, upstream: Upstream, model: str
) -> None:
    answer = post(
        stack.lane, cast.key("1").secret, {}, path=f"/openai/deployments/{model}/nothing/there"
    )

    assert (answer.status, answer.error["code"]) == (404, "unknown_route")
