"""
The providers whose ways are known, one small file each: how to authenticate, where to send, and
how usage is read where it is not as everywhere.
"""

from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from gateway.providers import (
    anthropic,
    azure,
    bedrock,
    cohere,
    compatible,
    deepseek,
    fireworks,
    gemini,
    groq,
    mistral,
    ollama,
    openai,
    openrouter,
    together,
    vertex,
    vllm,
    xai,
)
from gateway.providers.provider import CredentialRefused, Outgoing, Provider

__all__ = ["PROVIDERS", "SANDBOX", "CredentialRefused", "Outgoing", "Provider", "base_url_of", "of"]

SANDBOX: Final = "sandbox"
# Of several with one slug, those come first that are told by their hosts.
PROVIDERS: Final = (
    openai.PROVIDER, azure.PROVIDER, anthropic.PROVIDER, vertex.PROVIDER, gemini.PROVIDER,
    bedrock.PROVIDER, mistral.PROVIDER, groq.PROVIDER, together.PROVIDER, deepseek.PROVIDER,
    xai.PROVIDER, fireworks.PROVIDER, cohere.PROVIDER, openrouter.PROVIDER, vllm.PROVIDER,
    ollama.PROVIDER,
)  # fmt: skip


@lru_cache(maxsize=4_096)
def of(slug: str, api_base: str) -> Provider:
    """Return the provider of a deployment; one that nobody knows is taken to be compatible."""
    host = urlsplit(api_base).hostname or ""
    for each in PROVIDERS:
        if each.slug == slug and (not each.hosts or host.endswith(each.hosts)):
            return each
    return compatible.provider(slug)


def base_url_of(slug: str) -> str | None:
    """Return the provider's base URL, or None where each customer has another."""
    return next((each.api_base for each in PROVIDERS if each.slug == slug and each.api_base), None)
