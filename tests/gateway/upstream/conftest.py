import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import pytest
import uvloop

from gateway.upstream import Upstream
from tests.gateway.upstream.raw_servers import client

Loops = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]
USUAL: Final[Loops] = {"asyncio": asyncio.new_event_loop}
BOTH: Final[Loops] = {**USUAL, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Loops:
    """Modules that say ``BOTH_LOOPS`` run on the loop that web processes have, too."""
    assert isinstance(item, pytest.Function)
    return BOTH if getattr(item.module, "BOTH_LOOPS", False) else USUAL


@pytest.fixture(params=["own", "aiohttp"])
def named(request: pytest.FixtureRequest, settings: Any) -> str:
    """Have each test run with both clients of upstreams."""
    settings.GATEWAY_UPSTREAM_CLIENT = request.param
    return str(request.param)


@pytest.fixture
async def upstream(named: str) -> AsyncIterator[Upstream]:
    async with client() as made:
        yield made
