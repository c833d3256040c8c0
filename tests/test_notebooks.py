"""The notebooks run from their first cell to their last, in an empty folder, as a reader runs them."""

import json
import os
import subprocess
import sys

import pytest
from source_tree import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def cells(path) -> list[str]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_are_two_and_they_hold_no_output():
    assert [path.stem for path in NOTEBOOKS] == ["close_the_loop", "judge_two_videos"]
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None
        for code in cells(path):
            compile(code, path.name, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    (tmp_path / "cells.py").write_text("\n\n".join(cells(path)), encoding="utf-8")
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "cells.py"], cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    if path.stem == "judge_two_videos":
        assert (tmp_path / "two_videos" / "page.html").exists() and "status: decided" in done.stdout, done.stdout
    else:
        assert (tmp_path / "runs" / "notebook" / "report.html").exists() and "numbers were learned" in done.stdout
