"""The figures of a run: one line for each scenario, printed at the end and written to a file."""

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

REPORT: Final = "FAULTS_REPORT"
"""Where to write the table, as PATH.md and PATH.json."""


@dataclass(frozen=True)
class Line:
    scenario: str
    figures: dict[str, object]
    seed: int
    seconds: float

    def cells(self) -> tuple[str, str, str, str]:
        figures = ", ".join(f"{name} {value}" for name, value in self.figures.items())
        return self.scenario, figures, str(self.seed), f"{self.seconds:.0f}"


LINES: Final[list[Line]] = []


def text(lines: list[Line]) -> list[str]:
    width = max(len(line.scenario) for line in lines)
    return [f"{name:{width}}  {rest} (seed {seed}, {s} s)" for name, rest, seed, s in _cells(lines)]


def markdown(lines: list[Line]) -> str:
    head = ["| scenario | figures | seed | seconds |", "| --- | --- | --- | --- |"]
    rows = [f"| {' | '.join(cells)} |" for cells in _cells(lines)]
    return "\n".join([f"At {commit()}, {machine()}.", "", *head, *rows, ""])


def write(lines: list[Line]) -> None:
    """Write the report if one is asked for."""
    if path := os.environ.get(REPORT):
        Path(path).with_suffix(".md").write_text(markdown(lines))
        content = {"commit": commit(), "machine": machine(), "lines": [asdict(x) for x in lines]}
        Path(path).with_suffix(".json").write_text(json.dumps(content, indent=2))


def machine() -> str:
    return f"{os.cpu_count()} × {platform.machine()}, {platform.system()} {platform.release()}"


def commit() -> str:
    words = ["git", "rev-parse", "--short", "HEAD"]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    return ran.stdout.strip() or "unknown"


def _cells(lines: list[Line]) -> list[tuple[str, str, str, str]]:
    return [line.cells() for line in lines]
