"""Reads what ``/metrics`` says."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series(text: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Series, name: str, **labels: str) -> float:
    """The sum of the series of this name that have these labels, others beside."""
    return sum(
        number
        for (known, has), number in found.items()
        if known == name and labels.items() <= dict(has).items()
    )
