import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spend.counting import token_cache
from spend.counting.token_cache import CACHED_CHARS_MIN, ENTRY_BYTES, CountCache

pytestmark = pytest.mark.no_servers

LONG = CACHED_CHARS_MIN


class Counter:
    """Counts characters, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, text: str) -> tuple[int, bool]:
        self.asked += 1
        return len(text), True


@given(text=st.text(st.characters(), min_size=LONG, max_size=LONG + 20))
def test_what_is_found_is_what_would_be_counted(text: str) -> None:
    cache, counter = CountCache(), Counter()

    counts = [cache.get(tokenizer="a", text=text, count=counter) for _ in range(3)]

    assert counts == [(len(text), True)] * 3
    assert counter.asked == 1


def test_tokenizers_do_not_share_counts() -> None:
    cache, counter = CountCache(), Counter()

    for tokenizer in ("o200k_base", "cl100k_base"):
        cache.get(tokenizer=tokenizer, text="a" * LONG, count=counter)

    assert counter.asked == 2


def test_short_texts_are_not_kept() -> None:
    cache = CountCache()

    cache.get(tokenizer="a", text="a" * (LONG - 1), count=Counter())

    assert len(cache) == 0


def test_the_least_recently_used_makes_room() -> None:
    cache, counter = CountCache(entries_max=2), Counter()

    for letter in "abaca":
        cache.get(tokenizer="a", text=letter * LONG, count=counter)
    cache.get(tokenizer="a", text="b" * LONG, count=counter)

    assert len(cache) == 2
    assert counter.asked == 4


def test_nothing_of_the_text_is_kept() -> None:
    cache = CountCache()

    cache.get(tokenizer="a", text="secret" * LONG, count=Counter())

    (name,) = cache._counts
    assert len(name) == token_cache.DIGEST_BYTES
    assert CountCache()._digest("a", "secret" * LONG) != name


def test_an_entry_has_no_more_bytes_than_are_reckoned() -> None:
    cache = CountCache()
    empty = sys.getsizeof(cache._counts)

    for number in range(1_000):
        text = f"{number}" * LONG
        cache.get(tokenizer="a", text=text, count=lambda text: (len(text) * 10**6, False))

    held = sys.getsizeof(cache._counts) - empty
    held += sum(
        sys.getsizeof(name) + sys.getsizeof(count) + sys.getsizeof(count[0])
        for name, count in cache._counts.items()
    )
    assert held <= 1_000 * ENTRY_BYTES


def test_threads_may_share_it() -> None:
    cache = CountCache(entries_max=4)
    wrong: list[int] = []

    def look() -> None:
        for number in range(2_000):
            text = "a" * (LONG + number % 8)
            count, _ = cache.get(tokenizer="a", text=text, count=lambda text: (len(text), True))
            if count != len(text):
                wrong.append(count)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert len(cache) == 4
