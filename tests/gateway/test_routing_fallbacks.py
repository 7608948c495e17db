"""Which models are tried instead, why, and of how many tokens a request will be."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import causes
from gateway.routing.causes import Cause, cause_of_error
from gateway.routing.fallbacks import HOPS_MAX, Override, Rule, combined, next_models
from gateway.routing.mix import HALF_LIFE_SECONDS, PRIOR_OUTPUT_TOKENS, Mixes
from gateway.routing.strategies import Strategy
from spend import pricing
from spend.components import INPUT_COMPONENTS, Component, total_of
from spend.rates import Price, Rate

pytestmark = pytest.mark.no_servers


# --- Rules ---------------------------------------------------------------------------------


def test_each_cause_has_models_of_its_own() -> None:
    rule = Rule(fallbacks={cause: (f"for-{cause.value}",) for cause in Cause})

    assert {cause: next_models(rule, cause) for cause in Cause} == {
        cause: (f"for-{cause.value}",) for cause in Cause
    }


@pytest.mark.parametrize(
    ("cause", "models"),
    [
        (Cause.CONTEXT_WINDOW, ("other",)),
        (Cause.CONTENT_POLICY, ("other",)),
        (Cause.BUDGET, ()),
    ],
)
def test_general_fallbacks_take_what_was_refused_but_not_what_has_no_budget(
    cause: Cause, models: tuple[str, ...]
) -> None:
    rule = Rule(fallbacks={Cause.DEFAULT: ("other",)})

    assert next_models(rule, cause) == models


def test_an_empty_list_means_that_nothing_else_is_tried() -> None:
    rule = Rule(fallbacks={Cause.DEFAULT: ("other",), Cause.CONTEXT_WINDOW: ()})

    assert next_models(rule, Cause.CONTEXT_WINDOW) == ()


def test_no_more_models_than_hops_are_named() -> None:
    rule = Rule(fallbacks={Cause.DEFAULT: tuple(f"m{n}" for n in range(9))})

    assert len(next_models(rule, Cause.DEFAULT)) == HOPS_MAX


def test_what_a_rule_leaves_open_is_as_the_more_general_one_says() -> None:
    default = Rule(Strategy.WEIGHTED, 2, {})
    everybody = Override(Strategy.LOWEST_COST, None, {Cause.DEFAULT: ("a",)})
    own = Override(None, 0, {Cause.BUDGET: ("b",)})

    rule = combined(default, [everybody, None, own])

    assert rule == Rule(Strategy.LOWEST_COST, 0, {Cause.DEFAULT: ("a",), Cause.BUDGET: ("b",)})


def test_an_override_can_say_nothing() -> None:
    assert Override().says_nothing
    assert not Override(fallbacks={Cause.DEFAULT: ()}).says_nothing
    assert not Override(retries=0).says_nothing


# --- What providers say --------------------------------------------------------------------

TOO_LONG = {
    "openai": (400, {"error": {
        "message": "This model's maximum context length is 4097 tokens. However, your messages "
        "resulted in 4294 tokens. Please reduce the length of the messages.",
        "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded",
    }}),
    "openai without a code": (400, {"error": {
        "message": "Input tokens exceed the configured limit of 272000 tokens.",
        "type": "invalid_request_error", "param": None, "code": None,
    }}),
    "azure": (400, {"error": {
        "message": "Too long.", "code": "context_length_exceeded", "status": 400,
    }}),
    "anthropic": (400, {"type": "error", "error": {
        "type": "invalid_request_error",
        "message": "prompt is too long: 205668 tokens > 200000 maximum",
    }}),
    "anthropic with its output": (400, {"type": "error", "error": {
        "type": "invalid_request_error",
        "message": "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    }}),
    "gemini": (400, [{"error": {
        "code": 400, "status": "INVALID_ARGUMENT",
        "message": "The input token count (1200000) exceeds the maximum number of tokens allowed "
        "(1048576).",
    }}]),
    "mistral": (400, {
        "object": "error", "type": "invalid_request_error", "code": "3051", "param": None,
        "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with "
        "32768 maximum context length",
    }),
    "bedrock": (400, {"message": "Input is too long for requested model."}),
    "bedrock's anthropic": (400, {
        "message": "The model returned the following errors: prompt is too long: 903884 tokens > "
        "200000 maximum",
    }),
    "vllm": (400, {
        "object": "error", "type": "BadRequestError", "param": None, "code": 400,
        "message": "The decoder prompt (length 10127) is longer than the maximum model length of "
        "8192. Make sure that `max_model_len` is no smaller.",
    }),
    "vllm, newer": (400, {"error": {
        "type": "BadRequestError", "param": "input_tokens", "code": 400,
        "message": "This model's maximum context length is 2048 tokens. However, your request has "
        "8 input tokens plus 2045 'max_tokens'.",
    }}),
    "openrouter": (400, {"error": {"code": 400, "message":
        "This endpoint's maximum context length is 131072 tokens. However, you requested about",
    }}),
    "llama.cpp": (400, {"error": {
        "code": 400, "type": "exceed_context_size_error", "message": "too much",
    }}),
    "text instead of an object": (413, {"error": "prompt is too long"}),
}  # fmt: skip
NOT_ALLOWED = {
    "openai": (400, {"error": {
        "code": "content_policy_violation", "type": "invalid_request_error", "param": None,
        "message": "Your request was rejected as a result of our safety system.",
    }}),
    "openai's images": (400, {"error": {"code": "moderation_blocked", "message": "no"}}),
    "openai's reasoning models": (400, {"error": {
        "code": "invalid_prompt", "type": "invalid_request_error",
        "message": "Invalid prompt: your prompt was flagged as potentially violating our usage "
        "policy.",
    }}),
    "azure": (400, {"error": {
        "code": "content_filter", "status": 400, "param": "prompt", "type": None,
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content "
        "management policy.",
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}},
    }}),
    "azure's inner error alone": (400, {"error": {
        "code": None, "message": "No.", "innererror": {"code": "ResponsibleAIPolicyViolation"},
    }}),
    "anthropic": (400, {"type": "error", "error": {
        "type": "invalid_request_error", "message": "Output blocked by content filtering policy",
    }}),
    "gemini": (400, [{"error": {
        "code": 400, "status": "INVALID_ARGUMENT",
        "message": "The prompt contains words that violate Google's Responsible AI practices.",
    }}]),
    "bedrock": (400, {
        "message": "The generated text has been blocked by our content filters.",
    }),
    "openrouter": (403, {"error": {
        "code": 403, "message": "openai/gpt-4 requires moderation. Your input was flagged for "
        '"violence".', "metadata": {"reasons": ["violence"]},
    }}),
}  # fmt: skip


@pytest.mark.parametrize("provider", TOO_LONG)
def test_a_request_that_is_too_long_is_recognised(provider: str) -> None:
    status, body = TOO_LONG[provider]

    assert cause_of_error(status, json.dumps(body).encode()) is Cause.CONTEXT_WINDOW


@pytest.mark.parametrize("provider", NOT_ALLOWED)
def test_content_that_is_not_allowed_is_recognised(provider: str) -> None:
    status, body = NOT_ALLOWED[provider]

    assert cause_of_error(status, json.dumps(body).encode()) is Cause.CONTENT_POLICY


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"code": "invalid_api_key", "message": "bad key"}}),
        (400, {"error": {"code": "string_above_max_length", "message": "user is too long"}}),
        (429, {"error": {"code": "context_length_exceeded"}}),
        (429, {"message": "Too many input tokens, please wait before trying again."}),
        (500, {"error": {"message": "prompt is too long"}}),
        (200, {"error": {"code": "content_filter"}}),
        (400, {"error": {"code": {"nested": 1}, "type": 7, "message": ["prompt is too long"]}}),
        (400, {"error": None}),
        (400, []),
        (400, "nothing to read"),
        (400, None),
    ],
)
def test_anything_else_has_no_cause(status: int, body: object) -> None:
    assert cause_of_error(status, json.dumps(body).encode()) is None


@pytest.mark.parametrize("body", [b"", b"<html>prompt is too long</html>", b"\xff\xfe", b"[" * 9])
def test_what_is_no_json_has_no_cause(body: bytes) -> None:
    assert cause_of_error(400, body) is None


def test_a_body_beyond_the_bound_is_not_read() -> None:
    told = {"error": {"code": "context_length_exceeded", "message": ""}}
    told["error"]["message"] = "x" * causes.BODY_BYTES_MAX

    assert cause_of_error(400, json.dumps(told).encode()) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["error", "code", "type", "message", "innererror"]), inner, max_size=4
    ),
    max_leaves=12,
)  # fmt: skip


@given(status=st.integers(100, 599), value=json_values)
def test_no_body_makes_reading_fail(status: int, value: object) -> None:
    body = json.dumps(value).encode("utf-8", "surrogatepass")

    assert cause_of_error(status, body) in {None, Cause.CONTEXT_WINDOW, Cause.CONTENT_POLICY}


# --- The expected mix ----------------------------------------------------------------------


def usage(prompt: int, output: int, cached: int = 0) -> dict[Component, int]:
    return {
        Component.INPUT: prompt - cached,
        Component.CACHED_READ: cached,
        Component.OUTPUT: output,
    }


def test_before_anything_is_known_four_bytes_are_a_token() -> None:
    expected = Mixes().expect("new", body_bytes=4_000, output_tokens_max=None)

    assert expected[Component.INPUT] == 1_000
    assert expected[Component.CACHED_READ] == 0
    assert expected[Component.OUTPUT] == PRIOR_OUTPUT_TOKENS


def test_what_requests_for_a_model_have_been_is_expected_of_the_next() -> None:
    mixes = Mixes()
    for number in range(200):
        mixes.learn("m", now=number, body_bytes=10_000, usage=usage(5_000, 40, cached=4_000))

    expected = mixes.expect("m", body_bytes=20_000, output_tokens_max=None)

    assert total_of(expected, INPUT_COMPONENTS) == pytest.approx(10_000, rel=0.01)
    assert expected[Component.CACHED_READ] == pytest.approx(8_000, rel=0.01)
    assert expected[Component.OUTPUT] == pytest.approx(40, abs=2)


def test_no_more_output_is_expected_than_is_asked_for() -> None:
    assert Mixes().expect("m", body_bytes=1, output_tokens_max=16)[Component.OUTPUT] == 16


def test_models_are_learnt_apart() -> None:
    mixes = Mixes()
    mixes.learn("short", now=0, body_bytes=400, usage=usage(100, 2))

    assert mixes.expect("long", body_bytes=4, output_tokens_max=None) == Mixes().expect(
        "long", body_bytes=4, output_tokens_max=None
    )


def test_what_has_changed_is_believed_after_some_hours() -> None:
    mixes = Mixes()
    for _ in range(1_000):
        mixes.learn("m", now=0, body_bytes=400, usage=usage(100, 1_000))

    for number in range(10):
        now = 10 * HALF_LIFE_SECONDS + number
        mixes.learn("m", now=now, body_bytes=400, usage=usage(100, 10))

    assert mixes.expect("m", body_bytes=4, output_tokens_max=None)[Component.OUTPUT] < 120


def test_so_many_models_are_kept_and_the_longest_unused_goes_first() -> None:
    mixes = Mixes(models_max=2)
    for model in ("a", "b", "a", "c"):
        mixes.learn(model, now=0, body_bytes=400, usage=usage(100, 9_000))

    assert len(mixes) == 2
    outputs = {m: mixes.expect(m, body_bytes=4, output_tokens_max=None) for m in "abc"}
    assert {m for m, told in outputs.items() if told[Component.OUTPUT] > 300} == {"a", "c"}


def test_models_that_left_are_forgotten() -> None:
    mixes = Mixes()
    mixes.learn("gone", now=0, body_bytes=400, usage=usage(100, 1))

    mixes.keep(["stays"])

    assert len(mixes) == 0


def test_the_cheaper_deployment_depends_on_the_mix() -> None:
    def price(inputs: str, outputs: str) -> Price:
        rates = ((Component.INPUT, inputs), (Component.OUTPUT, outputs))
        return Price("USD", tuple(Rate(each, Decimal(rate)) for each, rate in rates), "p")

    reads_cheaply, writes_cheaply = price("0.000001", "0.00001"), price("0.000005", "0.000001")
    reading, writing = Mixes(), Mixes()
    for _ in range(50):
        reading.learn("m", now=0, body_bytes=40_000, usage=usage(10_000, 10))
        writing.learn("m", now=0, body_bytes=400, usage=usage(100, 5_000))

    def cheaper(mixes: Mixes, body_bytes: int) -> Price:
        expected = mixes.expect("m", body_bytes=body_bytes, output_tokens_max=None)
        return min(
            (reads_cheaply, writes_cheaply),
            key=lambda each: pricing.cost(price=each, usage=expected).amount,
        )

    assert cheaper(reading, 40_000) is reads_cheaply
    assert cheaper(writing, 400) is writes_cheaply


@given(
    learnt=st.lists(
        st.tuples(
            st.floats(0, 1e6), st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 10**6)
        ),
        max_size=20,
    ),
    body_bytes=st.integers(0, 10**7),
    most=st.none() | st.integers(1, 10**6),
)
def test_an_expected_usage_is_never_negative_nor_above_what_is_asked(
    learnt: list[tuple[float, int, int, int]], body_bytes: int, most: int | None
) -> None:
    mixes = Mixes()
    for now, size, prompt, output in learnt:
        mixes.learn("m", now=now, body_bytes=size, usage=usage(prompt, output, cached=prompt // 2))

    expected = mixes.expect("m", body_bytes=body_bytes, output_tokens_max=most)

    assert {type(each) for each in expected.values()} == {int}
    assert min(expected.values()) >= 0
    assert most is None or expected[Component.OUTPUT] <= most
