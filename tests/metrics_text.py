"""Reads what a scrape answers, as Prometheus would."""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.support import get


@dataclass(frozen=True)
class Scraped:
    """The series of one scrape, each by its name and labels."""

    series: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of all series of that name that have these labels."""
        return sum(self.each(name, **labels))

    def each(self, name: str, **labels: str) -> list[float]:
        wanted = labels.items()
        return [
            value for (found, has), value in self.series.items() if found == name and wanted <= has
        ]

    def labels(self, name: str, label: str) -> set[str]:
        return {dict(has).get(label, "") for found, has in self.series if found == name}


def read(text: str) -> Scraped:
    series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in series, f"twice: {key}"
            series[key] = sample.value
    return Scraped(series)


def scrape(url: str, secret: str) -> Scraped:
    answer = get(url, secret, "/metrics")
    assert answer.status == 200, answer
    return read(answer.body.decode())
