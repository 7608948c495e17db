"""Where providers are that speak the OpenAI API, and how they want to be authenticated."""

from collections.abc import Mapping
from typing import Final

SANDBOX: Final = "sandbox"
PRESETS: Final[Mapping[str, str]] = {
    "openai": "https://api.openai.com/v1",
    "mistral": "https://api.mistral.ai/v1",
    "groq": "https://api.groq.com/openai/v1",
    "together": "https://api.together.xyz/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "x-ai": "https://api.x.ai/v1",
    "fireworks": "https://api.fireworks.ai/inference/v1",
    "openrouter": "https://openrouter.ai/api/v1",
}
"""Base URLs of providers whose OpenAI-compatible endpoint takes a bearer token."""


def base_url_of(provider: str) -> str | None:
    """Return the provider's base URL, or None where each customer has another."""
    return PRESETS.get(provider)
