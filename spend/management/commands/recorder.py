import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from spend.recording import Recording


class Command(BaseCommand):
    help = (
        "Move spend events from the live store to the ledger until told to stop (SIGTERM). "
        "One recorder is at work; further ones stand by."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        Recording(clock=timezone.now, stop=stop).run()
