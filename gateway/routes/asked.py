"""What a request asks for, whatever the route: what bounds its cost, and who it is for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.routes.forms import Form
from spend.components import Component, Usage

JSON = "application/json"


class Body(NamedTuple):
    """What is sent to an upstream."""

    data: bytes
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Together:
    """What the lines of a batch ask for together: sums, each over those lines that it concerns."""

    requests: int
    bytes_in: int = 0
    """Of the lines whose bytes bound their input."""
    longest_bytes_in: int = 0
    windows: int = 0
    """Lines whose bytes bound nothing: each may fill the model's context window."""
    tokens_out: int = 0
    """Of the lines that say how much they want, for all their choices."""
    choices_asked: int = 0
    choices_unasked: int = 0
    """Choices of lines that leave their length to the model."""
    searching: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked request; ``fields`` is what the client sent."""

    fields: Mapping[str, Any]
    model: str
    stream: bool = False
    hides_usage: bool = False
    """Whether usage is asked of the upstream that the client did not ask for."""
    choices: int = 1
    output_tokens_asked: int | None = None
    """The most that each choice may have; None leaves it to the model, 0 is: there are none."""
    service_tier: str | None = None
    bytes_bound_input: bool = True
    """Whether the input has at most as many tokens as the body has bytes."""
    input_tokens_beyond: int = 0
    """What is read more than once counts so much more."""
    text_bytes: int | None = None
    """Of a form, what is text; None: all of the body."""
    may_search: bool = False
    others_max: Mapping[Component, int | None] = field(default_factory=dict)
    """The most of classes that are neither tokens nor searches; None: nothing bounds it."""
    assumed: Usage = field(default_factory=dict)
    """What is taken to be used beside tokens where the answer does not tell."""
    batch: Together | None = None
    """Of a batch; its lines are in a file that the upstream has."""
    form: Form | None = None
    """What was sent as a form, with its files."""
    end_user: str = ""
    tags: tuple[str, ...] = ()
