"""
The shapes of API that the gateway serves, one file each.

``parse`` reads a request and what bounds its cost, ``send`` writes what goes to the upstream, and
``answers`` reads usage and texts out of what comes back.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote

from gateway.routes import (
    chat,
    completions,
    embeddings,
    images,
    messages,
    moderations,
    rerank,
    responses,
    speech,
    transcriptions,
)
from gateway.routes.route import ANTHROPIC, BY_THE_REQUEST, INPUT, OUTPUT, Route
from spend.components import Component

_IMAGES: Final = frozenset({Component.IMAGES, Component.OUTPUT_IMAGE, *BY_THE_REQUEST})
_SPOKEN: Final = frozenset(
    {Component.INPUT_CHARACTERS, Component.OUTPUT_AUDIO, Component.OUTPUT_AUDIO_MS}
)
_HEARD: Final = frozenset({Component.INPUT_AUDIO_MS, Component.INPUT_AUDIO, Component.INPUT})
_RANKED: Final = frozenset({Component.QUERY, Component.INPUT})

CHAT: Final = Route(
    "chat", "/v1/chat/completions", chat.parse, chat.ChatAnswers(), (INPUT, OUTPUT), chat.send
)
COMPLETIONS: Final = Route(
    "completions", "/v1/completions", completions.parse, completions.CompletionAnswers(),
    (INPUT, OUTPUT), chat.send,
)  # fmt: skip
EMBEDDINGS: Final = Route(
    "embeddings", "/v1/embeddings", embeddings.parse, embeddings.EmbeddingAnswers(), (INPUT,)
)
RESPONSES: Final = Route(
    "responses", "/v1/responses", responses.parse, responses.ResponseAnswers(), (INPUT, OUTPUT)
)
IMAGE_GENERATIONS: Final = Route(
    "image_generations", "/v1/images/generations", images.parse, images.ImageAnswers(), (_IMAGES,)
)
IMAGE_EDITS: Final = Route(
    "image_edits", "/v1/images/edits", images.parse_edit, images.ImageAnswers(), (_IMAGES,)
)
SPEECH: Final = Route(
    "speech", "/v1/audio/speech", speech.parse, speech.SpeechAnswers(), (_SPOKEN | BY_THE_REQUEST,)
)
TRANSCRIPTIONS: Final = Route(
    "transcriptions", "/v1/audio/transcriptions", transcriptions.parse,
    transcriptions.TranscriptionAnswers(), (_HEARD | BY_THE_REQUEST,),
)  # fmt: skip
TRANSLATIONS: Final = Route(
    "translations", "/v1/audio/translations", transcriptions.parse,
    transcriptions.TranscriptionAnswers(), (_HEARD | BY_THE_REQUEST,),
)  # fmt: skip
MODERATIONS: Final = Route(
    "moderations", "/v1/moderations", moderations.parse, embeddings.EmbeddingAnswers(),
    (INPUT | BY_THE_REQUEST,),
)  # fmt: skip
RERANK: Final = Route(
    "rerank", "/v1/rerank", rerank.parse, rerank.RerankAnswers(), (_RANKED | BY_THE_REQUEST,)
)
MESSAGES: Final = Route(
    "messages", "/v1/messages", messages.parse, messages.MessageAnswers(), (INPUT, OUTPUT),
    errors=ANTHROPIC, passes_on=("anthropic-version", "anthropic-beta"),
)  # fmt: skip
COUNT_TOKENS: Final = Route(
    "count_tokens", "/v1/messages/count_tokens", messages.parse_count, messages.CountAnswers(), (),
    errors=ANTHROPIC, is_free=True, passes_on=("anthropic-version", "anthropic-beta"),
)  # fmt: skip

ROUTES: Final = (
    CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, IMAGE_GENERATIONS, IMAGE_EDITS, SPEECH,
    TRANSCRIPTIONS, TRANSLATIONS, MODERATIONS, RERANK, MESSAGES, COUNT_TOKENS,
)  # fmt: skip
OTHER_PATHS: Final[Mapping[str, Route]] = {"/v2/rerank": RERANK}
"""Where some clients send the same."""
AZURE_PATH: Final = "openai/deployments/<str:model>/<path:rest>"
"""The same for the URL conf."""
_AZURE: Final = re.compile(r"/openai/deployments/([^/]{1,255})(/.+)")


class Found(NamedTuple):
    """A route, and the model where the path names it, as Azure's clients do."""

    route: Route
    model: str | None = None


def paths_of(route: Route) -> Iterable[str]:
    """Return the paths that a route is served at, with and without ``/v1``."""
    others = [path for path, other in OTHER_PATHS.items() if other is route]
    bare = route.path.removeprefix("/v1")
    return (route.path, bare, f"/openai{route.path}", *others)


_BY_PATH: Final = {path: Found(route) for route in ROUTES for path in paths_of(route)}


def find(path: str) -> Found | None:
    """Return the route that a path is of, None if it is of none."""
    found = _BY_PATH.get(path)
    if found is not None or "/deployments/" not in path:
        return found
    named = _AZURE.fullmatch(path)
    route = _BY_PATH.get(named[2]) if named else None
    return Found(route.route, unquote(named[1])) if named and route else None
