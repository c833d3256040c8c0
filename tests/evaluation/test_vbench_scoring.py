"""Scoring: what is checked before and after, and temporal flickering by the real package."""

import json
import subprocess

import pytest
from noisy_videos import noisy_video
from vbench_environments import HERE, real, with_suite

from evaluation.vbench.aggregation import DIMENSIONS
from evaluation.vbench.environment import STANDARD, TIERS, python_of, run_worker, tier_for
from evaluation.vbench.scoring import DimensionResult, Scorer, publishable, readable, unscorable
from evaluation.vbench.setup import find_python, set_up
from evaluation.vbench.suite import SuiteRow, VideoFile, read_folder
from evaluation.vbench.weights import WEIGHTS, missing_weights
from videoduet.errors import InputError

SUITE = [
    SuiteRow(prompt="a wall", dimensions=("temporal_flickering",)),
    SuiteRow(prompt="a cat", dimensions=("scene", "background_consistency"), auxiliary_info={"scene": {"scene": "a"}}),
]


@pytest.fixture
def no_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEODUET_VBENCH", str(with_suite(tmp_path / "environments", [])))
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "weights"))


@pytest.fixture
def folder(tmp_path):
    for number, noise in enumerate((0, 8, 60)):
        noisy_video(tmp_path / "videos" / f"a wall {noise}-{number}.mp4", noise)
    return tmp_path / "videos"


def test_every_dimension_has_a_tier_and_weights():
    assert set(WEIGHTS) == set(DIMENSIONS) and len(STANDARD) == 11
    assert set(TIERS["full"].dimensions) == set(DIMENSIONS)
    assert [name for name, files in WEIGHTS.items() if not files] == ["temporal_flickering"]


def test_without_an_environment_every_dimension_says_how_to_get_it(no_environment, folder, tmp_path):
    good, bad = readable(read_folder(folder)[0], tmp_path / "checked.json")
    assert not bad and [video.frames for video in good] == [6, 6, 6]
    results = Scorer(tmp_path / "out", good).score(list(DIMENSIONS))
    for name, result in results.items():
        assert result.raw is None and not result.videos, "never 0"
        assert "pipelines.setup_vbench" in result.not_scored or "official suite" in result.not_scored, name
    assert "--tier full" in unscorable("scene", official=True)
    assert "--tier full" not in unscorable("temporal_flickering", official=True)


def test_corrupt_videos_are_named_and_the_good_ones_kept(folder, tmp_path):
    whole = folder / "a wall 60-2.mp4"
    (folder / "cut-0.mp4").write_bytes(whole.read_bytes()[:3000])
    (folder / "empty-0.mp4").touch()
    files = [*read_folder(folder)[0], VideoFile(folder / "gone-0.mp4", "gone", 0)]
    good, bad = readable(files, tmp_path / "checked.json")
    assert len(good) == 3
    assert sorted(path.name for path, _ in bad) == ["cut-0.mp4", "empty-0.mp4", "gone-0.mp4"]
    assert all(path.name in reason for path, reason in bad)


def test_checked_videos_are_remembered_until_they_change(folder, tmp_path):
    files, cache = read_folder(folder)[0], tmp_path / "checked.json"
    first, _ = readable(files, cache)
    kept = json.loads(cache.read_text())
    kept[str(files[0].path.absolute())][1] = 77
    cache.write_text(json.dumps(kept))
    assert readable(files, cache)[0][0].frames == 77, "not decoded again"
    noisy_video(files[0].path, 3, frames=4)
    again, _ = readable(files, cache)
    assert again[0].frames == 4 and again[1:] == first[1:]


def test_weights_are_there_or_named(tmp_path):
    needed = WEIGHTS["subject_consistency"]
    assert missing_weights(needed, tmp_path) == list(needed)
    (tmp_path / needed[0].path).mkdir(parents=True)
    (tmp_path / needed[1].path).touch()
    assert missing_weights(needed, tmp_path) == [needed[1]], "an empty file is none"
    (tmp_path / needed[1].path).write_bytes(b"x")
    assert missing_weights(needed, tmp_path) == []


def test_a_total_needs_everything():
    results = {name: DimensionResult(name, raw=0.5) for name in DIMENSIONS}
    assert publishable(results, complete=True) is None
    assert "five videos" in publishable(results, complete=False)
    results["scene"].gaps.append("a video is missing")
    assert "see scene" in publishable(results, complete=True)
    results["scene"] = DimensionResult("scene", not_scored="no weights")
    assert "not scored: scene" in publishable(results, complete=True)
    del results["scene"]
    assert "not scored: scene" in publishable(results, complete=True)


def test_a_python_that_is_not_there():
    with pytest.raises(InputError, match="needs Python 2.7; install one, or name it with --python"):
        find_python(["2.7"])


