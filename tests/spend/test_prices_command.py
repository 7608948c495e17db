"""`costplatform prices`, as people type it."""

import io
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from spend.models import Model, PriceProposal, ProposalState, Provider
from tests.spend.price_lists import (
    BAD_JSON,
    BAD_RATES,
    BOMBS,
    csv_with,
    litellm_with,
)


@pytest.fixture
def vendor() -> str:
    return f"v-{uuid.uuid4().hex[:20]}"


def prices(*arguments: Any) -> str:
    out = io.StringIO()
    call_command("prices", *map(str, arguments), stdout=out, stderr=out, no_color=True)
    return out.getvalue()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def proposed(path: Path, content: bytes, source: str = "csv") -> int:
    return int(prices("propose", source, written(path, content)).split()[-1])


def test_a_list_is_compared_proposed_and_applied(vendor: str, tmp_path: Path) -> None:
    path = written(tmp_path / "list.csv", csv_with("0.0000025", provider=vendor))

    with pytest.raises(SystemExit) as ended:
        prices("diff", "csv", path)
    proposal = proposed(path, path.read_bytes())
    listed = prices("list")
    told = prices("apply", proposal)

    assert ended.value.code == 2
    assert f"{proposal}  proposed" in listed
    assert "1 changes applied by command line" in told
    assert Model.objects.filter(provider__slug=vendor, name="m").exists()
    assert "unchanged" in prices("diff", "csv", path)


def test_a_difference_tells_old_new_and_factor(
    vendor: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices("apply", proposed(tmp_path / "a", csv_with("0.0000025", provider=vendor)))

    told = prices("propose", "csv", written(tmp_path / "b", csv_with("0.00005", provider=vendor)))

    assert "input: 2.5 → 50 USD per 1M tokens  ×20  !" in told
    assert "needs confirmation" in told


def test_a_jump_is_applied_only_where_it_is_confirmed(vendor: str, tmp_path: Path) -> None:
    prices("apply", proposed(tmp_path / "a", csv_with("0.001", provider=vendor)))
    dearer = csv_with("0.1", provider=vendor)

    left_out = prices("apply", proposed(tmp_path / "b", dearer))
    taken = prices("apply", proposed(tmp_path / "b", dearer), "--confirm", f"{vendor}/m")

    assert f"left out: {vendor}/m was not confirmed" in left_out
    assert "0 changes applied" in left_out
    assert "1 changes applied" in taken


def test_a_proposal_is_rejected_with_a_reason(vendor: str, tmp_path: Path) -> None:
    proposal = proposed(tmp_path / "a", csv_with("1", provider=vendor))

    prices("reject", proposal, "not ours")

    assert PriceProposal.objects.get(pk=proposal).state == ProposalState.REJECTED
    with pytest.raises(CommandError, match="nothing was written: proposal was rejected"):
        prices("apply", proposal)


@pytest.mark.parametrize("rate", BAD_RATES)
def test_a_bad_rate_in_csv_writes_nothing(rate: str, vendor: str, tmp_path: Path) -> None:
    path = written(tmp_path / "list.csv", csv_with(rate, provider=vendor))

    for action in ("diff", "propose"):
        with pytest.raises(CommandError, match=f"nothing was written: {vendor}/m: rate is"):
            prices(action, "csv", path)
    assert not Provider.objects.filter(slug=vendor).exists()


@pytest.mark.parametrize("literal", BAD_JSON, ids=lambda text: text[:12])
def test_a_bad_rate_in_a_map_writes_nothing(literal: str, vendor: str, tmp_path: Path) -> None:
    path = written(tmp_path / "list.json", litellm_with(literal, provider=vendor))

    with pytest.raises(CommandError, match="nothing was written: m: input_cost_per_token is"):
        prices("propose", "litellm", path)
    assert not Provider.objects.filter(slug=vendor).exists()


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_no_list_is_refused_in_words(name: str, tmp_path: Path) -> None:
    source, content, words = BOMBS[name]

    with pytest.raises(CommandError, match=words):
        prices("propose", source, written(tmp_path / "list", content()))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("diff", "csv"), "needs a file"),
        (("diff", "genai-prices", "x"), "needs no file"),
        (("diff", "csv", "/nowhere/at/all"), "cannot be read: No such file"),
        (("diff", "vendor"), "invalid choice"),
        (("apply", str(2**62)), "there is no proposal"),
        (("apply", "-1"), "proposal"),
        (("export", "xml"), "invalid choice"),
        ((), "required"),
    ],
)
def test_what_makes_no_sense_is_said(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        prices(*arguments)


def test_the_price_book_is_exported_and_is_read_as_unchanged(tmp_path: Path) -> None:
    path = written(tmp_path / "all.csv", prices("export", "csv").encode())
    rows = path.read_text().splitlines()
    openai = [row for row in rows if row.startswith("openai,")]
    path.write_text("\n".join((rows[0], *openai)))

    told = prices("diff", "csv", path)

    assert len(openai) > 100
    assert told.splitlines()[-1].endswith("unchanged")


def test_what_is_exported_as_a_map_is_json() -> None:
    text = prices("export", "litellm")

    found, _ = json.JSONDecoder().raw_decode(text)

    assert found["openai/gpt-4o"]["litellm_provider"] == "openai"
