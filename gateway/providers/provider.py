"""What a provider is: where its routes are, how it is authenticated, what it says of usage."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from gateway.routes import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    IMAGE_EDITS,
    IMAGE_GENERATIONS,
    MESSAGES,
    MODERATIONS,
    RERANK,
    RESPONSES,
    SPEECH,
    TRANSCRIPTIONS,
    TRANSLATIONS,
)
from gateway.routes.answers import Answers
from gateway.routes.route import Route

Paths = Mapping[str, str]
"""Where each route is below the base URL, by the route's name."""


class Place(Protocol):
    """What a deployment tells of where its requests go."""

    @property
    def api_base(self) -> str: ...

    @property
    def upstream_model(self) -> str: ...

    @property
    def api_version(self) -> str: ...


class Outgoing(NamedTuple):
    """A request about to be sent, as those who sign it need it."""

    url: str
    body: bytes
    content_type: str
    route: str


Authenticate = Callable[[str, Outgoing], Awaitable[Mapping[str, str]]]


class CredentialRefused(Exception):
    """A credential is not of the form that its provider takes, or its provider refused it."""


async def bearer(secret: str, outgoing: Outgoing) -> Mapping[str, str]:
    return {"authorization": f"Bearer {secret}"}


def joined(place: Place, path: str) -> str:
    return f"{place.api_base}{path}"


def openai_paths(*routes: Route) -> Paths:
    """Return where these routes are with whoever took over OpenAI's paths."""
    return {route.name: route.path.removeprefix("/v1") for route in routes}


FILES, BATCHES = "files", "batches"
BATCH_PATHS: Final[Paths] = {FILES: "/files", BATCHES: "/batches"}
"""Where files and batches are with whoever took over OpenAI's paths."""
TEXT_ROUTES: Final = (CHAT, COMPLETIONS, EMBEDDINGS)
OPENAI_ROUTES: Final = (
    *TEXT_ROUTES, RESPONSES, IMAGE_GENERATIONS, IMAGE_EDITS, SPEECH, TRANSCRIPTIONS, TRANSLATIONS,
    MODERATIONS,
)  # fmt: skip
ALL_ROUTES: Final = (*OPENAI_ROUTES, RERANK, MESSAGES, COUNT_TOKENS)


@dataclass(frozen=True, slots=True)
class Provider:
    """How to reach one provider; ``slug`` is its name in the price book."""

    slug: str
    name: str
    paths: Paths
    api_base: str | None = None
    """None: every customer has another."""
    hosts: tuple[str, ...] = ()
    """Ends of host names by which it is told from others of the same slug."""
    authenticate: Authenticate = bearer
    url: Callable[[Place, str], str] = joined
    model_sent: Callable[[str], str] = str
    """How it wants its models to be named, where the price book names them otherwise."""
    answers: Mapping[str, Answers] = field(default_factory=dict)
    """Of routes whose usage it tells otherwise than all others."""
    free: frozenset[str] = frozenset()
    """Routes that it does not bill."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What it wants of every request that does not say otherwise."""

    def serves(self, route: Route) -> bool:
        return all(name in self.paths for name in (route.name, *route.needs))

    def answers_of(self, route: Route) -> Answers:
        return self.answers.get(route.name, route.answers)
