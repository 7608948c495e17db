"""
LiteLLM's proxy, as PyPI has it, in a virtual environment of its own.

Its mode with a database needs an engine that no package carries and its client would have to
download: it is not measured. What is measured lacks its look-ups of keys and its writing of spend,
and so is a lower bound of what it costs with them.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import redis

from bench.contestants import (
    MODEL,
    Contestant,
    Place,
    Unavailable,
    Wrong,
    free_port,
    plain_environment,
    wait_until_answered,
)
from bench.load import HOST, target
from costplatform.processes import Process
from costplatform.servers.valkey import valkey_program

VERSION: Final = "1.106.2"
PLAIN: Final = "litellm"
LIMITED: Final = "litellm-limits"
INSTALL_SECONDS_MAX: Final = 900
_AUTH: Final = '''
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.utils import hash_token

async def key_of(request, api_key):
    return UserAPIKeyAuth(
        api_key=api_key, token=hash_token(api_key), user_id="bench", key_alias="bench",
        max_budget=1e6, spend=0.0, budget_duration="30d", user_max_budget=1e6, user_spend=0.0,
        rpm_limit=10**9, tpm_limit=10**12, max_parallel_requests=10**6,
        user_rpm_limit=10**9, user_tpm_limit=10**12,
    )
'''  # fmt: skip


@dataclass(frozen=True)
class Server:
    """How one of its two configurations is started."""

    name: str
    title: str
    config: dict[str, object]
    env: dict[str, str]


@contextmanager
def running(place: Place, *, say: Callable[[str], None]) -> Iterator[Contestant]:
    """
    Run it with a master key: no database, no Redis, no limits.

    :raises Unavailable: if it cannot be installed, or does not start
    """
    secret = _new_secret()
    server = Server(
        name=PLAIN,
        title="LiteLLM, master key, no limits",
        config={"general_settings": {"master_key": secret}},
        env={},
    )
    with _running(server, place, secret=secret, program=installed(say=say)) as contestant:
        yield contestant


@contextmanager
def running_with_limits(place: Place, *, say: Callable[[str], None]) -> Iterator[Contestant]:
    """
    Run it with a key object that has a budget, requests, tokens and parallel requests limited,
    counted in a Valkey of its own on the other core.

    :raises Unavailable: if it cannot be installed, or does not start
    """
    program = installed(say=say)
    port = free_port()
    settings = {
        "master_key": _new_secret(),
        "custom_auth": "bench_auth.key_of",
        "custom_auth_run_common_checks": True,
    }
    server = Server(
        name=LIMITED,
        title="LiteLLM, key with limits in Valkey",
        config={"general_settings": settings},
        env={"REDIS_HOST": HOST, "REDIS_PORT": str(port)},
    )
    with ExitStack() as stack:
        store_pid = stack.enter_context(place.beside(_counters(port, place.folder)))
        secret = _new_secret()
        contestant = stack.enter_context(_running(server, place, secret=secret, program=program))
        yield replace(contestant, check_books=LimitsCheck(port), store_pid=store_pid)


class LimitsCheck:
    """Sees that limits are counted: each answer has asked the store for something."""

    def __init__(self, port: int) -> None:
        self._store = redis.Redis(HOST, port)
        self._before = self._commands()

    def __call__(self, asked: int) -> None:
        now = self._commands()
        sent, self._before = now - self._before, now
        if sent < asked:
            raise Wrong(f"LiteLLM sent {sent} commands to its store for {asked} answers")

    def _commands(self) -> int:
        told = self._store.info("stats")
        assert isinstance(told, dict)
        return int(told["total_commands_processed"])


def installed(*, say: Callable[[str], None]) -> Path:
    """
    Return its program; the first time, install it.

    :raises Unavailable: if PyPI cannot be reached, or has no such version
    """
    home = cache_folder() / f"litellm-{VERSION}"
    program, complete = home / "bin" / "litellm", home / ".complete"
    if complete.exists() and program.exists():
        return program
    say(f"installing litellm[proxy]=={VERSION} into {home}, once …")
    shutil.rmtree(home, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(home))
    _run(str(home / "bin" / "python"), "-m", "pip", "install", "-q", f"litellm[proxy]=={VERSION}")
    complete.touch()
    return program


def cache_folder() -> Path:
    """Return where it is kept between runs, outside of the project."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "costplatform-bench"


def _run(*argv: str) -> None:
    try:
        subprocess.run(  # noqa: S603
            argv, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().rpartition("\n")[2]
        raise Unavailable(f"LiteLLM cannot be installed: {last}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"LiteLLM cannot be installed: {error}") from error


@contextmanager
def _running(server: Server, place: Place, *, secret: str, program: Path) -> Iterator[Contestant]:
    port = free_port()
    process = _process(server, place, port=port, program=program)
    with place.gateway(process) as pid:
        wait_until_answered(port, "/health/liveliness", place=place, process=process, pid=pid)
        yield Contestant(
            name=server.name,
            title=server.title,
            version=VERSION,
            target=target(port=port, secret=secret, model=MODEL),
            pid=pid,
        )


def _process(server: Server, place: Place, *, port: int, program: Path) -> Process:
    home = place.folder / server.name
    home.mkdir()
    (home / "bench_auth.py").write_text(_AUTH)
    config = home / "config.yaml"
    # JSON is YAML.
    config.write_text(json.dumps(_models(place) | server.config))
    return Process(
        name=server.name,
        argv=(
            str(program), "--config", str(config), "--host", HOST, "--port", str(port),
            "--num_workers", "1", "--telemetry", "False",
        ),
        env=plain_environment(
            # As its own page on production has it; and nothing is fetched at the start.
            LITELLM_LOG="ERROR", LITELLM_MODE="PRODUCTION", LITELLM_LOCAL_MODEL_COST_MAP="True",
            **server.env,
        ),
    )  # fmt: skip


def _models(place: Place) -> dict[str, object]:
    upstream = {
        "model": f"openai/{MODEL}", "api_base": f"{place.upstream}/v1", "api_key": "sk-upstream",
    }  # fmt: skip
    return {"model_list": [{"model_name": MODEL, "litellm_params": upstream}]}


def _counters(port: int, folder: Path) -> Process:
    arguments = ("--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no")
    return Process(
        name="litellm-valkey",
        argv=(str(valkey_program()), *arguments, "--dir", str(folder)),
        env=plain_environment(),
    )


def _new_secret() -> str:
    return f"sk-{secrets.token_urlsafe(24)}"
