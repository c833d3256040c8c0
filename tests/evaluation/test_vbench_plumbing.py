"""Dimensions driven with random weights in the real file layout: that files, prompts and results pass, not what they
say. Slow, since each loads its whole model; one that cannot be driven here says what it lacks.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from noisy_videos import noisy_video

from evaluation.vbench.aggregation import DIMENSIONS
from evaluation.vbench.environment import GRIT, WORKER, installed, python_of, tier_for
from evaluation.vbench.scoring import DimensionResult, Scorer, readable
from evaluation.vbench.suite import SuiteRow, VideoFile
from videoduet.video import read_video, write_video

pytestmark = pytest.mark.slow
LARGE = ("human_action", "scene", "temporal_style", "overall_consistency")
"""Dimensions whose models take a minute or more for a video on one core."""
PROMPT = "A person is riding a bike"
ROW = SuiteRow(
    prompt=PROMPT, dimensions=tuple(DIMENSIONS),
    auxiliary_info={
        "object_class": {"object": "bike"}, "multiple_objects": {"object": "bike and person"},
        "color": {"color": "red"}, "scene": {"scene": {"scene": "word7"}},
        "appearance_style": {"appearance_style": "oil painting"},
        "spatial_relationship": {"spatial_relationship": {
            "object_a": "bike", "object_b": "person", "relationship": "on the left of"}},
    },
)  # fmt: skip


@pytest.fixture
def weights_of(tmp_path, monkeypatch) -> Iterator[Callable[[str], None]]:
    """Writes a dimension's random weights, which are up to a gigabyte: they are not left behind."""
    folder = tmp_path / "weights"
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(folder))

    def write(dimension: str) -> None:
        tier, reason = tier_for(dimension)
        if tier is None:
            pytest.skip(reason)
        script = Path(__file__).with_name("random_weights.py")
        call = [python_of(tier), "-I", script, WORKER, folder, dimension]
        made = subprocess.run(list(map(str, call)), capture_output=True, text=True)
        assert made.returncode == 0, made.stderr[-2000:]

    yield write
    shutil.rmtree(folder, ignore_errors=True)


def score(folder: Path, names: list[str], videos: list[np.ndarray], wanted: int) -> dict[str, DimensionResult]:
    files = []
    for index, frames in enumerate(videos):
        path = folder / f"{PROMPT}-{index}.mp4"
        write_video(path, frames, 8)
        files.append(VideoFile(path, PROMPT, index))
    good, bad = readable(files, folder / "checked.json")
    assert not bad
    return Scorer(folder / "out", good, [ROW], videos_per_prompt=wanted).score(names)


def frames_of(path: Path, seed: int) -> np.ndarray:
    return read_video(noisy_video(path / f"noisy{seed}.mp4", 40, seed=seed, frames=4, size=128)).frames


@pytest.mark.parametrize("name", [name for name in DIMENSIONS if name not in ("temporal_flickering", *GRIT)])
def test_plumbing_with_random_weights(name, weights_of, tmp_path):
    weights_of(name)
    wanted = 1 if name in LARGE else 2
    result = score(tmp_path, [name], [frames_of(tmp_path, seed) for seed in range(wanted + 1)], wanted)[name]
    assert result.not_scored is None and not result.gaps and not result.notes, result
    assert np.isfinite(result.raw) and [video.index for video in result.videos] == list(range(wanted))
    assert all(video.prompt == PROMPT and video.weight >= 1 for video in result.videos)


def test_plumbing_of_the_filter_of_moving_videos(weights_of, tmp_path):
    weights_of("dynamic_degree")
    still = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), dtype=np.uint8).repeat(4, 0)
    result = score(tmp_path, ["temporal_flickering"], [still] * 3, wanted=2)["temporal_flickering"]
    assert result.raw > 0.99 and len(result.videos) == 2 and not result.gaps and not result.notes, result
    assert (tmp_path / "out" / "static_filter.json").exists(), "the filter ran"


@pytest.mark.parametrize("name", GRIT)
def test_plumbing_of_detection(name, weights_of, tmp_path):
    """It scores, or says that torchvision's operators are missing: never 0 for frames that could not be looked at."""
    weights_of(name)
    result = score(tmp_path, [name], [frames_of(tmp_path, 0)], wanted=1)[name]
    if result.not_scored is None:
        assert np.isfinite(result.raw)
        return
    assert result.raw is None and "torchvision" in result.not_scored, result
    assert installed("full")["versions"]["torch"].endswith("+cpu"), "the one case in which they are missing"
