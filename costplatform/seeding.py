"""What a new installation needs before it can be tried: an administrator, prices, a demo key."""

import os
import secrets
import socket
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from django.conf import settings

from budgets.changes import acting
from budgets.models import ApiKey, Member, Organization, User, UserRole
from budgets.services.accounts import Terms
from budgets.services.keys import Owner, issue_key
from budgets.services.tenancy import DEFAULT_ORGANIZATION
from costplatform import env
from gateway.models import Deployment
from gateway.providers import SANDBOX
from gateway.services import create_deployment
from spend.catalogues import importing, sources
from spend.components import Component
from spend.models import Model, PriceRate, PriceVersion, Provider
from spend.services import price_imports

ADMIN: Final = "admin"
DEMO_KEY: Final = "demo"
DEMO_LIMIT: Final = Decimal("0.05")
CHAT_MODEL: Final = "sandbox-chat"
REQUEST_MODEL: Final = "sandbox-request"
SANDBOX_RATES: Final = {
    CHAT_MODEL: {
        Component.INPUT: Decimal("0.0000005"),
        Component.CACHED_READ: Decimal("0.00000005"),
        Component.OUTPUT: Decimal("0.000002"),
    },
    # Priced by the request alone, so that its ceiling is its cost.
    REQUEST_MODEL: {
        Component.REQUEST: Decimal("0.01"),
        Component.INPUT: Decimal(0),
        Component.OUTPUT: Decimal(0),
    },
}
SANDBOX_CONTEXT_WINDOW: Final = 128_000
SANDBOX_OUTPUT_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class Seeded:
    """What was made; a secret is only here when it was made just now."""

    admin_login: str | None
    admin_password: str | None
    demo_key: str | None
    demo_model: str


def seed(*, now: datetime) -> Seeded:
    """Make what is missing; a second run makes nothing."""
    if "COSTPLATFORM_SUPERVISED" in os.environ:
        # Whoever started us knows that the processes of its last run, on this host, are gone.
        ours = Member.objects.filter(supervised=True, name__startswith=f"{socket.gethostname()}:")
        ours.delete()
    with acting("seed"):
        if not Model.objects.filter(prices__source=sources.GENAI).exists():
            importing.add_unknown(sources.read(source=sources.GENAI))
        if not Model.objects.filter(prices__source=sources.SEED).exists():
            _add_seed_prices()
        password = _make_admin()
        key = _make_sandbox(now=now) if settings.SANDBOX else None
    return Seeded(
        admin_login=ADMIN if password else None,
        admin_password=password,
        demo_key=key,
        demo_model=REQUEST_MODEL,
    )


def _add_seed_prices() -> None:
    """Add models of the list that comes with us, but for names that are charged already."""
    listing, book = sources.read_seed(), price_imports.book()
    unknown = tuple(each for each in listing.models if book.charged_as(each) is None)
    importing.add_unknown(replace(listing, models=unknown))


def _make_admin() -> str | None:
    """Make the administrator; return the password if this installation had none."""
    if User.objects.filter(is_superuser=True).exists():
        return None
    password = env.given("COSTPLATFORM_ADMIN_PASSWORD") or secrets.token_urlsafe(12)
    User.objects.create_superuser(
        username=ADMIN, password=password, public_id=ADMIN, role=UserRole.PROXY_ADMIN
    )
    return password


def _make_sandbox(*, now: datetime) -> str | None:
    """Make the sandbox's models and prices, and a key to try them; return its secret if new."""
    provider, _ = Provider.objects.get_or_create(slug=SANDBOX, defaults={"name": "Sandbox"})
    for name, rates in SANDBOX_RATES.items():
        _price(provider, name, rates)
        if not Deployment.objects.filter(provider=SANDBOX, model_name=name).exists():
            _deploy(name)
    organization = Organization.objects.get(public_id=DEFAULT_ORGANIZATION)
    if ApiKey.objects.filter(organization=organization, name=DEMO_KEY).exists():
        return None
    issued = issue_key(
        owner=Owner(organization),
        values={"name": DEMO_KEY},
        terms=Terms(max_budget=DEMO_LIMIT, duration="1d"),
        now=now,
    )
    return issued.secret


def _price(provider: Provider, name: str, rates: dict[Component, Decimal]) -> None:
    model, _ = Model.objects.get_or_create(
        provider=provider,
        name=name,
        defaults={
            "context_window": SANDBOX_CONTEXT_WINDOW, "output_tokens_max": SANDBOX_OUTPUT_MAX,
        },
    )  # fmt: skip
    version, made = PriceVersion.objects.get_or_create(
        model=model, effective_from=datetime(2020, 1, 1, tzinfo=UTC), defaults={"source": SANDBOX}
    )
    if made:
        PriceRate.objects.bulk_create(
            [PriceRate(version=version, component=each, rate=rate) for each, rate in rates.items()]
        )


def _deploy(name: str) -> None:
    create_deployment(
        values={
            "public_id": name,
            "model_name": name,
            "provider": SANDBOX,
            "upstream_model": name,
            "api_base": f"http://127.0.0.1:{settings.SANDBOX_PORT}/v1",
        },
        api_key="sk-sandbox",
    )
