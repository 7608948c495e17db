import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from costplatform import seeding


class Command(BaseCommand):
    help = (
        "Make what a new installation needs: administrator, prices, sandbox models, demo key. "
        "Prints one line of JSON; secrets are in it only when they were made just now."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(json.dumps(asdict(seeding.seed(now=timezone.now()))))
