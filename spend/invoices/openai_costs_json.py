"""OpenAI's costs as its API tells them; :mod:`openai_costs` has the shape."""

from typing import Final

from spend.invoices import openai_costs

NAME: Final = "openai_costs_json"
LABEL: Final = "OpenAI costs (JSON of the API)"
parse: Final = openai_costs.parse_json
