from collections.abc import Iterator

import pytest

from tests.gateway import upstreams
from tests.gateway.upstreams import Upstream
from tests.stack import Stack


@pytest.fixture(scope="session")
def upstream(stack: Stack) -> Iterator[Upstream]:
    """An upstream of the tests' own, beside the sandbox."""
    with upstreams.running(stack.upstream_port) as running:
        yield running
