"""One pipelined connection: replies find their commands, and what breaks it is never a "no"."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from budgets import scripts, store_connection, storekeeper
from budgets.errors import BudgetBusy, OutcomeUnknown
from budgets.livestore import LiveStore
from budgets.scripts import TAG
from budgets.store_connection import Address, StoreConnection
from budgets.store_interface import ReplyError, Store, connect
from tests.budgets.support import (
    Bench,
    CutWire,
    bench,
    entries_of,
    event_of,
    new_id,
    new_store,
)
from tests.conftest import Cast

NEVER_PUSHED = "test:never-pushed"
own_alone = pytest.mark.parametrize("client", ["own"], indirect=True)
"""What only a connection that all share has, or one that pipelines."""


@pytest.fixture(params=["own", "redis-py"])
def client(request: pytest.FixtureRequest) -> str:
    """Have each test run with both who can speak to the store."""
    return str(request.param)


@pytest.fixture
async def connection(alone: None, client: str) -> AsyncIterator[Store]:
    connection = connect(client=client, url=settings.REDIS_URL, timeout_ms=2_000)
    yield connection
    await connection.close()


@pytest.fixture
async def hasty(alone: None, client: str) -> AsyncIterator[Store]:
    """A connection that waits for 100 ms only."""
    connection = connect(client=client, url=settings.REDIS_URL, timeout_ms=100)
    await connection.command("PING")
    yield connection
    await connection.close()


@pytest.fixture
async def wires(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[store_connection._Wire]]:
    """Every socket that is opened; what a test leaves open is closed after it."""
    opened: list[store_connection._Wire] = []

    class Counted(store_connection._Wire):
        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            super().__init__(loop)
            opened.append(self)

    monkeypatch.setattr(store_connection, "_Wire", Counted)
    yield opened
    for wire in opened:
        wire.close()
    await asyncio.sleep(0)


# --- Addresses ---------------------------------------------------------------------------


@pytest.mark.no_servers
@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://host", Address("host", 6379, "", "", 0, tls=False)),
        ("redis://:p%40ss@host:7000/3", Address("host", 7000, "", "p@ss", 3, tls=False)),
        ("rediss://me:secret@host/", Address("host", 6379, "me", "secret", 0, tls=True)),
        ("redis:///2", Address("127.0.0.1", 6379, "", "", 2, tls=False)),
    ],
)
def test_url_tells_host_port_credentials_database_and_encryption(
    url: str, address: Address
) -> None:
    assert Address.of(url) == address


# --- Pipelining --------------------------------------------------------------------------


async def test_thousands_of_commands_in_flight_each_get_their_own_reply(
    connection: Store,
) -> None:
    sent = [f"marker {n}".encode() for n in range(5_000)]

    replies = await asyncio.gather(*(connection.command("ECHO", each) for each in sent))

    assert replies == sent


@own_alone
async def test_one_socket_serves_all_tasks(
    connection: Store, wires: list[store_connection._Wire]
) -> None:
    clients = await asyncio.gather(*(connection.command("CLIENT", "ID") for _ in range(50)))

    assert len(set(clients)) == 1
    assert len(wires) == 1


async def test_error_reply_reaches_its_own_command_only(connection: Store) -> None:
    replies = await asyncio.gather(
        connection.command("ECHO", "before"),
        connection.command("NO-SUCH-COMMAND"),
        connection.command("ECHO", "after"),
        return_exceptions=True,
    )

    assert (replies[0], replies[2]) == (b"before", b"after")
    assert isinstance(replies[1], ReplyError)


async def test_caller_that_gave_up_does_not_shift_the_replies_of_others(
    connection: Store,
) -> None:
    await connection.command("PING")
    impatient = asyncio.create_task(connection.command("ECHO", "nobody waits for this"))
    await asyncio.sleep(0)
    other = asyncio.create_task(connection.command("ECHO", "mine"))
    await asyncio.sleep(0)

    impatient.cancel()

    async with asyncio.timeout(5):
        assert await other == b"mine"


@own_alone
async def test_more_commands_than_the_bound_are_refused_at_once(
    connection: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connection.command("PING")
    monkeypatch.setattr(store_connection, "IN_FLIGHT_MAX", 3)

    replies = await asyncio.gather(
        *(connection.command("ECHO", str(n)) for n in range(5)), return_exceptions=True
    )

    assert replies[:3] == [b"0", b"1", b"2"]
    assert all(isinstance(reply, OutcomeUnknown) for reply in replies[3:])


async def test_database_of_the_url_is_the_one_that_is_used(alone: None) -> None:
    url = urlsplit(settings.REDIS_URL)._replace(path="/9").geturl()
    ninth = StoreConnection(url=url, timeout_ms=2_000)

    info = await ninth.command("CLIENT", "INFO")
    await ninth.close()

    assert isinstance(info, bytes)
    assert b" db=9 " in info


# --- Scripts -----------------------------------------------------------------------------


async def test_script_that_the_store_has_forgotten_is_loaded_again(
    connection: Store,
) -> None:
    words = [str(partition_generation())]
    await connection.run(scripts.RAISE_VERSIONS, key=TAG, arguments=words)
    await connection.command("SCRIPT", "FLUSH")

    reply = await connection.run(scripts.RAISE_VERSIONS, key=TAG, arguments=words)
    by_hash = await connection.command("EVALSHA", scripts.RAISE_VERSIONS.sha, "1", TAG, *words)

    assert reply == by_hash == [b"raised"]


async def test_request_goes_on_after_the_store_has_forgotten_every_script(
    store: LiveStore, cast: Cast
) -> None:
    team = await bench(store, cast.organization)
    storekeeper.store().script_flush()

    held = await team.reserve(5)
    storekeeper.store().script_flush()
    await team.settle(held, 3)

    assert (team.counter.spent, team.counter.reserved) == (3, 0)


# --- Breaking ----------------------------------------------------------------------------


@own_alone
async def test_cut_connection_leaves_all_in_flight_unknown_and_the_next_reconnects(
    connection: Store,
) -> None:
    client = await connection.command("CLIENT", "ID")
    waiting = [
        asyncio.create_task(connection.command(*words))
        for words in (("BLPOP", NEVER_PUSHED, "0"), ("ECHO", "behind it"), ("PING",))
    ]
    await asyncio.sleep(0.05)

    storekeeper.store().client_kill_filter(_id=client)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    reconnected = await connection.command("CLIENT", "ID")

    assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown] * 3
    assert reconnected != client


@own_alone
async def test_reply_that_does_not_come_in_time_leaves_all_in_flight_unknown(
    hasty: Store,
) -> None:
    client = await hasty.command("CLIENT", "ID")
    waiting = [
        asyncio.create_task(hasty.command(*words))
        for words in (("BLPOP", NEVER_PUSHED, "0"), ("ECHO", "behind it"))
    ]

    async with asyncio.timeout(1):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    reconnected = await hasty.command("CLIENT", "ID")

    assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown] * 2
    assert reconnected != client


async def test_connection_that_was_idle_for_long_is_not_taken_for_late(
    hasty: Store,
) -> None:
    client = await hasty.command("CLIENT", "ID")

    await asyncio.sleep(0.25)

    assert await hasty.command("CLIENT", "ID") == client


@own_alone
async def test_many_tasks_reconnect_with_one_socket(
    connection: Store, wires: list[store_connection._Wire]
) -> None:
    storekeeper.store().client_kill_filter(_id=await connection.command("CLIENT", "ID"))
    await asyncio.sleep(0.05)

    clients = await asyncio.gather(*(connection.command("CLIENT", "ID") for _ in range(20)))

    assert len(set(clients)) == 1
    assert len(wires) == 2


async def test_wrong_password_is_an_unknown_outcome(
    alone: None, wires: list[store_connection._Wire]
) -> None:
    connection = StoreConnection(url=_with_password("wrong"), timeout_ms=2_000)

    with pytest.raises(OutcomeUnknown) as refusal:
        await connection.command("PING")

    assert isinstance(refusal.value.__cause__, ReplyError)


async def test_connection_that_got_no_greeting_leaves_no_socket_open(
    alone: None, wires: list[store_connection._Wire]
) -> None:
    async with CutWire(loses="replies", cuts=1, hangs=True) as wire:
        connection = StoreConnection(url=wire.url, timeout_ms=100)
        with pytest.raises(OutcomeUnknown):
            await connection.command("PING")
        await asyncio.sleep(0.05)

        assert [each.is_open for each in wires] == [False]


async def test_connection_that_was_refused_leaves_no_socket_open(
    alone: None, wires: list[store_connection._Wire]
) -> None:
    connection = StoreConnection(url=_with_password("wrong"), timeout_ms=2_000)
    for _ in range(3):
        with pytest.raises(OutcomeUnknown):
            await connection.command("PING")

    await connection.close()
    await asyncio.sleep(0.05)

    assert [wire.is_open for wire in wires] == [False] * 3


async def test_store_that_does_not_answer_the_greeting_is_an_unknown_outcome(
    alone: None, wires: list[store_connection._Wire]
) -> None:
    async with CutWire(loses="replies", cuts=1, hangs=True) as wire:
        connection = StoreConnection(url=wire.url, timeout_ms=100)

        with pytest.raises(OutcomeUnknown):
            await connection.command("PING")

        assert await connection.command("PING") == b"PONG"
        await connection.close()


async def test_store_that_is_not_there_is_an_unknown_outcome(alone: None) -> None:
    async with CutWire() as wire:
        url = wire.url
    connection = StoreConnection(url=url, timeout_ms=1_000)

    with pytest.raises(OutcomeUnknown):
        await connection.command("PING")


# --- What survives it --------------------------------------------------------------------


@pytest.mark.parametrize("loses", ["requests", "replies"])
async def test_settle_on_a_connection_that_is_cut_counts_once(
    loses: str, store: LiveStore, cast: Cast
) -> None:
    direct = await bench(store, cast.organization)
    async with CutWire(loses=loses) as wire:
        live = new_store(url=wire.url)
        team = Bench(live, direct.account, direct.context)
        held = await team.reserve(10)
        wire.cuts = 2

        await team.settle(held, 4)

        assert wire.cuts == 0
        assert (team.counter.spent, team.counter.reserved) == (4, 0)
        assert len(entries_of(held.id)) == 1
        assert live.unconfirmed.of_unknown_outcome() == []
        await live.close()


@pytest.mark.parametrize("loses", ["requests", "replies"])
async def test_settle_that_no_retry_could_confirm_is_sent_again_later_and_counts_once(
    loses: str, store: LiveStore, cast: Cast
) -> None:
    direct = await bench(store, cast.organization)
    async with CutWire(loses=loses) as wire:
        live = new_store(url=wire.url)
        team = Bench(live, direct.account, direct.context)
        held = await team.reserve(10)
        wire.cuts = 100
        await team.settle(held, 4)
        kept = live.unconfirmed.of_unknown_outcome()
        wire.cuts = 0

        await live.resend()

        assert [event.id for event in kept] == [held.id]
        assert (team.counter.spent, team.counter.reserved) == (4, 0)
        assert len(entries_of(held.id)) == 1
        assert live.unconfirmed.of_unknown_outcome() == []
        await live.close()


async def test_settle_during_a_pause_of_the_store_counts_once(
    store: LiveStore, cast: Cast, wires: list[store_connection._Wire]
) -> None:
    direct = await bench(store, cast.organization)
    live = new_store(timeout_ms=100)
    team = Bench(live, direct.account, direct.context)
    held = await team.reserve(10)
    storekeeper.store().client_pause(600)

    await team.settle(held, 4)
    unknown = live.unconfirmed.of_unknown_outcome()
    await asyncio.sleep(0.6)
    await live.resend()
    await live.close()

    assert [event.id for event in unknown] == [held.id]
    assert (team.counter.spent, team.counter.reserved) == (4, 0)
    assert len(entries_of(held.id)) == 1


async def test_reserve_whose_reply_was_lost_is_ended_by_release(
    store: LiveStore, cast: Cast
) -> None:
    direct = await bench(store, cast.organization, limit=10)
    async with CutWire(loses="replies") as wire:
        live = new_store(url=wire.url)
        team = Bench(live, direct.account, direct.context)
        await live.now_ms()
        wire.cuts, id = 1, new_id()
        with pytest.raises(OutcomeUnknown):
            await team.reserve(10, id=id)
        with pytest.raises(BudgetBusy):
            await direct.reserve(1)

        unsent = event_of(id, 0, direct.context, direct.context.valid_from_ms)
        await live.release(id, otherwise=unsent)

        assert (direct.counter.spent, direct.counter.reserved) == (0, 0)
        await live.close()


async def test_release_whose_reply_was_lost_charges_nothing(store: LiveStore, cast: Cast) -> None:
    direct = await bench(store, cast.organization)
    async with CutWire(loses="replies") as wire:
        live = new_store(url=wire.url)
        team = Bench(live, direct.account, direct.context)
        held = await team.reserve(10)
        wire.cuts = 1

        await team.release(held)

        assert (team.counter.spent, team.counter.reserved) == (0, 0)
        assert live.unconfirmed.of_unknown_outcome() == []
        await live.close()


def partition_generation() -> int:
    return int(storekeeper.store().hget(f"{TAG}gen", "number"))


def _with_password(password: str) -> str:
    parts = urlsplit(settings.REDIS_URL)
    return parts._replace(netloc=f":{password}@{parts.hostname}:{parts.port}").geturl()
