"""The ``costplatform`` command: ``up``, and every Django command under its name with dashes."""

import argparse
import os
import sys
from typing import Final

from django.core.management import execute_from_command_line

from costplatform import supervisor

USAGE: Final = """\
usage: costplatform COMMAND [--help] …

  up             run everything: Postgres, Valkey, web, recorder, worker, beat
  verify-ledger  prove that the ledger and all sums agree
  reconcile      compare a provider's invoice with the ledger
  exchange-rates list, import, seed and fetch what currencies are worth
  rerate         charge past requests at a corrected price
  demo           make months of example spend
  prices         compare price lists with the price book, and take over what is approved
  recorder       write finished calls to the ledger
  sandbox        a provider that costs nothing, for trying things out
  apply-config   make routing and providers' budgets what a file of settings says
  seed           make the first admin, the demo key and the price book, where missing

Any other command is Django's (`costplatform migrate`, `costplatform help`).
"""
UP_HELP: Final = """\
Run Postgres, Valkey and all processes in this terminal until Ctrl-C. What dies is started
again. Data, secrets and logs are kept in ./var, and the next `up` goes on with them.

environment:
  HOST, PORT               where the web listens (127.0.0.1, 8000)
  WEB_CONCURRENCY          how many web processes (2)
  DATABASE_URL, REDIS_URL  use these servers and do not start our own
  COSTPLATFORM_DATA_DIR    where data, secrets and logs are (./var)
  COSTPLATFORM_SANDBOX     off: no sandbox provider
"""
HELP: Final = frozenset({"-h", "--help"})


def main() -> int:
    """Run the command that the arguments name; return the exit code."""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in HELP:
        sys.stdout.write(USAGE)
        return 0
    if command == "up":
        return _up(arguments)
    return _django(command, arguments)


def _up(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="costplatform up",
        description=UP_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", help="listen here instead of on PORT")
    port = parser.parse_args(arguments).port
    if port:
        os.environ["PORT"] = port
        os.environ.pop("PORT_FILE", None)
    return supervisor.up()


def _django(command: str, arguments: list[str]) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "costplatform.settings")
    name = command if command.startswith("-") else command.replace("-", "_")
    execute_from_command_line(["costplatform", name, *arguments])
    return 0
