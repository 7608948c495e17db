"""
``costplatform up``: everything in one terminal, until Ctrl-C.

The order is the servers, the migrations, the seed, then the stages of ``programs``. What dies
is started again. Django's settings are read in the children only: before the servers run
there is no database they could name.
"""

import asyncio
import contextlib
import http.client
import json
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from costplatform import env, ports, processes, programs, servers, welcome
from costplatform.processes import Keeper, Process
from costplatform.programs import Plan, Programs, Site
from costplatform.servers import Addresses, Server
from costplatform.servers.postgres import postgres
from costplatform.servers.valkey import valkey

READY_SECONDS_MAX: Final = 120.0
READY_POLL_SECONDS: Final = 0.1
TRIM_LOGS_SECONDS: Final = 60.0
STOPPING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StartFailed(Exception):
    """Something did not start; the message is for the person at the terminal."""


def say(line: str) -> None:
    """Write one line to the terminal; that it was closed stops nothing."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def up(*, plan: Plan = programs.all_programs) -> int:
    """
    Run everything until told to stop; return the exit code.

    :raises env.SettingError: if the environment is that of a test
    """
    if env.testing():
        raise env.SettingError("COSTPLATFORM_TESTING", "is for tests only; `up` runs without it")
    data = env.data_directory()
    try:
        with processes.locked(data / "lock"), _web_socket() as web:
            _check_sandbox_port()
            # Counters begin at zero with us; nobody counts there any more.
            shutil.rmtree(programs.metrics_folder(data), ignore_errors=True)
            embedded = _embedded_servers()
            site = Site(data=data, addresses=_addresses(embedded), web=web)
            return asyncio.run(Supervisor(site).run(embedded, plan(site)))
    except processes.LockHeld:
        say(f"{data} is in use by another `costplatform up`.")
        say("Stop that one, or set COSTPLATFORM_DATA_DIR to another directory.")
    except StartFailed as failure:
        say(str(failure))
    except KeyboardInterrupt:
        say("Stopped before anything was started.")
    return 1


class Supervisor:
    """Starts all in order, keeps it running, and ends it in the opposite order."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._logs = site.data / "log"
        self._stages: list[list[Keeper]] = []

    async def run(self, embedded: list[Server], wanted: Programs) -> int:
        """
        Return 0 when told to stop.

        :raises StartFailed: if something does not start
        """
        stopping = asyncio.Event()
        for number in STOPPING_SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # so wished by nohup
            asyncio.get_running_loop().add_signal_handler(number, self._told_to_stop, stopping)
        try:
            started = await _unless(stopping, self._start(embedded, wanted))
            if started:
                await _unless(stopping, self._trim_logs())
        finally:
            await self._stop()
        return 0

    async def _start(self, embedded: list[Server], wanted: Programs) -> None:
        began = time.monotonic()
        for server in embedded:
            await self._start_server(server)
        if embedded:
            servers.announce(self._site.addresses)
        say("Migrating the database …")
        printed = ""
        for process in wanted.preparations:
            printed = await self._run_to_end(process)
        seeded = _last_line(printed)
        say("Starting the processes …")
        for stage in wanted.stages:
            self._keep(*stage)
        try:
            await self._wait_until_served()
            say(f"All is up after {time.monotonic() - began:.1f} s; logs are in {self._logs}.")
        finally:
            # Said even when the start fails: a new password is never shown again.
            for line in welcome.hints(self._site, seeded):
                say(line)
        say(f"READY {welcome.web_url(self._site.web)}")
        # Nobody waits for these at the start, and two processors are soon busy.
        for stage in wanted.background:
            self._keep(*stage)

    async def _start_server(self, server: Server) -> None:
        began = time.monotonic()
        (keeper,) = self._keep(server.process)
        while not await _ready(server):
            if keeper.deaths or time.monotonic() - began > servers.START_SECONDS_MAX:
                raise StartFailed(str(servers.did_not_start(server, logs=self._logs)))
            await asyncio.sleep(READY_POLL_SECONDS / 5)
        say(f"{server.label}: ready in {time.monotonic() - began:.1f} s.")

    def _keep(self, *stage: Process) -> list[Keeper]:
        keepers = [Keeper(process, logs=self._logs, say=say) for process in stage]
        self._stages.append(keepers)
        return keepers

    async def _run_to_end(self, process: Process) -> str:
        """
        Run ``process`` and return what it printed.

        :raises StartFailed: if its exit code is not 0
        """
        code, printed = await processes.run_async(process, logs=self._logs)
        if code:
            tail = processes.log_tail(process, logs=self._logs)
            raise StartFailed(f"{process.name} failed (exit {code}):{tail}")
        return printed

    async def _wait_until_served(self) -> None:
        began = time.monotonic()
        answered = partial(_answers_ready, self._site.web)
        while not await asyncio.to_thread(answered):
            if time.monotonic() - began > READY_SECONDS_MAX:
                raise StartFailed(
                    f"/healthz/ready has not answered 200 in {READY_SECONDS_MAX:g} s; "
                    f"the logs in {self._logs} say why."
                )
            await asyncio.sleep(READY_POLL_SECONDS)

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(TRIM_LOGS_SECONDS)
            await asyncio.to_thread(processes.trim_logs, self._logs)

    def _told_to_stop(self, stopping: asyncio.Event) -> None:
        if not stopping.is_set():
            say("Stopping; once more to stop at once …")
            stopping.set()
        else:
            for keeper in (keeper for stage in self._stages for keeper in stage):
                keeper.kill()

    async def _stop(self) -> None:
        for stage in reversed(self._stages):
            await asyncio.gather(*(keeper.stop() for keeper in stage))
            for keeper in stage:
                say(f"{keeper.process.name} stopped.")


