"""OpenAI's costs as the platform's usage page exports them; :mod:`openai_costs` has the shape."""

from typing import Final

from spend.invoices import openai_costs

NAME: Final = "openai_costs_csv"
LABEL: Final = "OpenAI costs (CSV)"
parse: Final = openai_costs.parse_csv
