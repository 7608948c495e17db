"""
The docs say what is there: every setting, command, error code, flag, column and header has its
row, every file that is named exists, and every link leads somewhere.
"""

import ast
import re
from argparse import Action
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand
from prometheus_client.metrics import MetricWrapperBase

from budgets import book_metrics
from budgets.errors import BudgetExceeded, LimitReached
from costplatform import cli, env
from costplatform.metrics_state import FAMILIES
from gateway import metrics as gateway_metrics
from gateway.errors import GatewayError
from spend import events
from spend import metrics as spend_metrics
from spend.components import Component
from spend.ledger import COLUMNS
from spend.models import EventKind

pytestmark = pytest.mark.no_servers

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
APPS = ("costplatform", "budgets", "spend", "gateway")
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])


# --- Settings ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A call that reads a variable; its page must say the same, but where something is None."""

    name: str
    default: str | None = None
    allowed: str | None = None


READERS = {
    "text", "choice", "flag", "factor", "integer", "names", "kept_secret", "running_server",
    "given", "port_for",
}  # fmt: skip


def settings_read() -> list[Setting]:
    """Return every read of an environment variable in the source, wherever it stands."""
    return [
        setting
        for path, tree in sources(*APPS)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and function_of(call) in READERS
        for setting in setting_of(call, path)
    ]


def setting_of(call: ast.Call, path: Path) -> Iterator[Setting]:
    if not (call.args and isinstance(call.args[0], ast.Constant)):
        return  # a reader that passes on the name it was given
    name, kind = str(call.args[0].value), function_of(call)
    if not re.fullmatch(r"[A-Z][A-Z0-9_]+", name):
        return  # a function of the same name that reads something else
    told = {"default", "of", "low", "high"}
    keywords = {w.arg: value_of(w.value, path) for w in call.keywords if w.arg in told}
    if kind in {"kept_secret", "given"}:
        yield Setting(name)
    elif kind == "running_server":
        yield Setting(name, "the embedded server's")
    elif kind == "flag":
        yield Setting(name, "on" if keywords["default"] else "off", "on, off")
    elif kind == "choice":
        yield Setting(name, str(value_of(call.args[1], path)), ", ".join(keywords["of"]))
    elif kind in {"integer", "port_for"}:
        low, high = keywords.get("low", 1), keywords.get("high", 65_535)
        yield Setting(name, str(value_of(call.args[1], path)), f"{low}–{high}")
    else:
        yield Setting(name, str(value_of(call.args[1], path)) or "(empty)")


def value_of(node: ast.expr, path: Path) -> Any:
    """Return what an expression of constants is, by the names of the module it stands in."""
    module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return eval(compile(ast.Expression(node), str(path), "eval"), vars(module))


def test_every_setting_is_listed_with_its_default_and_what_it_allows() -> None:
    listed = {row[0]: row for row in rows_of(REFERENCE / "settings.md")}
    found = settings_read()

    for setting in found:
        assert setting.name in listed, f"{setting.name} is missing in settings.md"
        _, default, allowed, _ = listed[setting.name]
        defaults = {each.default for each in found if each.name == setting.name}
        assert defaults == {None} or default in defaults, setting
        assert setting.allowed in {None, allowed}, setting
    assert len({setting.name for setting in found}) > 30


def test_every_setting_that_the_settings_have_read_is_listed() -> None:
    listed = {row[0] for row in rows_of(REFERENCE / "settings.md")}
    ours = {name for name in env.NAMES if not name.startswith(("PROBE", "COSTPLATFORM_TEST_"))}

    assert "DATABASE_URL" in ours
    assert ours - listed == set()


def test_no_setting_is_listed_that_nothing_reads() -> None:
    read = {setting.name for setting in settings_read()}

    listed = {row[0] for row in rows_of(REFERENCE / "settings.md")}

    assert {name for name in listed if name.isupper()} - read == set()


