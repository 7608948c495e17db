import asyncio
import json
import threading
import time
from functools import cache
from pathlib import Path

import pytest
from bpe_openai import get_encoding
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spend.counting import prompt_tokens, tokens
from spend.counting.tokens import CL100K, CLAUDE, O200K, OTHER, TEXT_CHARS_MAX, Count

pytestmark = pytest.mark.no_servers

CASES = json.loads((Path(__file__).parents[1] / "data" / "tokens.json").read_text())["cases"]
TOKENIZERS = (O200K, CL100K, CLAUDE, OTHER)
EXACT = (O200K, CL100K)
encodings = cache(lambda: {name: get_encoding(name) for name in EXACT})
any_text = st.text(st.characters()) | st.text(st.sampled_from(" \n\t'sd1.,/<|>aéя中🙂\u0301\ud800"))


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    for tokenizer in EXACT:
        tokens.count_by(tokenizer, "a")


def counted(case: dict) -> Count:
    if case["kind"] == "tiktoken":
        return tokens.count_by(case["encoding"], case["text"])
    if case["kind"] == "text":
        return tokens.count_text(text=case["text"], model=case["model"])
    return prompt_tokens.count_request(request=case, model=case["model"])


@pytest.mark.parametrize("kind", ["messages", "text", "tiktoken"])
def test_known_counts_are_met_to_the_token_where_exact_else_within_15_percent(kind: str) -> None:
    cases = [case for case in CASES if case["kind"] == kind]
    missed = []

    for case in cases:
        count = counted(case)
        (known,) = case["observed"].values()
        is_met = abs(count.tokens - known) * 100 <= (0 if case["exact"] else 15 * known)
        if not is_met or count.is_exact != case["exact"]:
            missed.append((case["id"], known, count))

    assert len(cases) >= 24
    assert missed == []


@pytest.mark.parametrize(
    ("model", "tokenizer"),
    [
        ("gpt-4o", O200K), ("gpt-4o-mini-2024-07-18", O200K), ("gpt-4.1-nano", O200K),
        ("gpt-5", O200K), ("gpt-5.1-codex", O200K), ("o1", O200K), ("o3-mini", O200K),
        ("o4-mini", O200K), ("chatgpt-4o-latest", O200K), ("openai/GPT-4o", O200K),
        ("openai.gpt-oss-120b-1:0", O200K), ("ft:gpt-4o-mini:us::id", O200K),
        ("azure/eu/gpt-35-turbo", CL100K), ("gpt-4", CL100K), ("gpt-4-0613", CL100K),
        ("gpt-4-turbo", CL100K), ("gpt-3.5-turbo-0301", CL100K),
        ("text-embedding-3-small", CL100K), ("text-embedding-ada-002", CL100K),
        ("claude-sonnet-4-5", CLAUDE), ("anthropic.claude-3-haiku-v1:0", CLAUDE),
        ("gemini-2.5-pro", OTHER), ("gpt-4.7", OTHER), ("gpt-40", OTHER), ("gpt-9", OTHER),
        ("o10", OTHER), ("olmo", OTHER), ("text-davinci-003", OTHER), ("", OTHER),
    ],
)  # fmt: skip
def test_a_models_name_says_what_counts_for_it(model: str, tokenizer: str) -> None:
    assert tokens.tokenizer_of(model) == tokenizer


@given(text=any_text)
def test_every_count_is_whole_and_the_same_each_time(text: str) -> None:
    for tokenizer in TOKENIZERS:
        count = tokens.count_by(tokenizer, text)
        assert count == tokens.count_by(tokenizer, text)
        assert count.tokens >= 0
        assert (count.tokens == 0) == (not text)
        assert count.is_exact == (tokenizer in EXACT)


@given(text=any_text)
def test_no_published_encoding_has_more_tokens_than_bytes(text: str) -> None:
    for tokenizer in EXACT:
        assert tokens.count_by(tokenizer, text).tokens <= len(text.encode(errors="surrogatepass"))


@given(first=any_text, second=any_text)
def test_an_estimate_of_two_texts_is_about_the_sum_of_theirs(first: str, second: str) -> None:
    apart = sum(tokens.count_by(CLAUDE, text).tokens for text in (first, second))

    together = tokens.count_by(CLAUDE, first + second).tokens

    # The larger of two counts is taken apart, so the parts may be more, by half at most.
    assert together <= apart + 4
    assert apart <= 2 * together + 4


