"""
What a command to the live store costs the gateway: the own connection beside redis-py.

``python -m bench.store`` starts a throw-away store and sends the same script in turn by both, many
at a time, from this process on uvloop. CPU time is this process's own; medians of rounds.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

import django
import uvloop

from costplatform import servers

if TYPE_CHECKING:
    from budgets.scripts import Script
    from budgets.store_interface import Store

ROUNDS, COMMANDS, AT_ONCE = 9, 2_000, 64
ARGUMENTS = [str(number) * 8 for number in range(40)]
"""As many words as a reserve with six limits has."""
CLIENTS = ("own", "redis-py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with servers.throwaway() as addresses:
        os.environ |= {
            "DATABASE_URL": addresses.database_url,
            "REDIS_URL": addresses.redis_url,
            "DJANGO_SETTINGS_MODULE": "costplatform.settings",
        }
        django.setup()
        found = uvloop.run(compare(addresses.redis_url, rounds=options.rounds))
    report(found)


async def compare(url: str, *, rounds: int) -> dict[str, list[float]]:
    """Return microseconds of CPU a command, for each client and round."""
    # The settings are read by these imports: the store had to be there first.
    from budgets.scripts import Script
    from budgets.store_interface import connect

    script = Script(text="return {ARGV[1]}", sha="1a34b2563c5f202a5b75d886ebaade50fff62cf0")
    stores = {name: connect(client=name, url=url, timeout_ms=5_000) for name in CLIENTS}
    found: dict[str, list[float]] = {name: [] for name in CLIENTS}
    for name, store in stores.items():
        await send(store, script, commands=AT_ONCE)
        assert name in found
    for _ in range(rounds):
        for name, store in stores.items():
            began = time.process_time()
            await send(store, script, commands=COMMANDS)
            found[name].append((time.process_time() - began) / COMMANDS * 1e6)
    for store in stores.values():
        await store.close()
    return found


async def send(store: "Store", script: "Script", *, commands: int) -> None:
    """Send so many commands, ``AT_ONCE`` at a time."""
    left = iter(range(commands))

    async def sender() -> None:
        for _ in left:
            assert await store.run(script, key="k", arguments=ARGUMENTS) == [b"00000000"]

    await asyncio.gather(*(sender() for _ in range(AT_ONCE)))


def report(found: dict[str, list[float]]) -> None:
    for name, each in found.items():
        middle, low, high = statistics.median(each), min(each), max(each)
        sys.stdout.write(f"{name:8} {middle:6.1f} us a command [{low:.1f}-{high:.1f}]\n")
    pairs = [theirs / ours for ours, theirs in zip(*found.values(), strict=True)]
    sys.stdout.write(f"redis-py / own: {statistics.median(pairs):.1f} (median of pairs)\n")


if __name__ == "__main__":
    main()
