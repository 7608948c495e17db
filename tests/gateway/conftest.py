import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import pytest
import uvloop

Loops = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]
USUAL: Final[Loops] = {"asyncio": asyncio.new_event_loop}
BOTH: Final[Loops] = {**USUAL, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Loops:
    """Modules that say ``BOTH_LOOPS`` run on the loop that web processes have, too."""
    assert isinstance(item, pytest.Function)
    return BOTH if getattr(item.module, "BOTH_LOOPS", False) else USUAL
