"""Dimensions driven with random weights in the real file layout: that files, prompts and results pass, not what they
say.
"""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from noisy_videos import noisy_video
from vbench_environments import real

from evaluation.vbench_environment import WORKER, python_of
from evaluation.vbench_scoring import Scorer, readable
from evaluation.vbench_suite import SuiteRow, VideoFile
from videoduet.video import write_video

SUITE = [
    SuiteRow(prompt="a wall", dimensions=("temporal_flickering", "dynamic_degree", "motion_smoothness")),
    SuiteRow(
        prompt="a sea", dimensions=("appearance_style", "background_consistency"),
        auxiliary_info={"appearance_style": {"appearance_style": "oil painting"}},
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    script = Path(__file__).with_name("random_weights.py")
    call = [python_of("standard"), "-I", script, WORKER, folder, "clip"]
    subprocess.run(list(map(str, call)), check=True, capture_output=True)
    return folder


@real
@pytest.mark.slow
def test_plumbing_with_random_weights(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(weights))
    still = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), dtype=np.uint8).repeat(4, 0)
    files = []
    for index in range(3):
        write_video(tmp_path / f"still{index}.mp4", still, 8)
        files.append(VideoFile(tmp_path / f"still{index}.mp4", "a wall", index))
        path = noisy_video(tmp_path / f"sea{index}.mp4", 40, seed=index, frames=4, size=128)
        files.append(VideoFile(path, "a sea", index))
    good, _ = readable(files, tmp_path / "checked.json")
    scorer = Scorer(tmp_path / "out", good, SUITE, videos_per_prompt=2)
    names = ["temporal_flickering", "dynamic_degree", "motion_smoothness", "appearance_style", "background_consistency"]
    results = scorer.score(names)
    for name, result in results.items():
        assert result.not_scored is None, (name, result.not_scored)
        assert np.isfinite(result.raw) and not result.notes, (name, result)
    assert (tmp_path / "out" / "static_filter.json").exists(), "the filter ran"
    assert all(video.prompt == "a sea" for video in results["appearance_style"].videos)
    assert {len(results[name].videos) for name in names[1:]} == {2}
