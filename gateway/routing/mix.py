"""
Of how many tokens a request will probably be: what requests for its model have been lately.

Only the order of deployments depends on it, and no amount that is held or charged.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from gateway.routing.decay import Decayed
from spend.components import INPUT_COMPONENTS, OUTPUT_COMPONENTS, Component, Usage, total_of

HALF_LIFE_SECONDS: Final = 3_600.0
MODELS_MAX: Final = 1_000
PRIOR_BYTES: Final = 4_000
PRIOR_TOKENS_A_BYTE: Final = 0.25
PRIOR_OUTPUT_TOKENS: Final = 256
_CACHED: Final = (
    Component.CACHED_READ, Component.CACHED_READ_AUDIO, Component.CACHED_READ_IMAGE,
)  # fmt: skip


def _known(value: float, weight: float) -> Decayed:
    return Decayed(HALF_LIFE_SECONDS, total=value * weight, weight=weight)


@dataclass(slots=True)
class _Mix:
    """Averages of one model, which begin with a guess that weighs as much as one request."""

    tokens_a_byte: Decayed = field(default_factory=lambda: _known(PRIOR_TOKENS_A_BYTE, PRIOR_BYTES))
    cached_share: Decayed = field(
        default_factory=lambda: _known(0.0, PRIOR_BYTES * PRIOR_TOKENS_A_BYTE)
    )
    output_tokens: Decayed = field(default_factory=lambda: _known(PRIOR_OUTPUT_TOKENS, 1.0))

    def learn(self, now: float, body_bytes: int, usage: Usage) -> None:
        prompt = total_of(usage, INPUT_COMPONENTS)
        if prompt > 0 and body_bytes > 0:
            self.tokens_a_byte.add(now, prompt / body_bytes, body_bytes)
            self.cached_share.add(now, total_of(usage, _CACHED) / prompt, prompt)
        self.output_tokens.add(now, total_of(usage, OUTPUT_COMPONENTS))


_GUESS: Final = _Mix()


class Mixes:
    """What requests for each model have been, for so many models at most."""

    def __init__(self, *, models_max: int = MODELS_MAX) -> None:
        self._mixes: dict[str, _Mix] = {}
        self._models_max = models_max

    def __len__(self) -> int:
        return len(self._mixes)

    def learn(self, model: str, *, now: float, body_bytes: int, usage: Usage) -> None:
        """Take in what an answer's usage was: that of a request of so many bytes for a model."""
        mix = self._mixes.pop(model, None) or _Mix()
        if len(self._mixes) >= self._models_max:
            del self._mixes[next(iter(self._mixes))]  # what was asked for longest ago
        self._mixes[model] = mix
        mix.learn(now, body_bytes, usage)

    def keep(self, models: Collection[str]) -> None:
        """Forget every model but these."""
        kept = set(models)
        self._mixes = {name: mix for name, mix in self._mixes.items() if name in kept}

    def expect(self, model: str, *, body_bytes: int, output_tokens_max: int | None) -> Usage:
        """Return the usage that a request is expected to have, in whole tokens."""
        mix = self._mixes.get(model, _GUESS)
        prompt = round(body_bytes * _mean(mix.tokens_a_byte))
        cached = round(prompt * min(1.0, _mean(mix.cached_share)))
        output = round(_mean(mix.output_tokens))
        if output_tokens_max is not None:
            output = min(output, output_tokens_max)
        return {
            Component.INPUT: prompt - cached,
            Component.CACHED_READ: cached,
            Component.OUTPUT: output,
            Component.REQUEST: 1,
        }


def _mean(measure: Decayed) -> float:
    return measure.mean() or 0.0
