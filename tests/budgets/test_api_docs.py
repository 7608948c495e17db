"""The reference pages name what there is."""

import re
from pathlib import Path

import pytest

from budgets.api.limits import _TERMS
from tests.test_bad_input import ALL, Endpoint

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/api.md").read_text()
ERRORS = (ROOT / "docs/reference/errors.md").read_text()


@pytest.mark.parametrize("endpoint", ALL, ids=str)
def test_every_endpoint_and_each_of_its_fields_is_in_the_reference(endpoint: Endpoint) -> None:
    assert f"`{endpoint.method.upper()} /{endpoint.template}`" in PAGE
    for name in endpoint.takes().fields:
        assert f"`{name}`" in PAGE, name


def test_every_limit_is_in_the_reference() -> None:
    assert all(f"`{name}`" in PAGE for name in _TERMS)


def test_every_error_code_is_in_the_reference() -> None:
    source = (ROOT / "costplatform/errors.py").read_text()
    codes = set(re.findall(r'Problem\(\s*(?:\d+|status), "(\w+)"', source))
    codes |= set(re.findall(r'^    \d+: "(\w+)",$', source, re.MULTILINE))
    codes |= {"unknown_field", "unsupported_field"}

    assert len(codes) > 12
    types = {"authentication_error", "permission_error", "service_unavailable"}
    assert [code for code in codes - types if f"| `{code}` |" not in ERRORS] == []
