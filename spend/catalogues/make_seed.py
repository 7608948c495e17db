"""
Makes ``seed_prices.json`` out of LiteLLM's price map: what genai-prices has no prices of.

``python -m spend.catalogues.make_seed model_prices_and_context_window.json`` writes it anew. It
takes what is not paid by text tokens alone – images, audio, video, pages, searches, reranking – of
well-known providers, and keeps of each row only what says its price and its bounds.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from spend.catalogues import genai, litellm, litellm_checks
from spend.catalogues.diff import Book, HeldModel
from spend.catalogues.listing import ListedModel, Listing
from spend.catalogues.providers import canonical, canonical_name
from spend.catalogues.sources import SEED_FILE

ROWS_MAX: Final = 400
MODES: Final = frozenset(
    {
        "image_generation", "image_edit", "audio_transcription", "audio_speech",
        "video_generation", "rerank", "search", "ocr",
    }
)  # fmt: skip
PROVIDERS: Final = frozenset(
    {
        "assemblyai", "aws", "azure", "black_forest_labs", "cohere", "deepgram", "elevenlabs",
        "exa_ai", "firecrawl", "google", "groq", "jina_ai", "linkup", "mistral", "openai",
        "perplexity", "recraft", "runwayml", "stability", "tavily", "together", "voyageai", "x-ai",
    }
)  # fmt: skip
KEPT: Final = frozenset({"litellm_provider", "mode", "max_input_tokens", "max_output_tokens"})
PARTICULAR: Final = re.compile(
    r"(?:azure|bedrock)/(?:eu|us|global|ap|sa|ca)[a-z0-9-]*/|[0-9]+-x-[0-9]+/(?:[0-9]+|max)-steps/"
)
"""Rows that repeat a model for one region, data zone or number of steps."""

Row = Mapping[str, Any]


def main() -> None:
    (path,) = sys.argv[1:]
    rows = make(litellm_checks.rows_of(Path(path).read_bytes()))
    text = json.dumps(rows, indent=1, default=str)
    # Numbers are kept as they are written: no reader needs more than that.
    text = re.sub(r'"(-?[0-9.]+(?:E-?[0-9]+)?)"(?=,?\n)', r"\1", text)
    Path(__file__).with_name(SEED_FILE).write_text(f"{text}\n")


def make(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Return the rows of the seed, the price fields and bounds of each."""
    known = known_to_genai()
    found = {
        name: _cut(row)
        for name, row in sorted(rows.items())
        if _is_wanted(name, row) and not _is_known(name, row, known)
    }
    assert len(found) <= ROWS_MAX, f"{len(found)} rows"
    return found


def known_to_genai() -> Book:
    """Return a book of the models that genai-prices has, under all their names."""
    return Book(
        HeldModel(each.provider, each.name, each.other_names, each.prefixes, ())
        for each in genai.read().models
        if each.prices
    )


def _is_wanted(name: str, row: Row) -> bool:
    provider = canonical_name(str(row.get("litellm_provider")))
    return (
        row.get("mode") in MODES
        and provider in PROVIDERS
        and not PARTICULAR.match(name)
        and litellm.read_row(name, _cut(row)) is not None
    )


def _is_known(name: str, row: Row, known: Book) -> bool:
    match = litellm.ROW_NAME.fullmatch(name)
    model = ListedModel(
        provider=row["litellm_provider"],
        name="/".join(filter(None, (match["before"], match["model"]))) if match else name,
        prices=(),
    )
    (renamed,) = canonical(Listing(litellm.SOURCE, "", {}, (model,))).models
    return known.charged_as(renamed) is not None


def _cut(row: Row) -> Row:
    return {field: value for field, value in row.items() if field in KEPT or "cost" in field}


if __name__ == "__main__":
    main()
