"""Whoever else speaks one of the shapes of API: what it does not serve, it will say itself."""

from gateway.providers.provider import ALL_ROUTES, BATCH_PATHS, Provider, openai_paths


def provider(slug: str) -> Provider:
    """Return a provider of which nothing is known but its name."""
    return Provider(slug=slug, name=slug, paths={**openai_paths(*ALL_ROUTES), **BATCH_PATHS})
