"""What a batch is to the gate: a request on a route of its own, at the price of its lines'."""

from dataclasses import replace

from gateway.providers.provider import BATCHES, FILES
from gateway.routes.route import Route

PATH = "/v1/batches"


def route_of(lines: Route) -> Route:
    """Return the route of batches whose lines are of that route."""
    return replace(lines, name=BATCHES, path=PATH, needs=(FILES, lines.name))
