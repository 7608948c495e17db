"""``/cache/*``: who may, what is dropped, and what is said where there is no cache."""

import uuid
from collections.abc import Iterator

import pytest
import redis
from pytest_django.fixtures import Settings

from budgets.scripts import TAG
from gateway.caching import scripts, upkeep
from tests.api_client import master
from tests.gateway.cache_support import EXPIRY, SIZES

SIZE = 1_000


@pytest.fixture
def elsewhere(settings: Settings) -> Iterator[redis.Redis]:
    """A database of the server that is this test's alone: emptying it hurts nobody."""
    base = settings.REDIS_URL.rpartition("/")[0]
    settings.RESPONSE_CACHE_URL = f"{base}/8"
    upkeep._server.cache_clear()
    server = redis.Redis.from_url(settings.RESPONSE_CACHE_URL)
    server.flushdb()
    yield server
    server.flushdb()
    server.close()
    upkeep._server().close()
    upkeep._server.cache_clear()


def keep(server: redis.Redis, key: str = "") -> str:
    key = key or uuid.uuid4().hex
    words = [key, "60000", str(SIZE), str(2**30), "an answer"]
    assert server.eval(scripts.KEEP.text, 1, scripts.TAG, *words) == [b"kept"]
    return key


def test_answers_are_dropped_by_their_keys_and_others_stay(elsewhere: redis.Redis) -> None:
    first, second, third = (keep(elsewhere) for _ in range(3))

    told = master().made("/cache/delete", keys=[first, second, "unknown"])

    assert told == {"status": "success", "deleted": 2}
    assert not elsewhere.exists(scripts.ENTRY + first, scripts.ENTRY + second)
    assert elsewhere.get(scripts.ENTRY + third) == b"an answer"
    assert elsewhere.zrange(EXPIRY, 0, -1) == [third.encode()]
    assert elsewhere.hgetall(SIZES) == {third.encode(): b"1000", b"total": b"1000"}


def test_all_answers_are_dropped_and_nothing_else(elsewhere: redis.Redis) -> None:
    elsewhere.set("of-somebody-else", "1")
    for _ in range(1_201):
        keep(elsewhere)

    assert master().made("/cache/flushall") == {"status": "success", "deleted": 1_201}

    assert elsewhere.keys(f"{scripts.TAG}*") == [SIZES.encode()]
    assert elsewhere.hgetall(SIZES) == {b"total": b"0"}
    assert elsewhere.get("of-somebody-else") == b"1"
    assert master().made("/cache/flushall")["deleted"] == 0


def test_ping_says_whether_there_is_a_cache(elsewhere: redis.Redis, settings: Settings) -> None:
    off = master().get("/cache/ping")
    settings.RESPONSE_CACHE = "on"

    told = master().told("/cache/ping")

    assert (off.status, off.error["code"]) == (503, "cache_unavailable")
    assert told == {"status": "healthy", "cache_type": "redis", "ping_response": True}


def test_a_server_that_is_away_is_told_as_such(elsewhere: redis.Redis, settings: Settings) -> None:
    upkeep._server().close()
    upkeep._server.cache_clear()
    settings.RESPONSE_CACHE_URL, settings.RESPONSE_CACHE = "redis://127.0.0.1:1/0", "on"

    replies = [
        master().get("/cache/ping"), master().post("/cache/flushall", {}),
        master().post("/cache/delete", {"keys": ["a"]}),
    ]  # fmt: skip

    assert [each.status for each in replies] == [503] * 3
    assert {each.error["code"] for each in replies} == {"cache_unavailable"}


@pytest.mark.parametrize("keys", [None, [], "a", [7], ["k" * 129]])
def test_keys_that_are_none_are_refused_and_nothing_is_dropped(
    keys: object, elsewhere: redis.Redis
) -> None:
    kept = keep(elsewhere)

    reply = master().post("/cache/delete", {"keys": keys})

    assert (reply.status, reply.error["param"]) in {(400, "keys"), (400, "keys[0]")}
    assert elsewhere.exists(scripts.ENTRY + kept) == 1


def test_the_live_stores_own_keys_are_not_the_caches(elsewhere: redis.Redis) -> None:
    assert not scripts.TAG.startswith(TAG)
    assert not scripts.ENTRY.startswith(TAG)
