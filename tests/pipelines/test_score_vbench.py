"""VBench in the loop: off, unavailable, scored, the alarm of still videos, what the report shows of it."""

import pytest
from report_fixtures import write_round, write_score
from test_report import text_of

from evaluation.vbench.environment import installed
from evaluation.vbench.scoring import DimensionResult
from evaluation.vbench.statistics import ScoredVideo
from generators.sampling import read_samples
from pipelines.loop.config import VBenchConfig
from pipelines.loop.run import Run
from pipelines.loop.vbench import score_vbench, stop_if_still
from pipelines.report import write_report
from videoduet.errors import InputError
from videoduet.records import Prompt
from videoduet.store import read_json, write_json


def score_of(root, versions, **settings):
    """What VBench says of the versions of a run."""
    run = Run.open(root)
    drawn = {version: run.samples("score", version=version) for version in versions}
    return score_vbench(drawn, run.held_out_prompts, run.folder("score"), VBenchConfig(**settings), run.directory.root)


def test_off_and_unavailable_are_told_and_change_nothing(finished, monkeypatch, tmp_path):
    kept = read_json(finished.root / "score" / "summary.json")["vbench"]
    assert kept == {"available": False, "reason": "it is turned off (score.vbench.dimensions is empty)."}
    monkeypatch.setenv("VIDEODUET_VBENCH", str(tmp_path))
    before = sorted(finished.root.rglob("*"))
    found = score_of(finished.root, ["G_0", "G_1", "G_2"])
    assert found["available"] is False and found["reason"].startswith(
        "temporal_flickering: VBench's environment is not"
    )
    assert "run: python -m pipelines.setup_vbench" in found["reason"]
    assert sorted(finished.root.rglob("*")) == before


def test_the_videos_shown_are_of_the_version_that_the_alarm_names(finished, monkeypatch):
    run, degrees = Run.open(finished.root), {"G_0": 1, "G_1": 0, "G_2": 1}
    texts = {prompt.id: prompt.text for prompt in run.held_out_prompts}
    samples = read_samples(run.directory.phase("score"), "G_0", root=finished.root)
    keys = {(texts[sample.prompt_id], sample.index) for sample in samples}

    def results_of(files, dimensions, output, processes, gpus):
        degree = degrees[output.name]
        videos = [ScoredVideo(prompt, index, degree, 1) for prompt, index in keys]
        return {"dynamic_degree": DimensionResult("dynamic_degree", degree, videos)}

    monkeypatch.setattr("evaluation.vbench.versions.unscorable", lambda name, official: None)
    monkeypatch.setattr("evaluation.vbench.versions.score_version", results_of)
    found = score_of(finished.root, list(degrees), dimensions=["dynamic_degree"])
    assert "fell from 100 % of videos in G_0 to 0 % in G_1" in found["alarm"]
    assert found["stilled"] and {case["version"] for case in found["stilled"]} == {"G_1"}
    for case in found["stilled"]:
        assert {case["prompt"], case["index"]} <= {part for key in keys for part in key}
        assert (finished.root / case["base"]).exists() and "G_1" in case["now"]


def test_stop_or_warn(finished):
    found = {"alarm": "It stands still."}
    stop_if_still(found, VBenchConfig(), finished.root)
    with pytest.raises(InputError, match=r"Stopped before the export: It stands still.*when_still warn"):
        stop_if_still(found, VBenchConfig(when_still="stop"), finished.root)
    stop_if_still({"alarm": None}, VBenchConfig(when_still="stop"), finished.root)


@pytest.mark.parametrize("name", ["scene", "sceen"])
def test_dimensions_of_the_official_suite_alone_are_refused(name):
    with pytest.raises(
        InputError, match=f"{name}, which cannot be scored on prompts of your own; choose among subject"
    ):
        VBenchConfig(dimensions=["temporal_flickering", name])


def test_the_report_shows_the_alarm_and_what_stands_still(tmp_path):
    prompt = Prompt.of("a <b>still</b> life")
    write_round(tmp_path, 0, [prompt])
    write_score(tmp_path, [prompt], ("G_0", "G_1"))
    summary = read_json(tmp_path / "score" / "summary.json")
    video = next((tmp_path / "score").rglob("*.mp4")).relative_to(tmp_path)
    case = {"prompt": prompt.text, "prompt_id": prompt.id, "index": 0}
    case |= {"version": "G_1", "base": str(video), "now": "../x"}
    summary["vbench"] = {
        "available": True,
        "G_0": {"dynamic_degree": 0.75},
        "G_1": {"dynamic_degree": 0.25},
        "against_base": ["G_1, dynamic degree: -50.00 points against the base"],
        "not_scored": ["motion_smoothness: its weights are not here"],
        "alarm": "VBench's dynamic degree fell from 75 % to 25 %.",
        "stilled": [case],
    }
    write_json(tmp_path / "score" / "summary.json", summary)
    page = write_report(tmp_path).read_text("utf-8")
    text = text_of(page)
    assert "dimension G_0 G_1 dynamic_degree 0.75 0.25" in text
    for said in ("Warning. VBench's dynamic degree fell", "-50.00 points against the base", "its weights are not here",
                 "Videos that moved in the base and stand still now", "a <b>still</b> life",
                 "the path leads out of the run directory"):  # fmt: skip
        assert said in text, said
    assert "<b>still" not in page


@pytest.mark.skipif(installed("standard") is None, reason="no VBench environment (pipelines.setup_vbench)")
@pytest.mark.slow
def test_the_loops_videos_are_scored_by_the_real_package(finished, monkeypatch, tmp_path):
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "weights"))
    versions = ["G_0", "G_1", "G_2"]
    found = score_of(finished.root, versions, dimensions=["temporal_flickering", "dynamic_degree"])
    assert found["available"] and found["alarm"] is None and found["stilled"] == []
    assert all(0.5 < found[version]["temporal_flickering"] <= 1 for version in versions)
    assert [text.split(":")[0] for text in found["against_base"]] == [f"{v}, temporal flickering" for v in versions[1:]]
    assert "raft-things.pth" in found["not_scored"][0]