async def _ready(server: Server) -> bool:
    try:
        return await asyncio.to_thread(server.ready)
    except SystemExit as error:
        # Inside a task it would tear down the loop, and with it the orderly stop.
        raise StartFailed(str(error)) from error


def _last_line(printed: str) -> dict[str, str | None]:
    try:
        found: dict[str, str | None] = json.loads(printed.strip().rpartition("\n")[2])
    except ValueError as error:
        raise StartFailed("seed did not end with a line of JSON") from error
    return found


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do ``work``, but leave it when told to stop; return whether it was done."""
    waiting = asyncio.create_task(stopping.wait())
    working = asyncio.create_task(work)
    await asyncio.wait([waiting, working], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if working.done():
        working.result()
        return True
    working.cancel()
    await asyncio.wait([working])
    return False


def _embedded_servers() -> list[Server]:
    """Return the servers that nobody else runs for us; the first time their data is made."""
    makers: list[tuple[str, Callable[[], Server]]] = [
        ("DATABASE_URL", postgres),
        ("REDIS_URL", valkey),
    ]
    return [make() for name, make in makers if not env.given(name)]


def _addresses(embedded: list[Server]) -> Addresses:
    urls = {server.process.name: server.url for server in embedded}
    return Addresses(
        database_url=urls.get("postgres") or env.text("DATABASE_URL", ""),
        redis_url=urls.get("valkey") or env.text("REDIS_URL", ""),
    )


def _web_socket() -> socket.socket:
    host, port = ports.web_host(), ports.web_port()
    try:
        return ports.listening(host=host, port=port)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise StartFailed(
            f"PORT: cannot listen on {host}:{port} ({reason}); "
            "set PORT to a free port, and HOST to an address of this machine."
        ) from error


def _check_sandbox_port() -> None:
    if ports.sandbox_wanted() and not ports.is_free(ports.sandbox_port()):
        raise StartFailed(
            f"COSTPLATFORM_SANDBOX_PORT: port {ports.sandbox_port()} is taken; "
            "set it to a free port, or COSTPLATFORM_SANDBOX=off."
        )


def _answers_ready(web: socket.socket) -> bool:
    connection = http.client.HTTPConnection(*welcome.reachable(web), timeout=5)
    try:
        connection.request("GET", "/healthz/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
