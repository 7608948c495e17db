"""``costplatform sandbox``: the provider that needs no key, to try the product offline."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway.sandbox.server import port_number, serve


class Command(BaseCommand):
    help = "Serve the sandbox provider: OpenAI's API offline, for trying out and for tests."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=port_number, default=settings.SANDBOX_PORT)
        parser.add_argument("--log", type=Path, help="append a line per request to this file")

    def handle(self, *, host: str, port: int, log: Path | None, **_: Any) -> None:
        def announce(taken: int) -> None:
            self.stdout.write(f"Sandbox provider: http://{host}:{taken}/v1 (any API key will do)")
            self.stdout.flush()

        try:
            serve(host=host, port=port, log=log, ready=announce)
        except OSError as error:
            raise CommandError(f"--log {log}: {error.strerror}") from error
