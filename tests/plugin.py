"""
Starts throw-away servers before Django's settings are read, and ends them after the last test.

The developer's own DATABASE_URL and REDIS_URL are never touched: COSTPLATFORM_TEST_DATABASE_URL
and COSTPLATFORM_TEST_REDIS_URL name servers that tests may use instead of their own.
"""

import contextlib
import os
from collections.abc import Generator

import pytest

from costplatform import env, servers


# A wrapper, so that it comes before pytest-django, which reads the settings in this hook.
@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    running = contextlib.ExitStack()
    # Called even if the tests cannot be collected, or Ctrl-C ends them.
    early_config.add_cleanup(running.close)
    given = servers.Addresses(
        database_url=env.text("COSTPLATFORM_TEST_DATABASE_URL", ""),
        redis_url=env.text("COSTPLATFORM_TEST_REDIS_URL", ""),
    )
    addresses = running.enter_context(servers.throwaway(given=given))
    for name, address in addresses._asdict().items():
        os.environ[name.upper()] = address
        os.environ.pop(f"{name.upper()}_FILE", None)
    return (yield)