@pytest.mark.slow
def test_setup_stops_at_a_named_step(tmp_path, monkeypatch):
    """pip without an index: the first step cannot be done, and says which and why. A half-made one is mended."""
    monkeypatch.setenv("VIDEODUET_VBENCH", str(tmp_path))
    subprocess.run([find_python(TIERS["standard"].pythons), "-m", "venv", "--without-pip", tmp_path / "standard"])
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    with pytest.raises(InputError, match=r"pip install torch==2\S+ .* failed: ERROR: .*torch.*run the same command"):
        set_up("standard")
    assert tier_for("temporal_flickering")[0] is None, "what is half made is not used"


DIRECT = """
import json, sys, torch
videos, scratch, out = sys.argv[1:]
from vbench import VBench
VBench(torch.device("cpu"), "", scratch).evaluate(
    videos_path=videos, name="direct", dimension_list=["temporal_flickering"], mode="custom_input")
"""
PREPARED = """
import sys, pathlib, runpy
runpy.run_path(sys.argv.pop(1))["prepare"](pathlib.Path(sys.argv.pop(1)))
exec(sys.stdin.read())
"""


@real
@pytest.mark.slow
def test_temporal_flickering_is_the_packages_own_to_the_last_digit(folder, tmp_path, monkeypatch):
    from evaluation.vbench.environment import WORKER

    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    call = [python_of("standard"), "-I", "-c", PREPARED, WORKER, tmp_path / "weights", folder, tmp_path / "direct", "-"]
    subprocess.run(list(map(str, call)), input=DIRECT, text=True, check=True, capture_output=True)
    direct, videos = json.loads((tmp_path / "direct" / "direct_eval_results.json").read_text())["temporal_flickering"]

    good, _ = readable(read_folder(folder)[0], tmp_path / "checked.json")
    scorer = Scorer(tmp_path / "out", good)
    result = scorer.score(["temporal_flickering"])["temporal_flickering"]
    assert result.raw == direct and not result.gaps and not result.notes
    ours = {(video.prompt, video.index): video.result for video in result.videos}
    assert ours == {(f.prompt, f.index): v["video_results"] for f in read_folder(folder)[0] for v in videos
                    if v["video_path"].endswith(f.path.name)}  # fmt: skip
    assert ours["a wall 0", 0] > ours["a wall 8", 1] > ours["a wall 60", 2]

    answer = tmp_path / "out" / "temporal_flickering.json"
    kept = answer.stat().st_mtime_ns
    assert scorer.score(["temporal_flickering"])["temporal_flickering"] == result
    assert answer.stat().st_mtime_ns == kept, "scored once"
    noisy_video(folder / "a wall 0-0.mp4", 30)
    changed, _ = readable(read_folder(folder)[0], tmp_path / "checked.json")
    assert Scorer(tmp_path / "out", changed).score(["temporal_flickering"])["temporal_flickering"].raw < result.raw


@real
@pytest.mark.slow
def test_official_rows_are_checked_for_completeness(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "weights"))
    files = [VideoFile(noisy_video(folder / f"w{n}.mp4", n), "a wall", n) for n in range(7)]
    good, _ = readable(files, tmp_path / "checked.json")
    scorer = Scorer(tmp_path / "out", good, SUITE)
    result = scorer.score(["temporal_flickering", "scene"])
    assert sorted(video.index for video in result["temporal_flickering"].videos) == [0, 1, 2, 3, 4]
    assert "filter of moving videos was not applied" in result["temporal_flickering"].gaps[0]
    assert "weights" in result["scene"].not_scored or "full environment" in result["scene"].not_scored
    none = Scorer(tmp_path / "none", good[2:], SUITE[:0]).score(["temporal_flickering"])["temporal_flickering"]
    assert none.raw is None and "no video to score it on" in none.not_scored
    few = Scorer(tmp_path / "few", good[:2], SUITE).score(["temporal_flickering"])["temporal_flickering"]
    assert any("3 videos of 5 missing" in gap for gap in few.gaps)


@real
@pytest.mark.slow
def test_a_dimension_that_fails_says_why_and_costs_no_other(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "weights"))
    raft = tmp_path / "weights" / WEIGHTS["dynamic_degree"][0].path
    raft.parent.mkdir(parents=True)
    raft.write_bytes(b"no weights")
    good, _ = readable(read_folder(folder)[0], tmp_path / "checked.json")
    results = Scorer(tmp_path / "out", good).score(["dynamic_degree", "temporal_flickering"], processes=2)
    assert results["dynamic_degree"].raw is None and "vbench failed: " in results["dynamic_degree"].not_scored
    assert results["temporal_flickering"].raw is not None


@real
@pytest.mark.slow
def test_the_code_of_all_standard_dimensions_imports(tmp_path, monkeypatch):
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "weights"))
    found = run_worker("standard", {"kind": "check", "dimensions": list(STANDARD)}, tmp_path / "check")
    broken = {name: reason for name, reason in found["dimensions"].items() if reason is not None}
    assert not broken or (broken.keys() == {"imaging_quality"} and "pyiqa" in broken["imaging_quality"])
    assert found["versions"]["vbench"] == "0.1.5" and python_of("standard").parents[2] == HERE
