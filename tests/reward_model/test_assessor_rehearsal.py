"""A stage of AIGV-Assessor rehearsed: killed at its first checkpoint, gone on with, and nothing left behind."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_assessor import write_assessor

from pipelines import train_reward_model
from reward_model.presets import ASSESSED
from videoduet.video import write_video


@pytest.mark.slow
def test_a_stage_is_rehearsed(tmp_path, capsys):
    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    for place in range(8):
        write_video(data / f"{place}.mp4", rng.integers(0, 256, (8, 32, 32, 3)).astype(np.uint8), 8)
    for number in range(1, 1 + len(ASSESSED)):
        rows = [{"video": f"{place}.mp4", "id": f"{place}.mp4->{10 * place + number}"} for place in range(8)]
        (data / f"mydata_mos{number}_train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    model = write_assessor(tmp_path / "judge", pairs=False)
    line = [
        "--model", str(model), "--data", json.dumps([{"name": "aigvqa_db", "folder": str(data)}]), "--output",
        str(tmp_path / "out"), "--assessor.stage", "scores", "--training.pairs_per_step", "2", "--training.steps", "9",
    ]  # fmt: skip
    try:
        train_reward_model.main([*line, "--rehearse"])
    except SystemExit as ended:
        assert not ended.code
    told = " ".join("".join(capsys.readouterr()).split())
    assert "Nothing that was rehearsed would fail" in told and "Traceback" not in told, told
    assert not (tmp_path / "out").exists() and not list(Path(tmp_path).glob("out*"))
