"""``python -m gateway.sandbox --port 0 --log PATH``: without Django, as tests start it."""

import argparse
import sys
from pathlib import Path

from gateway.sandbox.server import port_number, serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gateway.sandbox")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=port_number, default=0, help="0 takes a free one")
    parser.add_argument("--log", type=Path, help="where to append a line per request")
    options = parser.parse_args()
    try:
        serve(host=options.host, port=options.port, log=options.log, ready=announce)
    except OSError as error:
        parser.error(f"--log {options.log}: {error.strerror}")


def announce(port: int) -> None:
    sys.stdout.write(f"LISTENING {port}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
