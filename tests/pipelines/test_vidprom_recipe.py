"""The paper's stage 3, ``configs/vidprom.yaml``, on tiny stand-ins in the real layouts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_loop import command, results, shipped_judge
from vidprom_stand_ins import options, stand_ins

from videoduet.store import read_json

INSTANTS = (
    "round_00/sample/videos/*.mp4",
    "round_01/refresh/comparisons_*.parquet",
    "round_01/refresh/checkpoints/*",
    "round_01/refresh/training.json",
    "round_01/rank/comparisons_*.parquet",
)
"""The run is killed as soon as one of these is there."""


def killed_at(instant: str, root: Path) -> None:
    """Start the run, or go on with it, and kill it once there is a file that was not there before."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    line = [sys.executable, "-m", "pipelines.united_finetune", *options(root)]
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((root / "run").glob(instant)):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"{instant} came and went before a kill"


@pytest.mark.slow
@shipped_judge
def test_the_papers_recipe_runs_whole_and_killed_five_times_to_the_same_bytes(tmp_path, no_report, monkeypatch):
    monkeypatch.setenv("VIDEODUET_VBENCH", str(tmp_path / "nowhere"))
    root, run = stand_ins(tmp_path), tmp_path / "run"
    assert command(*options(root)) == 0
    refreshed = read_json(run / "round_01" / "refresh" / "summary.json")
    assert refreshed["status"] in ("accepted", "kept_previous")
    assert refreshed["held_out"]["original"]["n"] > 0 and refreshed["new_pairs"] == 3 and refreshed["steps"] == 2
    assert read_json(run / "round_01" / "rank" / "summary.json")["comparisons"] == 4 * 3
    base = read_json(run / "final" / "judge" / "adapter_config.json")["base_model_name_or_path"]
    assert base == str(root / "models" / "Q-Insight" / "vqinsight-comp")
    expected = results(run)
    run.rename(tmp_path / "undisturbed")

    for instant in INSTANTS:
        killed_at(instant, root)
    assert command(*options(root)) == 0
    ended = results(run)
    assert ended.keys() == expected.keys()
    assert [name for name in expected if ended[name] != expected[name]] == []