# --- Error codes ---------------------------------------------------------------------------


def errors() -> set[tuple[str, str]]:
    """Return (class, code) of everything that the gateway can refuse with."""
    found = {
        (kind.__name__, kind.code)
        for kind in subclasses(GatewayError)
        if kind.__name__ not in {"LimitRefused", "Unavailable"}
    }
    found |= {("LimitRefused", kind.code) for kind in LimitReached.__subclasses__()}
    return found | {("Unavailable", code) for code in codes_given("Unavailable")}


def codes_given(function: str) -> Iterator[str]:
    """Yield each ``code="…"`` that a call of ``function`` in the gateway is given."""
    for _, tree in sources("gateway"):
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and function_of(call) == function:
                yield from (str(ast.literal_eval(w.value)) for w in call.keywords if w.arg)


def subclasses(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_gateway_error_is_listed_with_its_class_and_status() -> None:
    listed = {(row[1], row[0]): row for row in rows_of(REFERENCE / "gateway-errors.md")}
    statuses = {kind.__name__: kind.status for kind in subclasses(GatewayError)}
    found = errors()

    assert {code for _, code in found} >= {"budget_exceeded", "store_closed", "invalid_api_key"}
    assert found - listed.keys() == set()
    for kind, code in found - {("LimitRefused", BudgetExceeded.code)}:
        expected = 429 if kind == "LimitRefused" else statuses[kind]
        assert listed[kind, code][2].startswith(str(expected)), code


def test_every_gateway_error_says_whether_to_try_again() -> None:
    rows = [row for row in rows_of(REFERENCE / "gateway-errors.md") if len(row) > 3]
    listed = {row[1]: row[3] for row in rows}

    for kind in subclasses(GatewayError):
        if kind.__name__ != "LimitRefused":
            assert listed[kind.__name__] == ("yes" if kind.should_retry else "no"), kind


# --- Ledger, headers, commands -------------------------------------------------------------


@pytest.mark.parametrize("word", [*events.FLAGS, *EventKind.values, *COLUMNS])
def test_every_flag_kind_and_column_of_the_ledger_is_listed(word: str) -> None:
    assert word in {row[0] for row in rows_of(REFERENCE / "ledger.md")}


def test_every_class_and_every_shape_of_usage_is_listed() -> None:
    page = REFERENCE / "usage.md"
    classes = {name for row in rows_of(page) for name in row[0].replace("`", "").split(", ")}
    shapes = {path.stem for path in (ROOT / "tests" / "data" / "usage").glob("*.json")}

    assert set(Component) <= classes
    assert all(f"`{shape}`" in page.read_text() for shape in shapes)


def test_every_header_that_the_gateway_reads_or_sends_is_listed() -> None:
    listed = {row[0] for row in rows_of(REFERENCE / "headers.md")}
    named = {
        node.value
        for path, tree in sources("gateway")
        # A provider is called x-ai.
        if not {"sandbox", "admin", "xai.py"} & set(path.parts)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"x-[a-z-]+|llm_provider-[a-z-]+|retry-after", node.value)
    }

    assert "x-costplatform-cost" in named
    assert named - listed == set()


def our_commands() -> dict[str, BaseCommand]:
    return {
        name.replace("_", "-"): load_command_class(app, name)
        for name, app in get_commands().items()
        if app in APPS
    }


def options_of(command: BaseCommand) -> set[str]:
    """Return the options that are the command's own, not those that Django gives to all."""
    common: list[Action] = BaseCommand().create_parser("", "")._actions
    usual = {option for action in common for option in action.option_strings}
    own = command.create_parser("", "")._actions
    return {option for action in own for option in action.option_strings} - usual


def test_every_command_and_each_of_its_options_is_listed() -> None:
    words = {word for row in rows_of(REFERENCE / "commands.md") for word in row[:1]}
    commands = our_commands()

    assert {"demo", "verify-ledger", "recorder"} <= commands.keys()
    assert {"up", *commands} - words == set()
    for name, command in commands.items():
        assert options_of(command) - words == set(), name


