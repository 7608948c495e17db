"""
What a request costs the client of upstreams: CPU time of the own one and of aiohttp, in turn.

``make bench`` runs it. A tiny upstream answers in a process of its own; what is measured is the
CPU time of this one, which does nothing but ask and read. The median of the rounds counts.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvloop

from costplatform import servers

ROUNDS, REQUESTS, AT_ONCE, WARM_UP = 9, 2_000, 32, 300
CLIENTS: Final = ("aiohttp", "own")
CASES: Final = {"small": "a small answer", "stream": "a stream of 50 chunks"}
CHUNKS: Final = 50
BODY: Final = b'{"messages": [{"role": "user", "content": "%s"}]}' % (b"x" * 500)
SENT: Final = {
    "content-type": "application/json", "accept": "application/json",
    "accept-encoding": "identity", "user-agent": "bench", "x-request-id": "0" * 36,
    "authorization": "Bearer " + "s" * 50,
}  # fmt: skip
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: bench\r\n"
    b"x-request-id: req_0123456789\r\nopenai-processing-ms: 12\r\n"
    b"x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\n"
)
_SMALL: Final = b'{"choices": "%s"}' % (b"y" * 1_200)
_CHUNK: Final = b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % (b"z" * 100)


class TinyUpstream(asyncio.Protocol):
    """Answers without looking at more than the path; each chunk of a stream goes out alone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"POST /small "):
            kind = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_SMALL)
            self._transport.write(_HEAD + kind + _SMALL)
        else:
            kind = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            self._transport.write(_HEAD + kind)
            self._loop.call_later(0.001, self._send_chunk, CHUNKS)

    def _send_chunk(self, left: int) -> None:
        if left:
            self._transport.write(b"%x\r\n%s\r\n" % (len(_CHUNK), _CHUNK))
            self._loop.call_later(0.001, self._send_chunk, left - 1)
        else:
            self._transport.write(b"0\r\n\r\n")


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(TinyUpstream, "127.0.0.1", 0)
    say(str(server.sockets[0].getsockname()[1]))
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--serve", action="store_true", help="be the upstream")
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve())
        return
    with servers.throwaway() as addresses, upstream() as url:
        for name, address in addresses._asdict().items():
            os.environ[name.upper()] = address
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "costplatform.settings")
        import django  # the settings need the servers' addresses

        django.setup()
        report(uvloop.run(measure(url, options.rounds, options.requests)))


async def measure(url: str, rounds: int, requests: int) -> dict[tuple[str, str], list[float]]:
    """Return the CPU time of a request in microseconds, for each case and client and round."""
    clients = {name: client(name) for name in CLIENTS}
    figures: dict[tuple[str, str], list[float]] = {}
    for case in CASES:
        count = requests if case == "small" else requests // 10
        for each in clients.values():
            await ask(each, f"{url}/{case}", min(WARM_UP, count))
        for number in range(rounds):
            for name in CLIENTS if number % 2 else CLIENTS[::-1]:
                began = time.process_time_ns()
                await ask(clients[name], f"{url}/{case}", count)
                spent = time.process_time_ns() - began
                figures.setdefault((case, name), []).append(spent / count / 1_000)
    for each in clients.values():
        await each.close()
    return figures


async def ask(client: Any, url: str, requests: int) -> None:
    """Send ``requests`` requests, ``AT_ONCE`` at a time, and read their answers."""
    left = iter(range(requests))

    async def some() -> None:
        for _ in left:
            response = await client.request("POST", url, body=BODY, headers=SENT)
            async for _ in response.chunks():
                pass
            response.close()

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


def client(name: str) -> Any:
    from django.conf import settings

    from gateway import upstream
    from gateway.addresses import Allowed

    settings.GATEWAY_UPSTREAM_CLIENT = name
    return upstream.make(
        total_seconds=60, connect_seconds=10, idle_seconds=30, connections_max=100,
        allowed=[Allowed.of("127.0.0.1/32")],
    )  # fmt: skip


def report(figures: dict[tuple[str, str], list[float]]) -> None:
    for case, words in CASES.items():
        for name in CLIENTS:
            found = figures[case, name]
            say(
                f"{words:22} {name:8} {statistics.median(found):7.1f} µs CPU a request"
                f" [{min(found):.1f}-{max(found):.1f}]"
            )
        pairs = zip(figures[case, "aiohttp"], figures[case, "own"], strict=True)
        ratio = statistics.median(theirs / ours for theirs, ours in pairs)
        say(f"{words:22} aiohttp / own: {ratio:.1f} (median of pairs)")


@contextmanager
def upstream() -> Iterator[str]:
    """Start the tiny upstream; yield where it is."""
    words = [sys.executable, "-m", "bench.upstream", "--serve"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  # ourselves
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
