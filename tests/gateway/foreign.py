"""Mocks of providers that others have written, as processes of their own, with their faults on."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from costplatform import ports
from tests.launch import somewhere_free, start_bound
from tests.stack import wait_until

AIMOCK: Final = "@copilotkit/aimock"
AIMOCK_VERSION: Final = "1.43.0"
FETCHED: Final = Path(__file__).parents[2] / "var" / "npm"
START_SECONDS_MAX: Final = 60.0
INSTALL_SECONDS_MAX: Final = 180
REPLY: Final = "The quick brown fox jumps over the lazy dog, and nobody has asked it why. " * 4


def llmock_command(port: int) -> list[str]:
    """``llmock`` (PyPI): errors before the answer, and every way in which it breaks its streams."""
    rates = ["--error-rate", "429=0.1", "--error-rate", "500=0.1", "--latency-ms", "50"]
    for fault in ("disconnect", "truncate", "malformed", "stall"):
        rates += ["--stream-fault", f"{fault}=0.15"]
    slow = ["--stream-stall-seconds", "5", "--stream-chunk-delay-ms", "5"]
    program = Path(sys.executable).parent / "llmock"
    return [str(program), "serve", "--port", str(port), "--response-style", "varied", *rates, *slow]


def aimock_command(port: int, folder: Path) -> list[str]:
    """``@copilotkit/aimock`` (npm): the same from another hand."""
    fixture = {"fixtures": [{"match": {"userMessage": ""}, "response": {"content": REPLY}}]}
    told = folder / "aimock.json"
    told.write_text(json.dumps(fixture))
    rates = ["drop", "malformed", "disconnect", "ratelimit"]
    chaos = [word for rate in rates for word in (f"--chaos-{rate}", "0.12")]
    return [
        _node(), str(_aimock() / "dist" / "cli.js"), "--port", str(port), "--fixtures", str(told),
        "--chaos-latency", "50", "--latency", "5", *chaos,
    ]  # fmt: skip


@contextlib.contextmanager
def running(command: Sequence[str], *, port: int, log: Path) -> Iterator[str]:
    """Run a mock until the block ends; yield its base URL once it listens."""
    with log.open("wb") as out:
        process = start_bound(command, env=None, out=out)
    try:
        wait_until(lambda: _listens(port, process, log), seconds=START_SECONDS_MAX)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    return ports.free_from(somewhere_free())


def _listens(port: int, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-2_000:]
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _aimock() -> Path:
    """Return where aimock is; npm fetches it at the first run."""
    folder = FETCHED / f"aimock-{AIMOCK_VERSION}"
    package = folder / "node_modules" / AIMOCK
    if not (package / "package.json").exists():
        npm = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit"]
        subprocess.run(
            [*npm, "--no-fund", "--loglevel=error", f"{AIMOCK}@{AIMOCK_VERSION}"],
            check=True, timeout=INSTALL_SECONDS_MAX,
        )  # fmt: skip
    return package


def _node() -> str:
    node = shutil.which("node")
    assert node is not None, "node is missing: apt-get install -y nodejs npm (20.15 or later)"
    return node