def test_the_commands_usage_names_every_command() -> None:
    for name in ("up", *our_commands()):
        assert re.search(rf"^  {name} ", cli.USAGE, re.MULTILINE), name


# --- Metrics -------------------------------------------------------------------------------


def metrics_there_are() -> dict[str, tuple[str | None, tuple[str, ...]]]:
    """Return type and labels of each metric: those that processes count, and those of a scrape."""
    counted = {
        metric._name + ("_total" if metric._type == "counter" else ""): metric
        for module in (book_metrics, gateway_metrics, spend_metrics)
        for metric in vars(module).values()
        if isinstance(metric, MetricWrapperBase)
    }
    found: dict[str, tuple[str | None, tuple[str, ...]]]
    found = {name: (each._type, tuple(each._labelnames)) for name, each in counted.items()}
    return found | {name: ("gauge", labels) for name, (_, labels) in FAMILIES.items()}


def test_every_metric_is_listed_with_its_type_and_labels_and_no_other() -> None:
    rows = [row for row in rows_of(REFERENCE / "metrics.md") if row[0].startswith("costplatform_")]
    listed = {row[0]: (row[1], tuple(re.findall(r"\w+", row[2]))) for row in rows}

    assert listed == metrics_there_are()
    assert len(rows) == len(listed) > 25
    assert all(row[3] for row in rows)


def test_no_label_tells_of_a_person_or_a_key() -> None:
    labels = {label for _, labels in metrics_there_are().values() for label in labels}

    assert labels & {"key", "user", "end_user", "tag", "email", "member", "request_id"} == set()


def test_the_alerts_that_are_recommended_use_metrics_that_there_are() -> None:
    text = (ROOT / "docs" / "how-to" / "scrape-metrics.md").read_text()
    named = set(re.findall(r"costplatform_\w+", text))

    assert len(named) > 5
    assert named - metrics_there_are().keys() == set()


# --- Pages ---------------------------------------------------------------------------------


def test_every_file_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    named = set(re.findall(r"`([a-z_.]+(?:/[a-z_.]*)+|[a-z]+\.py)`", text))

    assert len(named) > 20
    assert {name for name in named if not (ROOT / name).exists()} == set()


def links_of(page: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"\]\(([^)\s]+)\)", text)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), link
        assert not anchor or anchor in anchors_of(found), link


def proofs_in(page: Path) -> set[tuple[str, str]]:
    """Return (file, test) of each test that a page names as proof."""
    return set(re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text()))


def test_every_test_that_the_docs_name_exists() -> None:
    named = {each for page in PAGES for each in proofs_in(page)}
    gone = {
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).is_file()
        or not re.search(rf"^(?:async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
    }

    assert len(named) > 20
    assert gone == set()


def test_every_page_can_be_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    reached, waiting = {index}, [index]
    while waiting:
        page = waiting.pop()
        for link in links_of(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists() and target not in reached:
                reached.add(target)
                waiting.append(target)

    assert {page for page in PAGES if ROOT / "docs" in page.parents} - reached == set()


def test_the_readme_tells_the_one_test_command() -> None:
    readme = (ROOT / "README.md").read_text()

    assert "`make test`" in readme
    assert re.search(r"^test:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("make test")


# --- Reading -------------------------------------------------------------------------------


def sources(*apps: str) -> Iterator[tuple[Path, ast.Module]]:
    for app in apps:
        for path in sorted((ROOT / app).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def function_of(call: ast.Call) -> str:
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def rows_of(page: Path) -> list[list[str]]:
    """Return the cells of every table row of a page, without code marks."""
    return [
        [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        for line in page.read_text().splitlines()
        if line.startswith("|") and not re.fullmatch(r"[|\-: ]+", line)
    ]
