"""OpenAI's usage as its API tells it; :mod:`openai_usage` has the shape."""

from typing import Final

from spend.invoices import openai_usage

NAME: Final = "openai_usage_json"
LABEL: Final = "OpenAI usage of completions (JSON of the API, tokens only)"
parse: Final = openai_usage.parse_json
