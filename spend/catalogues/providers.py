"""
One name for each provider: lists call them differently, and the price book as genai-prices does.

Who serves a model sends the bill, so that Bedrock is ``aws`` whoever made the model.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from spend.catalogues.listing import ListedModel, Listing

NAMES: Final[Mapping[str, str]] = {
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "bedrock_mantle": "aws",
    "codestral": "mistral",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "github_copilot": "github-copilot",
    "meta_llama": "meta",
    "moonshot": "moonshotai",
    "palm": "google",
    "text-completion-codestral": "mistral",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vertex_ai": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
}
"""LiteLLM's names where the price book has another. What is not here keeps its own."""
FAMILIES: Final = ("vertex_ai", "fireworks_ai")
"""Of whose providers there are several, such as ``vertex_ai-video-models``."""


def canonical_name(provider: str) -> str:
    family, dash, _ = provider.partition("-")
    return NAMES.get(family if dash and family in FAMILIES else provider, provider)


def canonical(listing: Listing) -> Listing:
    """Return the list under the price book's names; of two equal models the first one counts."""
    models: dict[tuple[str, str], ListedModel] = {}
    for model in map(_renamed, listing.models):
        models.setdefault((model.provider, model.name), model)
    names = {canonical_name(slug): name for slug, name in listing.provider_names.items()}
    # A name that says no more than the slug was none.
    shown = {slug: slug if name in NAMES or name == slug else name for slug, name in names.items()}
    return replace(listing, provider_names=shown, models=tuple(models.values()))


def _renamed(model: ListedModel) -> ListedModel:
    slug = canonical_name(model.provider)
    head, slash, rest = model.name.partition("/")
    if not (slash and rest and canonical_name(head) == slug):
        return replace(model, provider=slug)
    # The whole name is LiteLLM's way to say who serves it.
    others = tuple(dict.fromkeys((*model.other_names, model.name)))
    return replace(model, provider=slug, name=rest, other_names=others)
