"""What a route is: a shape of API, whoever serves it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.routes import fields
from gateway.routes.answers import Answers
from gateway.routes.asked import Asked, Body
from gateway.routes.fields import Headers
from spend.components import Component

OPENAI, ANTHROPIC = "openai", "anthropic"
"""Whose errors a route's clients expect."""

Priced = tuple[frozenset[Component], ...]
INPUT: Final = frozenset({Component.INPUT})
OUTPUT: Final = frozenset({Component.OUTPUT})
BY_THE_REQUEST: Final = frozenset({Component.REQUEST, Component.STATED_PICO_USD})


class Parse(Protocol):
    def __call__(self, body: bytes, *, headers: Headers) -> Asked: ...


def send(asked: Asked, upstream_model: str) -> Body:
    """
    Return what is sent on: the upstream's name of the model, and nothing meant for us.

    :raises InvalidRequest: if it is nested deeper than JSON can be written here
    """
    if asked.form is not None:
        return Body(*asked.form.encoded(replacing={"model": upstream_model}))
    return Body(fields.as_json(fields.without_our_own(asked.fields) | {"model": upstream_model}))


@dataclass(frozen=True, slots=True)
class Route:
    """One shape of API: how its requests are read and sent on, and how its answers are read."""

    name: str
    """As providers name what they serve."""
    path: str
    parse: Parse
    answers: Answers
    priced_by: Priced
    """A price that says nothing of one of these would make a part of the request free."""
    send: Callable[[Asked, str], Body] = send
    errors: str = OPENAI
    is_free: bool = False
    """Nobody bills it: it passes the gate, and costs nothing."""
    needs: tuple[str, ...] = ()
    """Names of what else its provider must serve."""
    passes_on: tuple[str, ...] = ()
    """Headers of the client that the upstream must see."""
