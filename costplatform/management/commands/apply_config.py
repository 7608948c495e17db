"""``costplatform apply-config``: routing and providers' budgets from a file of settings."""

from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rest_framework.exceptions import ParseError, ValidationError

from budgets import changes
from budgets.api.endpoints import checked
from budgets.errors import InvalidInput
from costplatform import json
from costplatform.errors import problem_of
from gateway import router_settings
from gateway.api import router_inputs
from gateway.api.router_inputs import Placed

ACTOR = "apply-config"


def content_of(path: str) -> Any:
    """
    Return what a file holds.

    :raises ArgumentTypeError: if it cannot be read, is too long or no JSON
    """
    try:
        with Path(path).open("rb") as file:
            body = file.read(json.BODY_BYTES_MAX + 1)
    except OSError as error:
        raise ArgumentTypeError(f"{path}: {error.strerror}") from error
    if len(body) > json.BODY_BYTES_MAX:
        raise ArgumentTypeError(f"{path}: may have {json.BODY_BYTES_MAX} bytes at most")
    try:
        return json.loads(body)
    except ParseError as error:
        raise ArgumentTypeError(f"{path}: {error.detail}") from error
    except InvalidInput as error:
        raise ArgumentTypeError(f"{path}: {error.field} {error.problem}") from error


class Command(BaseCommand):
    help = (
        "Make routing rules and budgets of providers what the router_settings of a JSON file say, "
        "in LiteLLM's names, and print what that changes. Exits with 1 if something does not fit, "
        "and then changes nothing; with --check it exits with 2 if something would change."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=content_of, help="JSON")
        parser.add_argument(
            "--check", action="store_true", help="print what would change, and change nothing"
        )

    def handle(self, *, file: Any, check: bool, **_: Any) -> None:
        differences = self._apply(_placed(file), check_only=check)
        for line in differences:
            self.stdout.write(line)
        if not differences:
            self.stdout.write("Nothing to change.")
        elif check:
            raise CommandError(f"{len(differences)} to change.", returncode=2)

    def _apply(self, wanted: Placed, *, check_only: bool) -> list[str]:
        try:
            with changes.acting(by=ACTOR, origin=changes.Origin(changes.Source.COMMAND)):
                return router_settings.apply(
                    wanted=wanted.settings, now=timezone.now(), check_only=check_only
                )
        except InvalidInput as error:
            placed = wanted.in_its_section(error)
            raise CommandError(f"{placed.field}: {placed.problem}") from error


def _placed(content: Any) -> Placed:
    """
    :raises CommandError: naming the setting that does not fit
    """
    try:
        return router_inputs.placed(checked(router_inputs.ConfigUpdate, content))
    except (ValidationError, InvalidInput) as error:
        raise CommandError(problem_of(error).message) from error
