"""LangChain's clients, as they are, through both doors."""

import warnings
from typing import Any

import pytest
from pydantic import SecretStr

from tests.conftest import Cast
from tests.gateway.support import recorded
from tests.gateway.upstreams import Canned, Upstream, deployed

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from langchain_anthropic import ChatAnthropic
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

pytestmark = pytest.mark.filterwarnings("ignore")
TOKENS = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def chunk(**fields: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", **fields}


def test_langchains_openai_client_asks_and_streams(
    door: str, cast: Cast, upstream: Upstream
) -> None:
    model = deployed(upstream, cast).model_name
    message = {"role": "assistant", "content": "Hi!"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    client = ChatOpenAI(
        model=model, base_url=f"{door}/v1", api_key=SecretStr(cast.key("1").secret), max_retries=0,
        include_response_headers=True, stream_usage=True,
    )  # fmt: skip
    upstream.answers(
        Canned.json({"id": "c", "model": "m", "choices": [choice], "usage": TOKENS}),
        Canned.events(
            [
                chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": "Hi"}}]),
                chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]),
                chunk(choices=[], usage=TOKENS),
            ]
        ),
    )

    whole = client.invoke("hello")
    streamed = "".join(str(piece.content) for piece in client.stream("hello"))

    assert (whole.content, streamed) == ("Hi!", "Hi")
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == 9
    request_id = whole.response_metadata["headers"]["x-request-id"]
    assert recorded(request_id).input_tokens == 7


def test_langchains_embeddings_pass_as_tokens(door: str, cast: Cast, upstream: Upstream) -> None:
    model = deployed(upstream, cast).model_name
    upstream.answers(
        Canned.json({"data": [{"embedding": [0.5], "index": 0}], "usage": {"prompt_tokens": 3}})
    )
    client = OpenAIEmbeddings(
        model=model, base_url=f"{door}/v1", api_key=SecretStr(cast.key("1").secret),
        check_embedding_ctx_length=False,
    )  # fmt: skip

    assert client.embed_query("hello") == [0.5]


def test_langchains_anthropic_client_asks(door: str, cast: Cast, upstream: Upstream) -> None:
    model = deployed(upstream, cast).model_name
    upstream.answers(
        Canned.json(
            {
                "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
                "content": [{"type": "text", "text": "Hi!"}], "stop_reason": "end_turn",
                "usage": {"input_tokens": 4, "output_tokens": 2},
            }
        )
    )  # fmt: skip
    client = ChatAnthropic(
        model_name=model, base_url=door, api_key=SecretStr(cast.key("1").secret), max_retries=0,
        max_tokens_to_sample=10, timeout=None, stop=None,
    )  # fmt: skip

    answer = client.invoke("hello")

    assert answer.content == "Hi!"
    assert upstream.seen[0].path == "/v1/messages"
