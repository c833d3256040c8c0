"""The page of an evaluation on VBench: its figures beside the base's and published rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.vbench.aggregation import DIMENSIONS, QUALITY, SEMANTIC
from evaluation.vbench.results import TOTALS, published_rows
from pipelines.report.html import render
from videoduet.store import write_bytes


def write_page(output: Path, summary: Mapping[str, Any]) -> Path:
    """The path of ``output``/results.html, written: one page that loads nothing from outside.

    ``summary`` is what results.json keeps.
    """
    path = output / "results.html"
    page = render(
        "vbench.html", summary=summary, published=published_rows(), quality=list(QUALITY), semantic=list(SEMANTIC),
        dimensions=list(DIMENSIONS), names=TOTALS,
    )  # fmt: skip
    write_bytes(path, page)
    return path
