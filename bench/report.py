"""The comparison as Markdown and JSON; neither names the machine or who ran it."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bench.figures import Group, Row, Series, spread, times_better

OURS: Final = "costplatform"
FOLDER: Final = Path(__file__).parent / "results"
FULL_SHARE: Final = 0.85
"""A core that is less busy waits for something: requests a second are not its limit."""
NOISE_SHARE: Final = 0.1
LATE_MS_MAX: Final = 5.0
ALWAYS_SAID: Final = (
    "One core for the gateway, the other for upstream, load, Postgres, Valkey and recorder. Every"
    " answer was 2xx and whole, the upstream had served as many as came back, and the ledger had a"
    " row for each, its sums those of the live counters.",
    "LiteLLM's mode with a database cannot be run here: without look-ups of keys and writing of"
    " spend, its figures are a lower bound of its CPU.",
    "nginx checks, prices and records nothing: it is the limit, not a rival.",
)


HOW_TO_READ: Final = (
    "Median of rounds [lowest–highest]. Under × is by how many times costplatform is better than"
    " that one; below 1 it is worse."
)


@dataclass
class Comparison:
    """All that a run has found out."""

    taken_at: datetime
    commit: str
    machine: Mapping[str, str]
    plan: Mapping[str, Any]
    groups: Sequence[Group]
    titles: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    failed: bool = False
    """Whether something went wrong that is ours, or that makes figures worthless."""

    def add(self, name: str, values: Mapping[str, float]) -> None:
        """Keep a round's values of one contestant."""
        series = self.figures.setdefault(name, {})
        for key, value in values.items():
            series.setdefault(key, []).append(value)


def markdown(found: Comparison) -> str:
    """Return everything as a page."""
    lines = [f"# Gateways compared, {found.taken_at:%Y-%m-%d %H:%M} UTC", ""]
    lines += [f"- {name}: {value}" for name, value in found.machine.items()]
    lines += [f"- {name}: {value}" for name, value in found.versions.items()]
    lines += [f"- commit: {found.commit}", f"- rounds: {found.plan['rounds']}", ""]
    lines += [*ALWAYS_SAID, "", HOW_TO_READ, ""]
    for group in found.groups:
        lines += _table(group, found)
    lines += _list("How far to trust it", notes(found))
    lines += _list("Not measured", found.problems)
    return "\n".join(lines) + "\n"


def as_json(found: Comparison) -> str:
    """Return everything, each round's values included."""
    told = asdict(found) | {"taken_at": found.taken_at.isoformat(), "notes": notes(found)}
    told["groups"] = [group.title for group in found.groups]
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def save(found: Comparison, *, folder: Path = FOLDER) -> list[Path]:
    """Write both forms, named by date and commit; return where."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{found.taken_at:%Y-%m-%d-%H%M}-{found.commit}"
    written = []
    for ending, text in (("json", as_json(found)), ("md", markdown(found))):
        path = folder / f"{name}.{ending}"
        path.write_text(text)
        written.append(path)
    return written


def notes(found: Comparison) -> list[str]:
    """Return what a reader has to know of these very figures."""
    told = [
        _note_on_core(found.titles.get(name, name), series)
        for name, series in found.figures.items()
    ]
    told += [_note_on_others(found), _note_on_sender(found)]
    return [line for line in told if line]


def _note_on_core(title: str, series: Series) -> str | None:
    if not series.get("closed.core_share"):
        return None
    keys = ("core_share", "others_busy", "beside_busy")
    share, others, beside = (spread(series[f"closed.{key}"]).median for key in keys)
    busy = share + max(others, 0)
    if busy >= FULL_SHARE:
        return None
    return (
        f"{title}: its core was idle for {1 - busy:.0%} of the time with all"
        f" connections at work, the other core for {1 - beside:.0%}. It could do more requests a"
        " second than that; go by its CPU a request."
    )


def _note_on_others(found: Comparison) -> str | None:
    most = max(_all_of(found, ".others_busy"), default=0)
    if most <= NOISE_SHARE:
        return None
    return (
        f"Other programs used up to {most:.0%} of the gateways' core: requests a second and all"
        " times are theirs as well, so times are not compared; and CPU a request is higher than"
        " alone (caches, and cores that are threads of one): compare it within this run only."
    )


def _note_on_sender(found: Comparison) -> str | None:
    latest = max(_all_of(found, ".late_ms"), default=0)
    if latest <= LATE_MS_MAX:
        return None
    return (
        f"At fixed rates one request in a hundred was sent {latest:.0f} ms late or more: the sender"
        " had to wait for its core, and so did what it measured."
    )


def _all_of(found: Comparison, ending: str) -> Iterator[float]:
    for series in found.figures.values():
        for key, values in series.items():
            if key.endswith(ending):
                yield from values


def _table(group: Group, found: Comparison) -> list[str]:
    names = [name for name in found.figures if name in found.titles]
    rows = [row for row in group.rows if any(found.figures[name].get(row.key) for name in names)]
    if not rows:
        return []
    compared = [name for name in names if name != OURS] if OURS in names else []
    heads = [found.titles[name] for name in names] + [f"× {name}" for name in compared]
    head = f"| | {' | '.join(heads)} |"
    lines = [f"## {group.title}", "", head, "| --- " * (len(heads) + 1) + "|"]
    for row in rows:
        cells = [_cell(found.figures[name].get(row.key, []), row) for name in names]
        cells += [_times(found, name, row) for name in compared]
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(values: Sequence[float], row: Row) -> str:
    if not values:
        return "–"
    found, digits = spread(values), row.digits
    told = f"{found.median:,.{digits}f}"
    if len(values) == 1:
        return told
    return f"{told} [{found.low:,.{digits}f}–{found.high:,.{digits}f}]"


def _times(found: Comparison, name: str, row: Row) -> str:
    ours, theirs = found.figures[OURS], found.figures[name]
    if row.is_time and any(_was_shared(series, row) for series in (ours, theirs)):
        return "–"
    times = times_better(ours.get(row.key, []), theirs.get(row.key, []), row)
    return "–" if times is None else f"{times:.3g}"


def _was_shared(series: Series, row: Row) -> bool:
    """Return whether others used the core meanwhile: who needs more of it waits far longer then."""
    others = series.get(f"{row.key.partition('.')[0]}.others_busy", [])
    return max(others, default=0) > NOISE_SHARE


def _list(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {line}" for line in lines), ""] if lines else []


def commit() -> str:
    """Return the commit that is checked out, marked where files differ from it."""
    root = Path(__file__).parent
    try:
        head = _git(root, "rev-parse", "--short", "HEAD")
        return f"{head}-changed" if _git(root, "status", "--porcelain") else head
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *words: str) -> str:
    return subprocess.run(  # noqa: S603
        ["git", "-C", str(root), *words], capture_output=True, text=True, check=True  # noqa: S607
    ).stdout.strip()  # fmt: skip


def say(line: str) -> None:
    """Print a line at once: a run takes minutes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