@settings(max_examples=300)
@given(text=any_text, chars=st.integers(2, 12))
def test_pieces_make_up_the_text_and_cut_at_seams_only_where_the_encodings_do(
    text: str, chars: int
) -> None:
    cut = list(tokens.pieces(text, chars=chars))

    assert "".join(piece for piece, _ in cut) == text
    assert all(0 < len(piece) <= chars for piece, _ in cut[:-1])
    assume(all(is_at_seam for _, is_at_seam in cut))
    for name in EXACT:
        encoding = encodings()[name]
        whole = len(encoding.encode_ordinary(text))
        assert sum(len(encoding.encode_ordinary(piece)) for piece, _ in cut) == whole


def test_a_long_text_with_words_is_counted_exactly() -> None:
    text = (Path(__file__).read_text() * 20)[:200_000]

    for name in EXACT:
        whole = len(encodings()[name].encode_ordinary(text))
        assert tokens.count_by(name, text) == Count(whole, True, name)


def test_a_long_text_without_a_place_to_cut_is_an_estimate_close_to_the_truth() -> None:
    text = "中文" * 30_000

    count = tokens.count_by(O200K, text)

    whole = len(encodings()[O200K].encode_ordinary(text))
    assert not count.is_exact
    assert abs(count.tokens - whole) <= len(text) // tokens.PIECE_CHARS


def test_what_looks_like_a_special_token_is_plain_text() -> None:
    assert tokens.count_by(CL100K, "<|endoftext|>") == Count(7, True, CL100K)


@pytest.mark.parametrize(
    "text",
    ["a", " ", "\n", "\ud800", "🙂", "<|endoftext|>", "9", "!", "ก", "\u0301", "aB", "'s", "/\n"],
)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_hostile_text_takes_time_in_proportion_to_its_length(tokenizer: str, text: str) -> None:
    long = text * (TEXT_CHARS_MAX // len(text))

    began = time.perf_counter()
    count = tokens.count_by(tokenizer, long)

    assert time.perf_counter() - began < 5
    assert count.tokens > 0


def test_what_is_beyond_the_longest_text_counts_by_its_bytes() -> None:
    beyond = "word " * 1_000

    count = tokens.count_by(O200K, "a" * TEXT_CHARS_MAX + beyond)

    assert count.tokens == tokens.count_by(O200K, "a" * TEXT_CHARS_MAX).tokens + 1_250
    assert not count.is_exact


def test_many_threads_load_an_encoding_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []

    def load(name: str) -> object:
        loads.append(name)
        time.sleep(0.05)
        return object()

    monkeypatch.setattr("bpe_openai.get_encoding", load)
    monkeypatch.setattr(tokens, "_loaded", {})
    threads = [threading.Thread(target=tokens._encoding, args=[O200K]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert loads == [O200K]


@pytest.mark.parametrize(("chars", "is_aside"), [(4_096, False), (4_097, True)])
async def test_what_is_long_is_counted_in_a_thread(chars: int, is_aside: bool) -> None:
    counted_in: list[str] = []

    def count() -> int:
        counted_in.append(threading.current_thread().name)
        return 7

    assert await tokens.aside(count=count, chars=chars, model="gpt-4o", otherwise=0) == 7
    assert counted_in[0].startswith("tokens") == is_aside


async def test_an_encoding_is_loaded_in_a_thread_however_short_the_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "_loaded", {})

    name = await tokens.aside(
        count=lambda: threading.get_ident(), chars=1, model="gpt-4o", otherwise=0
    )

    assert name != threading.get_ident()


async def test_where_too_many_wait_the_count_is_what_it_is_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "_waiting", tokens._Waiting(at_most=2))
    go = threading.Event()

    def count() -> int:
        return 1 if go.wait(5) else 0

    def ask() -> "asyncio.Task[int]":
        return asyncio.create_task(
            tokens.aside(count=count, chars=10**6, model="gpt-4o", otherwise=9)
        )

    waiting = [ask(), ask()]
    await asyncio.sleep(0)
    assert await ask() == 9
    go.set()
    assert await asyncio.gather(*waiting) == [1, 1]
    assert await ask() == 1


async def test_others_go_on_while_a_long_text_is_counted() -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 23_000
    task = asyncio.create_task(
        tokens.aside(
            count=lambda: tokens.count_by(CLAUDE, text).tokens,
            chars=len(text),
            model="claude",
            otherwise=0,
        )
    )

    turns = 0
    while not task.done():
        await asyncio.sleep(0.001)
        turns += 1

    assert task.result() > 200_000
    assert turns >= 3
