"""``costplatform exchange-rates``: what it lists and imports, and how it fails."""

import os
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from budgets.models import Change
from spend.models import ExchangeRate
from tests import rates
from tests.spend.test_exchange import BAD_RATES
from tests.stack import command

HEAD = "date,base,quote,rate\n"


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("exchange_rates", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def row(currency: str, rate: str, day: object = None) -> str:
    return f"{day or rates.today()},EUR,{currency},{rate}\n"


def test_a_table_is_imported_once_and_listed(tmp_path: Path, currency: str) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(
        HEAD + row(currency, "2.5") + row(currency, "2.4", rates.days_ago(1))
        + row(currency, "25", rates.days_ago(-1))
    )  # fmt: skip

    first, again = run("import", str(file)), run("import", str(file))

    told = f"{rates.today()} 1 EUR = 2.5 {currency} manual in force"
    assert first.startswith("2 rates in force, 1 quarantined, 0 were there already\n")
    assert "jumps by more than 20 %: the last rate in force is 2.5" in first
    assert again == "0 rates in force, 0 quarantined, 3 were there already\n"
    assert told in run("list", "--quote", currency)
    assert told not in run("list", "--quote", currency, "--state", "quarantined")
    assert len(run("list", "--quote", currency, "--count", "1").splitlines()) == 1
    made = ExchangeRate.objects.filter(quote=currency).first()
    assert made is not None
    kept = Change.objects.filter(table_name="spend_exchangerate", object_id=str(made.pk))
    assert kept.get().actor == "command"


@pytest.mark.parametrize(
    "rate", [each for each in BAD_RATES if "," not in each and "\n" not in each]
)
def test_a_bad_rate_is_named_by_its_line_and_nothing_is_imported(
    tmp_path: Path, currency: str, rate: str
) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(HEAD + row(currency, "2.5", rates.days_ago(1)) + row(currency, rate))

    with pytest.raises(CommandError, match="line 3: rate "):
        run("import", str(file))

    assert not ExchangeRate.objects.filter(quote=currency).exists()


def test_the_history_that_came_along_is_a_seed_for_a_machine_without_a_network() -> None:
    first, again = (run("seed", "--since", "2026-10-29") for _ in range(2))

    seeded = ExchangeRate.objects.filter(source="ecb", quote="USD", date="2026-10-30").get()
    assert f"{seeded.rate:.4f}" == "1.1172"
    assert "rates in force" in first
    assert again.startswith("0 rates in force, 0 quarantined")
    with pytest.raises(CommandError, match="ends before that day"):
        run("seed", "--since", str(rates.today()))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "ACTION"), (("nothing",), "nothing"), (("import",), "file"),
        (("import", "/nowhere/at-all.csv"), "/nowhere/at-all.csv"), (("import", "/"), "/"),
        (("list", "--base", "ZZZ"), "--base"), (("list", "--count", "0"), "--count"),
        (("list", "--count", "１"), "--count"), (("list", "--state", "maybe"), "--state"),
        (("seed", "--since", "yesterday"), "--since"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(arguments: tuple[str, ...], named: str) -> None:
    with pytest.raises(CommandError, match=named):
        run(*arguments)


def test_without_an_address_there_is_nothing_to_fetch(settings: Settings) -> None:
    settings.EXCHANGE_RATES_URL = ""

    with pytest.raises(CommandError, match="EXCHANGE_RATES_URL: is empty"):
        run("fetch")


def test_a_fetch_that_fails_says_why(settings: Settings) -> None:
    settings.EXCHANGE_RATES_URL = "http://127.0.0.1:9/"

    with pytest.raises(CommandError, match="EXCHANGE_RATES_URL: cannot be fetched"):
        run("fetch")


def test_it_is_a_command_of_costplatform_with_help_and_an_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(HEAD + row("USD", "NaN"))
    environment = dict(os.environ)

    help = command("exchange-rates", "--help", env=environment)
    failed = command("exchange-rates", "import", str(file), env=environment)

    assert help.returncode == 0
    assert all(each in help.stdout for each in ("list", "import", "seed", "fetch"))
    assert failed.returncode == 1
    assert "line 2: rate must be a number in digits" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXCHANGE_RATE_STALE_DAYS", "-1"), ("EXCHANGE_RATE_STALE_DAYS", "soon"),
        ("EXCHANGE_RATE_JUMP_MAX", "1"), ("EXCHANGE_RATE_JUMP_MAX", "NaN"),
        ("EXCHANGE_RATE_JUMP_MAX", "１.2"), ("EXCHANGE_RATES_URL", "file:///etc/passwd"),
    ],
)  # fmt: skip
def test_a_setting_that_does_not_fit_ends_the_start_with_its_name(name: str, value: str) -> None:
    ended = command("check", env=os.environ | {name: value})

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"{name}: ")
