"""DeepSeek (https://api-docs.deepseek.com)."""

from typing import Final

from gateway.providers.provider import Provider, openai_paths
from gateway.routes import CHAT

PROVIDER: Final = Provider(
    slug="deepseek",
    name="DeepSeek",
    api_base="https://api.deepseek.com/v1",
    paths=openai_paths(CHAT),
)
