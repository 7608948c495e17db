"""Failpoints do what they are told, and nothing where nobody told them anything."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from budgets import failpoints

pytestmark = pytest.mark.no_servers


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def hits_survived(orders: str, *, hits: int = 20) -> int:
    code = (
        "import sys; from budgets import failpoints; failpoints.arm(sys.stdin.read())\n"
        f"for n in range({hits}):\n"
        "    failpoints.hit(failpoints.AFTER_RESERVE); print(n, flush=True)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], input=orders, capture_output=True, text=True, check=False
    )
    assert ran.returncode in {0, -signal.SIGKILL}, ran.stderr
    return len(ran.stdout.splitlines())


def test_without_orders_a_hit_is_the_function_that_does_nothing() -> None:
    failpoints.arm("")

    assert failpoints.hit is failpoints._nothing


def test_a_kill_is_carried_out_at_the_hit_it_names() -> None:
    assert hits_survived("after_reserve=kill#17") == 16


def test_other_points_than_the_one_named_are_passed() -> None:
    assert hits_survived("after_settle=kill") == 20


def test_the_same_seed_kills_at_the_same_hit() -> None:
    first, second = (hits_survived("after_reserve=kill@0.1,seed=7", hits=200) for _ in range(2))

    assert first == second < 200


def test_a_pause_lasts_as_long_as_it_says() -> None:
    failpoints.arm("mid_stream=pause:60")

    began = time.monotonic()
    failpoints.hit(failpoints.MID_STREAM)

    assert time.monotonic() - began >= 0.06


@pytest.mark.parametrize(
    "orders",
    [
        "nowhere=kill", "after_auth", "after_auth=", "after_auth=burn", "after_auth=kill:5",
        "after_auth=pause", "after_auth=pause:x", "after_auth=pause:0", "after_auth=kill@0",
        "after_auth=kill@1.5", "after_auth=kill@nan", "after_auth=kill#0", "after_auth=kill#-1",
        "after_auth=kill,after_auth=kill", "seed=x", "after_auth=kill@0.5#",
    ],
)  # fmt: skip
def test_orders_that_are_none_are_refused(orders: str) -> None:
    with pytest.raises(ValueError, match=r"must|needs|knows"):
        failpoints.parse(orders)


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("COSTPLATFORM_FAILPOINTS", "after_auth=kill", "is for tests only"),
        ("COSTPLATFORM_STORE_CLOCK_OFFSET_MS", "5", "is for tests only"),
    ],
)
def test_a_start_outside_of_tests_is_refused(variable: str, value: str, problem: str) -> None:
    ran = run("import costplatform.settings", **{variable: value, "COSTPLATFORM_TESTING": "off"})

    assert ran.returncode == 1
    assert ran.stderr.startswith(f"{variable}: {problem}")


def test_a_bad_order_ends_the_start_with_the_variables_name() -> None:
    ran = run(
        "import costplatform.settings", COSTPLATFORM_FAILPOINTS="x=kill", COSTPLATFORM_TESTING="on"
    )

    assert ran.returncode == 1
    assert ran.stderr.startswith("COSTPLATFORM_FAILPOINTS: knows no point 'x'")


def test_settings_arm_the_orders() -> None:
    ran = run(
        "import costplatform.settings; from budgets.failpoints import hit; hit('after_auth')",
        COSTPLATFORM_FAILPOINTS="after_auth=kill", COSTPLATFORM_TESTING="on",
    )  # fmt: skip

    assert ran.returncode == -signal.SIGKILL


def test_up_refuses_to_start_as_a_test() -> None:
    ran = run(
        "import sys; from costplatform import cli; sys.argv = ['', 'up']; cli.main()",
        COSTPLATFORM_TESTING="on",
    )

    assert ran.returncode == 1
    assert ran.stderr.startswith("COSTPLATFORM_TESTING: is for tests only")
