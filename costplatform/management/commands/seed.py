import json
from dataclasses import asdict
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from costplatform import seeding


class Command(BaseCommand):
    help = (
        "Make what a new installation needs: administrator, prices, sandbox models, demo key. "
        "Prints one line of JSON; secrets are in it only when they were made just now."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--migrate", action="store_true", help="migrate the database first")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["migrate"]:
            call_command("migrate", interactive=False, verbosity=0)
        self.stdout.write(json.dumps(asdict(seeding.seed(now=timezone.now()))))
