"""Versions of a generator against the base: what is gained, the alarm of still videos, which videos are shown."""

from pathlib import Path

import pytest

from evaluation.vbench.scoring import DimensionResult
from evaluation.vbench.statistics import ScoredVideo
from evaluation.vbench.suite import VideoFile
from evaluation.vbench.versions import against_base, alarm_of, compare_versions, paired, stilled
from videoduet.records import Prompt


def scored(name: str, *results: float) -> DimensionResult:
    videos = [ScoredVideo(f"prompt {number}", 0, result, 1) for number, result in enumerate(results)]
    return DimensionResult(name, sum(results) / len(results), videos)


MOVING = {
    "G_0": {"dynamic_degree": scored("dynamic_degree", 1, 1, 1, 0),
            "temporal_flickering": scored("temporal_flickering", 0.9, 0.8, 0.9, 0.9)},
    "G_1": {"dynamic_degree": scored("dynamic_degree", 1, 1, 0, 1)},
    "G_2": {"dynamic_degree": scored("dynamic_degree", 0, 0, 1, 0),
            "temporal_flickering": scored("temporal_flickering", 0.95, 0.99, 0.9, 0.9)},
}  # fmt: skip


def test_the_alarm_names_the_worst_version_and_its_fall():
    alarm = alarm_of(MOVING, "G_0", ["G_1", "G_2"], 0.1)
    assert "fell from 75 % of videos in G_0 to 25 % in G_2" in alarm
    assert alarm_of(MOVING, "G_0", ["G_1", "G_2"], 0.5) is None, "not more than the tolerance"
    assert alarm_of(MOVING, "G_0", ["G_1"], 0.0) is None, "as many videos move"
    assert alarm_of({side: {} for side in MOVING}, "G_0", ["G_1"], 0.0) is None, "dynamic degree was not scored"
    failed = {**MOVING, "G_2": {"dynamic_degree": DimensionResult("dynamic_degree", not_scored="no weights")}}
    assert alarm_of(failed, "G_0", ["G_2"], 0.0) is None


def test_videos_that_lost_most_motion_come_first():
    assert stilled(MOVING, "G_0", "G_2") == [("prompt 1", 0), ("prompt 0", 0)]
    assert stilled(MOVING, "G_0", "G_1") == [("prompt 2", 0)]
    assert stilled({side: {} for side in MOVING}, "G_0", "G_1") == []


def test_gains_are_of_the_videos_that_both_have():
    assert against_base(MOVING, "G_0", "G_1") == [
        "G_1, dynamic degree: +0.00 points against the base (95 %: -75.00 to +50.62)"
    ]
    fewer = {"G_0": MOVING["G_0"], "G_1": {"dynamic_degree": scored("dynamic_degree", 1, 0)}}
    assert len(paired(fewer, "dynamic_degree", "G_0", "G_1")) == 2
    assert against_base(fewer, "G_0", "G_1")[0].startswith("G_1, dynamic degree: -50.00 points")
    assert against_base({"G_0": {}, "G_1": MOVING["G_1"]}, "G_0", "G_1") == []


@pytest.fixture
def moving(monkeypatch):
    """Everything can be scored, and MOVING is what is found."""
    monkeypatch.setattr("evaluation.vbench.versions.unscorable", lambda name, official: None)
    found = lambda files, dimensions, output, *devices: MOVING[output.name]  # noqa: E731
    monkeypatch.setattr("evaluation.vbench.versions.score_version", found)
    return {
        version: [VideoFile(Path("/run/score") / f"{version}_{n}.mp4", f"prompt {n}", 0) for n in range(4)]
        for version in MOVING
    }


def test_a_summary_names_cases_relative_to_the_run(moving, tmp_path):
    names = ["dynamic_degree", "temporal_flickering"]
    found = compare_versions(moving, names, tmp_path, root=Path("/run"), tolerance=0.1)
    assert found["available"] and found["not_scored"] == []
    assert found["G_0"] == {"dynamic_degree": 0.75, "temporal_flickering": pytest.approx(0.875)}
    assert "G_2" in found["alarm"] and [text[:3] for text in found["against_base"]] == ["G_1", "G_2", "G_2"]
    assert found["stilled"][0] == {
        "prompt": "prompt 1", "prompt_id": Prompt.of("prompt 1").id, "index": 0, "version": "G_2",
        "base": "score/G_0_1.mp4", "now": "score/G_2_1.mp4",
    }  # fmt: skip
    calm = compare_versions(moving, names, tmp_path, root=Path("/run"), tolerance=0.9)
    assert calm["alarm"] is None and {case["version"] for case in calm["stilled"]} == {"G_2"}, "the last one"


def test_what_cannot_be_scored_is_told(moving, monkeypatch, tmp_path):
    monkeypatch.setattr("evaluation.vbench.versions.unscorable", lambda name, official: f"no {name} here")
    found = compare_versions(moving, ["dynamic_degree", "scene"], tmp_path, root=tmp_path, tolerance=0.1)
    assert found == {"available": False, "reason": "dynamic_degree: no dynamic_degree here; scene: no scene here."}
