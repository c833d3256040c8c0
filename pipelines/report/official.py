"""What a run's report shows of VBench's official suite: totals with intervals, beside what was published."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from evaluation.vbench.aggregation import DIMENSIONS
from evaluation.vbench.results import TOTALS, gain_of, percent, published_rows, span_of
from pipelines.report.recorded import RecordedRun, mapping, number, version_number

PAPER = "VQ-Insight, table 6"
"""The rows shown beside a run's: the paper's own, of the same loop."""


@dataclass(frozen=True)
class Cell:
    """A score in percent, its 95 % interval, and its gain over the base; empty where there is none."""

    score: str
    span: str = ""
    gain: str = ""


@dataclass(frozen=True)
class OfficialTable:
    """Columns, rows of cells by score, why there are no totals, and what else a reader should know (sentences)."""

    columns: list[str]
    totals: list[tuple[str, list[Cell]]]
    dimensions: list[tuple[str, list[Cell]]]
    no_total: list[str]
    problems: list[str]


def official_table(run: RecordedRun) -> OfficialTable | None:
    """The table of the versions that drew the official prompts; None where there are none.

    Totals stand beside the paper's. A dimension's score is the raw one.
    """
    found = {name: mapping(said) for name, said in mapping(mapping(run.score.get("vbench")).get("official")).items()}
    if not found:
        return None
    versions = sorted(found, key=version_number)
    paper = [row for row in published_rows() if row["source"] == PAPER]
    figures = {name: (mapping(said.get("totals")), mapping(said.get("dimensions"))) for name, said in found.items()}
    theirs = {name: [Cell(percent(row[name] / 100)) for row in paper] for name in TOTALS}
    ours = {name: [_cell(figures[v][0].get(name), "score", "interval") for v in versions] for name in TOTALS}
    totals = [(name, ours[name] + theirs[name]) for name in TOTALS]
    scored = [name for name in DIMENSIONS if any(name in figures[version][1] for version in versions)]
    dimensions = [(name, [_cell(figures[v][1].get(name), "raw", "raw_interval") for v in versions]) for name in scored]
    return OfficialTable(
        [*versions, *(str(row["model"]) for row in paper)],
        totals,
        dimensions,
        [f"{version}: {found[version]['no_total']}" for version in versions if found[version].get("no_total")],
        [f"{v}: {text}" for v in versions for text in _listed(found[v].get("problems"))],
    )


def _cell(figures: object, score: str, interval: str) -> Cell:
    known = mapping(figures)
    ends = _ends(known.get(interval))
    change: Mapping[str, Any] = {"gain": number(known.get("gain")), "gain_interval": _ends(known.get("gain_interval"))}
    return Cell(percent(number(known.get(score))), span_of(ends), gain_of(change))


def _ends(value: object) -> list[float] | None:
    """An interval as a file holds it; None where it is none."""
    ends = [end for item in _listed(value) if (end := number(item)) is not None]
    return ends if len(ends) == 2 else None


def _listed(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
