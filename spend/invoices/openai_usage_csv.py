"""OpenAI's usage as the platform's usage page exports it; :mod:`openai_usage` has the shape."""

from typing import Final

from spend.invoices import openai_usage

NAME: Final = "openai_usage_csv"
LABEL: Final = "OpenAI usage of completions (CSV, tokens only)"
parse: Final = openai_usage.parse_csv
