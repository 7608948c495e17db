"""Field types and validators that several models share."""

import uuid
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import models

from budgets import currencies, durations, periods

NAME_LENGTH_MAX: Final = 255
PUBLIC_ID_LENGTH_MAX: Final = 255


def new_public_id() -> str:
    return str(uuid.uuid4())


class PublicIdField(models.CharField):
    """The id under which programs know a row: given by whoever makes it, else a random UUID."""

    def __init__(self, verbose_name: str = "id", **options: Any) -> None:
        options |= {"max_length": PUBLIC_ID_LENGTH_MAX, "unique": True, "default": new_public_id}
        super().__init__(verbose_name, **options)


def validate_currency(value: str) -> None:
    try:
        currencies.check(value)
    except currencies.UnknownCurrency as error:
        raise ValidationError(str(error)) from error


def validate_duration(value: str) -> None:
    try:
        if (spelled := durations.canonical(value)) != value:
            raise ValidationError(f"must be written as {spelled}")
    except durations.UnknownDuration as error:
        raise ValidationError(str(error)) from error


def validate_time_zone(value: str) -> None:
    try:
        periods.zone_of(value)
    except periods.UnknownZone as error:
        raise ValidationError(str(error)) from error
