"""
Faults on servers of a scenario's own. ``FAULTS=full`` runs the whole sizes, otherwise a sample;
``FAULTS_SEED`` repeats a run; ``FAULTS_REPORT=PATH`` writes the table.
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from costplatform import env
from tests.faults import scenario, table
from tests.faults.load import allow_files
from tests.faults.scenario import Scenario, Sizes, Wanted
from tests.faults.servers import Postgres, make_template
from tests.faults.table import Line

HERE = Path(__file__).parent
SEED = int(os.environ.get("FAULTS_SEED") or random.randrange(1, 1_000_000))
FILES = 10_000

Begin = Callable[..., Scenario]
Report = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if table.LINES:
        terminalreporter.section("faults")
        for line in table.text(table.LINES):
            terminalreporter.write_line(line)
        table.write(table.LINES)


@pytest.fixture(autouse=True)
def _database(django_db_blocker: Any) -> Iterator[None]:
    """Let Django reach a database, but not that of the other tests: a scenario brings its own."""
    with django_db_blocker.unblock():
        yield
        connections.close_all()


@pytest.fixture(scope="session")
def template() -> Iterator[Postgres]:
    """A migrated and seeded Postgres, made once, which every scenario copies."""
    allow_files(FILES)
    folder = Path(tempfile.mkdtemp(prefix="faults-template-", dir=env.data_directory()))
    seed = [sys.executable, "-m", "costplatform", "seed", "--migrate"]
    made = make_template(folder, seed=seed, env=scenario.variables("", ""))
    yield made
    made.remove()


@pytest.fixture
def sizes() -> Sizes:
    return Sizes(full=os.environ.get("FAULTS") == "full", seed=SEED)


@pytest.fixture
def begin(template: Postgres, sizes: Sizes) -> Iterator[Begin]:
    """Start a scenario; it is ended after the test."""
    with ExitStack() as running:
        yield lambda **options: running.enter_context(
            scenario.begin(template, Wanted(seed=sizes.seed, **options))
        )


@pytest.fixture
def report(request: pytest.FixtureRequest, sizes: Sizes) -> Report:
    """Add a line to the table, under the name of the test."""
    began = time.monotonic()
    name = request.node.name.removeprefix("test_").replace("_", " ")

    def add(**figures: object) -> None:
        table.LINES.append(Line(name, figures, sizes.seed, time.monotonic() - began))

    return add
