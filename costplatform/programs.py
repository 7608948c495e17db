"""What ``costplatform up`` runs: the one list of all processes, and in which order."""

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from costplatform import env, ports
from costplatform.processes import Process
from costplatform.servers import Addresses
from costplatform.web import GRACEFUL_SHUTDOWN_SECONDS, SETTLE_SECONDS


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the processes are told: where the servers are, and on which socket the web is served."""

    data: Path
    addresses: Addresses
    web: socket.socket

    @property
    def port(self) -> int:
        return int(self.web.getsockname()[1])


@dataclass(frozen=True, kw_only=True)
class Programs:
    """
    ``preparations`` are run to their end, and the last prints what was seeded; then each stage
    is started when the one before it has been, and ended before the one before it is. The
    stages in the background follow when the web is served.
    """

    preparations: tuple[Process, ...]
    stages: tuple[tuple[Process, ...], ...]
    background: tuple[tuple[Process, ...], ...] = ()


Plan = Callable[[Site], Programs]


def all_programs(site: Site) -> Programs:
    """Return all that runs beside the servers; the recorder ends last, so that it drains."""
    variables = variables_for(site)

    def python(name: str, *arguments: str) -> Process:
        return Process(name=name, argv=(sys.executable, "-m", *arguments), env=variables)

    celery = ("celery", "-A", "costplatform")
    # The solo pool forks nothing that could be left behind.
    work = (*celery, "worker", "--pool", "solo", "--concurrency", "1", "--loglevel", "warning")
    schedule = str(site.data / "run" / "beat-schedule")
    beat = (*celery, "beat", "--loglevel", "warning", "--schedule", schedule, "--pidfile=")
    port = str(ports.sandbox_port())
    sandbox = (python("sandbox", "gateway.sandbox", "--port", port),)
    return Programs(
        preparations=(python("seed", "costplatform", "seed", "--migrate"),),
        stages=(
            sandbox if ports.sandbox_wanted() else (),
            (python("recorder", "costplatform", "recorder"),),
            tuple(_web(site, number, variables) for number in range(1, ports.web_processes() + 1)),
        ),
        background=((python("worker", *work),), (python("beat", *beat),)),
    )


def variables_for(site: Site) -> dict[str, str]:
    """Return the environment of all processes: ours, and what ``site`` adds to it."""
    added = {
        "COSTPLATFORM_DATA_DIR": str(site.data),
        "COSTPLATFORM_SUPERVISED": "1",
        "DATABASE_URL": site.addresses.database_url,
        "DJANGO_SETTINGS_MODULE": "costplatform.settings",
        "PORT": str(site.port),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics_folder(site.data)),
        "REDIS_URL": site.addresses.redis_url,
    }
    if ports.sandbox_wanted():
        allowed = env.names("GATEWAY_ALLOW_PRIVATE_UPSTREAMS", "")
        sandbox = f"{ports.LOOPBACK}/32:{ports.sandbox_port()}"
        added["GATEWAY_ALLOW_PRIVATE_UPSTREAMS"] = ",".join([*allowed, sandbox])
    return env_without_files(added)


def metrics_folder(data: Path) -> Path:
    """Return where the processes of one ``up`` count together."""
    return data / "run" / "metrics"


def env_without_files(added: dict[str, str]) -> dict[str, str]:
    """Return our environment with ``added``; a ``NAME_FILE`` beside a ``NAME`` would be refused."""
    files = {f"{name}_FILE" for name in added}
    return {name: value for name, value in os.environ.items() if name not in files} | added


def _web(site: Site, number: int, variables: dict[str, str]) -> Process:
    listener = site.web.fileno()
    return Process(
        name=f"web-{number}",
        argv=(sys.executable, "-m", "costplatform.web", str(listener)),
        env=variables,
        pass_fds=(listener,),
        # Longer than what the process itself allows the requests in flight.
        grace_seconds=ports.drain_seconds() + GRACEFUL_SHUTDOWN_SECONDS + SETTLE_SECONDS,
    )
