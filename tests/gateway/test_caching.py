"""The parts of the response cache: its bounds, its keys, and what it takes down of an answer."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import redis
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from gateway.caching import entries, scripts, slots
from gateway.caching.controls import USUAL, Controls
from gateway.caching.entries import BYTES_MAX, Entry
from gateway.caching.recording import NOT_KEPT, Recording, Room
from gateway.caching.replay import PIECE_BYTES, Replay
from gateway.caching.slots import Slot, slot_for
from gateway.caching.store import ENTRY_BYTES_MORE, CacheAway, ResponseCache
from gateway.routes import CHAT, COMPLETIONS, MESSAGES
from gateway.routes.asked import Asked
from spend import events
from spend.components import Component
from spend.events import Outcome
from spend.rates import PLAIN, Conditions
from tests.gateway.cache_support import EXPIRY, SIZES

ENTRY = Entry(
    organization_id=7, deployment="dep", provider="openai", upstream_model="gpt",
    made_at_ms=1_000_000, is_stream=True, content_type="text/event-stream",
    usage={Component.INPUT: 3, Component.OUTPUT: 2},
    conditions=Conditions("flex", "high", "eu"), body=b"one\n\ntwo\n\nthree\n\n",
    usage_only=((5, 10),),
)  # fmt: skip
SLOT = Slot("key", 7, "model", USUAL)
SERVED = Outcome(status=200, cost=Decimal(1), usage={Component.INPUT: 3})
TARGET: Any = SimpleNamespace(public_id="dep", provider="openai", upstream_model="gpt")


@pytest.fixture
async def cache(settings: Settings) -> AsyncIterator[ResponseCache]:
    """A cache in a database of its own."""
    base = settings.REDIS_URL.rpartition("/")[0]
    settings.RESPONSE_CACHE_URL = f"{base}/7"
    server().flushdb()
    made = ResponseCache()
    yield made
    await made.close()
    server().flushdb()


def server() -> redis.Redis:
    return redis.Redis.from_url(settings.RESPONSE_CACHE_URL)


def of_size(size: int) -> Entry:
    """Return an entry that takes so many bytes of the cache."""
    bare = replace(ENTRY, body=b"")
    return replace(ENTRY, body=b"x" * (size - len(entries.encode(bare)) - ENTRY_BYTES_MORE))


# --- Where it is kept ----------------------------------------------------------------------


async def test_what_is_kept_is_found_until_its_time_is_over(cache: ResponseCache) -> None:
    await cache.keep("a", ENTRY, seconds=1)

    assert await cache.find("a") == ENTRY
    assert await cache.find("b") is None
    await asyncio.sleep(1.1)
    assert await cache.find("a") is None


async def test_all_answers_together_stay_within_the_bound_and_what_fits_is_kept(
    cache: ResponseCache, settings: Settings
) -> None:
    settings.RESPONSE_CACHE_BYTES_MAX = 2_000_000
    for key in ("a", "b", "c"):
        await cache.keep(key, of_size(900_000), seconds=60)
    await cache.keep("d", of_size(200_000), seconds=60)

    found = [await cache.find(key) is not None for key in ("a", "b", "c", "d")]

    assert found == [True, True, False, True]
    assert server().hget(SIZES, "total") == b"2000000"


async def test_an_answer_that_replaces_another_takes_its_place_also_when_all_is_full(
    cache: ResponseCache, settings: Settings
) -> None:
    settings.RESPONSE_CACHE_BYTES_MAX = 1_000_000
    await cache.keep("a", of_size(1_000_000), seconds=60)
    newer = replace(of_size(900_000), deployment="other")
    await cache.keep("a", replace(newer, body=newer.body[:-100]), seconds=60)

    found = await cache.find("a")

    assert found is not None
    assert found.deployment == "other"
    assert server().hget(SIZES, "total") == server().hget(SIZES, "a")


async def test_what_has_expired_makes_room(cache: ResponseCache, settings: Settings) -> None:
    settings.RESPONSE_CACHE_BYTES_MAX = 1_000_000
    await cache.keep("a", of_size(600_000), seconds=1)
    await cache.keep("b", of_size(600_000), seconds=60)
    assert await cache.find("b") is None
    await asyncio.sleep(1.1)

    await cache.keep("b", of_size(600_000), seconds=60)

    assert await cache.find("b") is not None
    assert server().zrange(EXPIRY, 0, -1) == [b"b"]
    assert server().hgetall(SIZES) == {b"b": b"600000", b"total": b"600000"}


async def test_many_at_once_never_pass_the_bound(cache: ResponseCache, settings: Settings) -> None:
    settings.RESPONSE_CACHE_BYTES_MAX = 1_000_000

    await asyncio.gather(*(cache.keep(f"k{n}", of_size(100_000), seconds=60) for n in range(40)))

    assert server().zcard(EXPIRY) == len(server().keys(f"{scripts.ENTRY}*")) == 10
    assert server().hget(SIZES, "total") == b"1000000"


@pytest.mark.parametrize("lost", [EXPIRY, SIZES])
async def test_a_server_that_drops_keys_by_itself_leaves_a_cache_that_works(
    lost: str, cache: ResponseCache, settings: Settings
) -> None:
    settings.RESPONSE_CACHE_BYTES_MAX = 1_000_000
    await cache.keep("a", of_size(600_000), seconds=60)
    server().delete(lost, f"{scripts.ENTRY}a")

    await cache.keep("b", of_size(600_000), seconds=60)

    assert await cache.find("b") is not None


async def test_a_server_that_refuses_an_answer_still_gives_others(
    cache: ResponseCache, settings: Settings
) -> None:
    await cache.keep("a", ENTRY, seconds=60)
    server().set(EXPIRY, "no sorted set")

    await cache.keep("b", ENTRY, seconds=60)

    assert await cache.find("a") == ENTRY
    assert await cache.find("b") is None


async def test_a_cache_that_is_away_says_so_and_is_not_asked_again_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RESPONSE_CACHE_URL = "redis://127.0.0.1:1/0"
    cache = ResponseCache()
    with pytest.raises(CacheAway):
        await cache.find("a")
    asked: list[object] = []
    monkeypatch.setattr(cache._connection, "command", lambda *words: asked.append(words))

    with pytest.raises(CacheAway):
        await cache.find("a")
    await cache.keep("a", ENTRY, seconds=60)

    assert asked == []


# --- Keys ----------------------------------------------------------------------------------


def key_of(fields: dict[str, Any], **more: Any) -> str:
    asked = Asked(fields={"model": "m"} | fields, model=more.pop("model", "m"))
    known: dict[str, Any] = {
        "route": CHAT, "passed_on": {}, "organization_id": 7, "controls": USUAL, "body_bytes": 10,
    }  # fmt: skip
    slot = slot_for(asked, **known | more)
    assert slot is not None
    return slot.key


@pytest.mark.no_servers
@pytest.mark.parametrize(
    "more",
    [
        {"organization_id": 8},
        {"route": COMPLETIONS},
        {"model": "n"},
        {"controls": Controls(namespace="n")},
        {"passed_on": {"anthropic-beta": "x"}},
    ],
)
def test_key_tells_apart_whose_for_what_and_how(more: dict[str, Any]) -> None:
    assert key_of({}, **more) != key_of({})


@pytest.mark.no_servers
@pytest.mark.parametrize(
    "fields",
    [
        {"user": "a", "metadata": {"b": 1}, "safety_identifier": "c"},
        {"stream": False},
        {"stream": None, "stream_options": {"include_usage": True}},
        {"cache": {"ttl": 5}},
    ],
)
def test_key_does_not_tell_for_whom_and_how_long(fields: dict[str, Any]) -> None:
    assert key_of(fields) == key_of({})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@pytest.mark.no_servers
@given(one=JSON, other=JSON)
def test_key_is_the_same_for_what_is_the_same_alone(one: Any, other: Any) -> None:
    same = orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        other, option=orjson.OPT_SORT_KEYS
    )

    assert (key_of({"x": one}) == key_of({"x": other})) is same


@pytest.mark.no_servers
def test_parts_of_a_key_cannot_be_moved_into_each_other() -> None:
    keys = {
        key_of({}, model='m",{"x":"', controls=Controls(namespace="")),
        key_of({}, model="m", controls=Controls(namespace='",m')),
        key_of({"x": ""}, model="m"),
        key_of({}, passed_on={"anthropic-beta": "a", "anthropic-version": "b"}, route=MESSAGES),
        key_of({}, passed_on={"anthropic-beta": 'a"],["anthropic-version","b'}, route=MESSAGES),
    }

    assert len(keys) == 5


@pytest.mark.no_servers
def test_who_neither_reads_nor_keeps_needs_no_key() -> None:
    asked = Asked(fields={"model": "m"}, model="m")
    known: dict[str, Any] = {"route": CHAT, "passed_on": {}, "organization_id": 7}

    neither = slot_for(asked, **known, controls=Controls(reads=False, keeps=False), body_bytes=1)
    too_large = slot_for(asked, **known, controls=USUAL, body_bytes=slots.BODY_BYTES_MAX + 1)

    assert (neither, too_large) == (None, None)


# --- What is kept --------------------------------------------------------------------------


@pytest.mark.no_servers
def test_an_entry_is_the_same_when_it_is_read_again() -> None:
    assert entries.decode(entries.encode(ENTRY)) == ENTRY


@pytest.mark.no_servers
@given(kept=st.binary(max_size=60))
def test_what_is_no_entry_is_refused_as_such(kept: bytes) -> None:
    with pytest.raises(ValueError, match="no kept answer"):
        entries.decode(kept)


@pytest.mark.no_servers
def test_the_usage_of_a_stream_is_left_out_wherever_it_stood() -> None:
    assert ENTRY.without_usage() == b"one\n\nthree\n\n"
    assert replace(ENTRY, usage_only=((0, 5), (10, 17))).without_usage() == b"two\n\n"
    assert replace(ENTRY, usage_only=()).without_usage() == ENTRY.body


@pytest.mark.no_servers
def test_age_is_never_below_nothing() -> None:
    assert ENTRY.age_seconds(now_ms=1_002_999) == 2
    assert ENTRY.age_seconds(now_ms=5) == 0


def entry_of(recording: Recording, outcome: Outcome = SERVED) -> Entry | None:
    return recording.entry(TARGET, outcome, is_stream=True, content_type="text/event-stream")


@pytest.mark.no_servers
def test_a_recording_keeps_all_events_once_and_knows_which_tell_usage_alone() -> None:
    recording = Recording(SLOT, Room(bytes_max=2 * BYTES_MAX))
    for event, only_usage in ((b"data: 1\n\n", False), (b"data: 2\n\n", True)):
        recording.add_event(event, only_usage=only_usage)

    first, second = entry_of(recording), entry_of(recording)

    assert first is not None
    assert (first.body, first.usage_only) == (b"data: 1\n\ndata: 2\n\n", ((9, 18),))
    assert (first.organization_id, first.usage, first.conditions) == (7, SERVED.usage, PLAIN)
    assert second is None


@pytest.mark.no_servers
@pytest.mark.parametrize("flag", sorted(NOT_KEPT))
def test_an_answer_that_is_flagged_as_doubtful_is_not_kept(flag: str) -> None:
    recording = Recording(SLOT, Room(bytes_max=2 * BYTES_MAX))
    recording.add_body(b"{}")

    assert entry_of(recording, replace(SERVED, flags=(flag,))) is None


@pytest.mark.no_servers
@pytest.mark.parametrize("flag", [events.RATE_STALE, events.UNPRICED, events.TIER_UNPRICED])
def test_an_answer_whose_price_alone_is_doubtful_is_kept(flag: str) -> None:
    recording = Recording(SLOT, Room(bytes_max=2 * BYTES_MAX))
    recording.add_body(b"{}")

    assert entry_of(recording, replace(SERVED, flags=(flag,))) is not None


@pytest.mark.no_servers
@pytest.mark.parametrize("status", [0, 201, 206, 400, 500])
def test_an_answer_with_another_status_is_not_kept(status: int) -> None:
    recording = Recording(SLOT, Room(bytes_max=2 * BYTES_MAX))
    recording.add_body(b"{}")

    assert entry_of(recording, replace(SERVED, status=status)) is None


@pytest.mark.no_servers
def test_an_answer_that_is_too_large_is_forgotten_at_once() -> None:
    recording = Recording(SLOT, Room(bytes_max=2 * BYTES_MAX))
    for _ in range(BYTES_MAX // 2**16 + 1):
        recording.add_sound(bytes(2**16))

    assert recording._pieces == []
    assert entry_of(recording) is None


@pytest.mark.no_servers
@pytest.mark.parametrize(
    ("told", "is_kept"),
    [
        ({"error": {"message": "no"}}, False),
        ({"error": "no"}, False),
        ({"type": "response.failed", "response": {"error": {"code": "x"}}}, False),
        ({"error": None, "response": {"error": None}}, True),
        ({"text": 'it said "error" to me'}, True),
        ([{"error": 1}], True),
    ],
)
def test_an_answer_that_tells_of_an_error_is_not_kept(told: object, is_kept: bool) -> None:
    whole, streamed = (
        Recording(SLOT, Room(bytes_max=2 * BYTES_MAX)),
        Recording(SLOT, Room(bytes_max=2 * BYTES_MAX)),
    )
    whole.add_body(orjson.dumps(told))
    streamed.add_event(b"data: " + orjson.dumps(told) + b"\n\n", only_usage=False)

    assert [entry_of(each) is not None for each in (whole, streamed)] == [is_kept, is_kept]


@pytest.mark.no_servers
def test_answers_on_their_way_hold_no_more_memory_than_there_is_room_for() -> None:
    room = Room(bytes_max=10)
    first, second = Recording(SLOT, room), Recording(SLOT, room)
    first.add_sound(b"12345678")
    second.add_sound(b"123")

    assert entry_of(second) is None
    assert entry_of(first) is not None
    assert room.take(10)


@pytest.mark.no_servers
def test_an_answer_that_nobody_keeps_gives_its_room_back() -> None:
    room = Room(bytes_max=10)
    failed, wrong = Recording(SLOT, room), Recording(SLOT, room)
    failed.add_sound(b"12345")
    wrong.add_sound(b"12345")
    wrong.add_body(b'{"error": 1}')
    del failed

    assert room.take(10)


# --- Streams -------------------------------------------------------------------------------


@pytest.mark.no_servers
@pytest.mark.parametrize(
    ("body", "in_events", "pieces"),
    [
        (b"data: 1\n\ndata: 2\r\n\r\nrest", True, [b"data: 1\n\n", b"data: 2\r\n\r\n", b"rest"]),
        (bytes(PIECE_BYTES + 1), False, [bytes(PIECE_BYTES), b"\0"]),
        (b"", True, []),
    ],
)
async def test_a_replay_gives_all_bytes_and_ends_once(
    body: bytes, in_events: bool, pieces: list[bytes]
) -> None:
    ended: list[Collection[str]] = []
    replay = Replay(body, in_events=in_events)
    replay.when_settled = ended.append

    got = [piece async for piece in replay]
    await replay.aclose()
    replay.let_go()

    assert (got, ended) == (pieces, [()])


@pytest.mark.no_servers
@pytest.mark.parametrize("closes_late", [True, False])
async def test_a_replay_that_is_left_ends_there(closes_late: bool) -> None:
    ended: list[Collection[str]] = []
    replay = Replay(b"data: 1\n\ndata: 2\n\n", in_events=True)
    replay.when_settled = ended.append
    await anext(replay)

    await replay.aclose() if closes_late else replay.let_go()

    assert ended == [(events.CLIENT_CLOSED,)]
    assert [piece async for piece in replay] == []
