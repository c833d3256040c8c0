"""VBench aggregation against the official script's numbers and published rows."""

import json
from pathlib import Path

import pytest

from evaluation.vbench.aggregation import DIMENSIONS, QUALITY, SEMANTIC, aggregate, normalise, total
from videoduet.errors import InputError

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "vbench_aggregate.json").read_text())["cases"]
ROWS = json.loads((GOLDEN / "vbench_published_rows.json").read_text())["rows"]


def underscored(dimensions: dict[str, float]) -> dict[str, float]:
    return {name.replace(" ", "_"): value for name, value in dimensions.items()}


@pytest.mark.parametrize("name", CASES)
def test_golden_aggregation(name):
    result = aggregate(underscored(CASES[name]["per_dimension"]))
    for key in ("quality", "semantic", "total"):
        assert result[key] == pytest.approx(CASES[name][key], abs=1e-9)
    weighted = underscored(CASES[name]["normalised_weighted"])
    for key, raw in underscored(CASES[name]["per_dimension"]).items():
        assert DIMENSIONS[key].weight * normalise(key, raw) == pytest.approx(weighted[key], abs=1e-9)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["model"])
def test_published_rows(row):
    result = aggregate({name: value / 100 for name, value in row["dimensions"].items()})
    for key in ("quality", "semantic", "total"):
        assert 100 * result[key] == pytest.approx(row[key], abs=0.0101)


@pytest.mark.parametrize(("quality", "semantic", "expected"), [(0.8271, 0.7393, 0.8095), (0.8367, 0.7365, 0.8167)])
def test_vq_insight_table_6(quality, semantic, expected):
    assert round(total(quality, semantic), 4) == expected


def test_a_missing_or_unknown_dimension_is_named():
    scores = dict.fromkeys([*QUALITY, *SEMANTIC], 0.5)
    del scores["scene"]
    with pytest.raises(InputError, match="missing scene"):
        aggregate(scores)
    with pytest.raises(InputError, match="unknown sceen"):
        aggregate({**scores, "scene": 0.5, "sceen": 0.5})


@pytest.mark.parametrize("raw", [float("nan"), float("inf"), 96.28])
def test_what_is_no_score_is_refused(raw):
    scores = {**dict.fromkeys(DIMENSIONS, 0.5), "scene": raw}
    with pytest.raises(InputError, match="scene is .* divide percentages by 100"):
        aggregate(scores)
