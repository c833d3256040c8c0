"""``score.vbench.suite: official``: the official prompts in the loop, up to the border of VBench's own process, where a
stand-in gives the scores.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from small_loop import config, do, samples_of
from test_report import text_of

from evaluation.vbench.aggregation import DIMENSIONS, aggregate
from evaluation.vbench.environment import TIERS, installed
from evaluation.vbench.suite import NEEDS_LABELS
from evaluation.vbench.weights import WEIGHTS
from pipelines.loop.config import VBenchConfig, parse
from pipelines.loop.directory import RunDirectory
from pipelines.loop.official_prompts import reckoned_videos
from pipelines.loop.plan import counts
from pipelines.loop.run import Run
from pipelines.report import write_report
from shapes_world import all_scenes
from videoduet.errors import InputError
from videoduet.store import read_json, write_json

GOLDEN = read_json(Path(__file__).parent.parent / "golden" / "vbench_published_rows.json")
PROMPTS = [scene.prompt for scene in all_scenes()[3:80:40]]
# Gives each video of a version its published score, as the package's worker would.
WORKER = """#!{python} -IS
import json, pathlib, sys

job = json.loads(pathlib.Path(sys.argv[-1]).read_text())
videos = [path for row in job["rows"] for path in row["video_list"]]
if job["kind"] == "static":
    answer = {{"static": {{row["prompt_en"]: row["video_list"][: job["wanted"]] for row in job["rows"]}}}}
else:
    values = json.loads(pathlib.Path({values!r}).read_text())
    score = values["_".join(pathlib.Path(videos[0]).name.split("_")[:2])][job["dimension"]]
    scale = 100 if job["dimension"] == "imaging_quality" else 1
    rows = [{{"video_path": path, "video_results": scale * score, "weight": 1}} for path in videos]
    answer = {{"score": score, "videos": rows, "versions": {{}}, "device": "cpu"}}
pathlib.Path(job["answer"]).write_text(json.dumps(answer))
"""


def published(model: str) -> dict:
    return next(row for row in GOLDEN["rows"] if row["model"] == model)


def run_of(finished, root: Path, **vbench) -> Run:
    """The finished run as it was before its score, with another config of VBench."""
    copy = RunDirectory(shutil.copytree(finished.root, root / "run"))
    for name in ("done.json", "summary.json"):
        (copy.phase("score") / name).unlink()
    score = replace(finished.config.score, vbench=VBenchConfig(suite="official", flickering_videos=5, **vbench))
    return Run(copy, replace(finished.config, run_dir=str(copy.root), score=score))


@pytest.fixture
def suite(tmp_path, monkeypatch) -> Path:
    """Two official prompts that measure every dimension, an environment whose Python is the stand-in, all weights."""
    environments, weights = tmp_path / "environments", tmp_path / "weights"
    monkeypatch.setenv("VIDEODUET_VBENCH", str(environments))
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(weights))
    for tier in TIERS:
        package = environments / tier / "lib" / "python3.11" / "site-packages" / "vbench"
        package.mkdir(parents=True)
        rows = [{"prompt_en": text, "dimension": list(DIMENSIONS)} for text in PROMPTS]
        (package / "VBench_full_info.json").write_text(json.dumps(rows))
        python = environments / tier / "bin" / "python"
        python.parent.mkdir()
        python.write_text(WORKER.format(python=sys.executable, values=str(tmp_path / "values.json")))
        python.chmod(0o755)
        write_json(environments / tier / "checked.json", {"versions": {}, "dimensions": dict.fromkeys(DIMENSIONS)})
    for item in (item for items in WEIGHTS.values() for item in items):
        (weights / item.path).parent.mkdir(parents=True, exist_ok=True)
        (weights / item.path).write_bytes(b"x")
    return weights


def vbench_of(run: Run) -> dict:
    return read_json(run.folder("score") / "summary.json")["vbench"]


def test_sixteen_dimensions_give_the_published_totals(finished, suite, tmp_path, monkeypatch):
    monkeypatch.setattr("evaluation.vbench.evaluation.is_official", lambda rows: True)
    rows = {"G_0": published("ModelScope"), "G_2": published("T2V-Turbo-VC2")}
    values = {v: {name: value / 100 for name, value in row["dimensions"].items()} for v, row in rows.items()}
    write_json(tmp_path / "values.json", values)
    run = run_of(finished, tmp_path)
    do(run, "score", 0)
    found = vbench_of(run)
    assert found["available"] and found["not_scored"] == [] and set(found["official"]) == {"G_0", "G_2"}
    for version, row in rows.items():
        said, expected = found["official"][version], aggregate(values[version])
        assert said["no_total"] is None and said["problems"] == [] and found[version] == pytest.approx(values[version])
        for name, figures in said["totals"].items():
            assert figures["score"] == pytest.approx(expected[name], abs=1e-12)
            assert abs(100 * figures["score"] - row[name]) < GOLDEN["tolerance_percentage_points"]
            assert figures["interval"] == pytest.approx([expected[name]] * 2), "all videos have one score"
    gain = found["official"]["G_2"]["totals"]["total"]["gain"]
    assert gain == pytest.approx(aggregate(values["G_2"])["total"] - aggregate(values["G_0"])["total"], abs=1e-12)
    assert "dynamic degree fell from 66 % of videos in G_0 to 49 % in G_2" in found["alarm"]
    text = text_of(write_report(run.directory.root).read_text("utf-8"))
    for said in ("score G_0 G_2 T2V-Turbo, as VQ-Insight ran it", "total 75.75 (75.75 to 75.75)",
                 "80.95 81.67 81.49 81.85", "against the base +5.25"):  # fmt: skip
        assert said in text, said


def test_what_is_drawn_once_is_not_drawn_again(finished, suite, tmp_path, monkeypatch):
    write_json(tmp_path / "values.json", {v: dict.fromkeys(DIMENSIONS, 0.5) for v in ("G_0", "G_1", "G_2")})
    run = run_of(finished, tmp_path, rounds=[0], dimensions=["temporal_flickering", "scene"])
    do(run, "score", 0)
    samples = samples_of(run.directory.root, "score/official")
    assert {sample.generator for sample in samples} == {"G_0", "G_1"} and len({sample.id for sample in samples}) == 20
    assert [s.seed for s in samples if s.generator == "G_0"] == [s.seed for s in samples if s.generator == "G_1"]
    found = vbench_of(run)["official"]["G_1"]
    assert found["totals"] == {} and "needs all 16 dimensions; not scored: subject_consistency" in found["no_total"]
    assert found["dimensions"]["scene"]["raw"] == 0.5 and found["dimensions"]["temporal_flickering"]["videos"] == 10
    for name in ("done.json", "summary.json"):
        (run.folder("score") / name).unlink()
    monkeypatch.setattr("generators.sampling._Shard.hand_over", lambda *_: pytest.fail("it is there"))
    # What could not be scored when the prompts were drawn has no videos of its own, and no place among them.
    do(run, "score", 0)
    assert vbench_of(run)["official"]["G_1"] == found
    text = text_of(write_report(run.directory.root).read_text("utf-8"))
    assert "No quality, semantic or total score of G 1: an official total needs all 16 dimensions" in text
    # Nor by a sibling that scores anew; one that asks for other videos draws those.
    kept = RunDirectory(run.directory.root)
    kept.adopt(run.config, "made", again=True)
    for change, there in (({"when_still": "stop"}, True), ({"flickering_videos": 6}, False)):
        vbench = replace(run.config.score.vbench, **change)
        sibling = kept.sibling("score", replace(run.config, score=replace(run.config.score, vbench=vbench)))
        assert bool(samples_of(sibling.root, "score/official")) is there
        assert len(samples_of(sibling.root, "score")) == 6
        if there:
            do(Run(sibling, replace(run.config, run_dir=str(sibling.root))), "score", 0)


def test_dimensions_without_weights_are_told_and_their_prompts_not_drawn(finished, suite, tmp_path):
    write_json(tmp_path / "values.json", {v: dict.fromkeys(DIMENSIONS, 0.5) for v in ("G_0", "G_2")})
    shutil.rmtree(suite)
    run = run_of(finished, tmp_path, prompts_per_dimension=1)
    do(run, "score", 0)
    found = vbench_of(run)
    assert len(samples_of(run.directory.root, "score/official", version="G_0")) == 5
    assert found["G_2"] == {"temporal_flickering": 0.5} and len(found["not_scored"]) == 15
    said = found["official"]["G_2"]["dimensions"]
    assert list(said) and "weights are not in" in said["scene"]["not_scored"]
    run = run_of(finished, tmp_path / "none", dimensions=["scene"])
    do(run, "score", 0)
    assert vbench_of(run)["available"] is False and "weights are not in" in vbench_of(run)["reason"]
    assert not (run.folder("score") / "official").exists()


def test_dimensions_that_need_labels_are_for_official_prompts():
    assert VBenchConfig().names == ["temporal_flickering"]
    for suite, names in (("official", list(DIMENSIONS)), ("held_out", ["temporal_flickering"])):
        assert parse(["--score.vbench.suite", suite])[0].score.vbench.dimensions == names
    assert VBenchConfig(suite="official", dimensions=list(NEEDS_LABELS)).names == list(NEEDS_LABELS)
    with pytest.raises(InputError, match="has scene, which cannot be scored on prompts of your own.*suite official"):
        VBenchConfig(dimensions=["scene"])
    with pytest.raises(InputError, match="has sceen, which VBench does not know; choose among subject"):
        VBenchConfig(suite="official", dimensions=["sceen"])


def test_a_round_that_the_run_has_not_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        config(tmp_path, score={"vbench": {"suite": "official", "rounds": [2]}})
    said = " ".join(capsys.readouterr().err.split())
    assert "score.vbench.rounds has 2, but the run has 2 rounds, counted from 0; choose among those." in said
    assert VBenchConfig(rounds=[1, 0, 1]).versions(2) == [0, 1, 2] and VBenchConfig().versions(3) == [0, 3]


def test_a_suite_that_is_not_set_up_is_found_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEODUET_VBENCH", str(tmp_path / "nowhere"))
    settings = config(tmp_path, score={"vbench": {"suite": "official"}})
    with pytest.raises(InputError, match=r"score.vbench.suite is official, but .* does not exist; run: python -m"):
        Run.start(settings)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_the_plan_counts_official_videos(suite, tmp_path, monkeypatch):
    settings = config(tmp_path, score={"vbench": {"suite": "official", "rounds": [0, 1]}})
    assert reckoned_videos(settings.score.vbench, 2) == 2 * 25 * 3
    plain = config(tmp_path, score={"vbench": {"dimensions": []}})
    assert counts(settings, 4, 2, 4)["videos"] == counts(plain, 4, 2, 4)["videos"] + 2 * 25 * 3
    monkeypatch.setenv("VIDEODUET_VBENCH", str(tmp_path / "nowhere"))
    assert reckoned_videos(VBenchConfig(suite="official"), 2) == 2 * 6220
    assert reckoned_videos(VBenchConfig(), 2) == 0


def test_a_config_from_before_there_were_suites_is_the_same(tmp_path):
    """Also one that is older than VBench in the loop."""
    directory, asked = RunDirectory(tmp_path / "run"), parse([])[0]
    directory.adopt_config(asked)
    kept = directory.kept()
    for part in ({"videos_per_prompt": 2}, {"videos_per_prompt": 2, "vbench": {"dimensions": ["temporal_flickering"]}}):
        write_json(tmp_path / "run" / "config.yaml", {**kept, "score": part})
        assert directory.changed(asked) == {}
    other = replace(asked, score=replace(asked.score, vbench=VBenchConfig(suite="official")))
    assert directory.touched(other) == {"score.vbench.suite": "score", "score.vbench.dimensions": "score"}


@pytest.mark.skipif(installed("standard") is None, reason="no VBench environment (pipelines.setup_vbench)")
@pytest.mark.slow
def test_official_prompts_are_scored_by_the_real_package(finished, monkeypatch, tmp_path):
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "weights"))
    run = run_of(finished, tmp_path, prompts_per_dimension=2, videos_per_prompt=2, dimensions=["temporal_flickering"])
    do(run, "score", 0)
    found = vbench_of(run)["official"]
    for version in ("G_0", "G_2"):
        figures = found[version]["dimensions"]["temporal_flickering"]
        assert 0.5 < figures["raw"] <= 1 and figures["videos"] == 4 and figures["raw_interval"]
        assert "filter of moving videos was not applied" in figures["gaps"][0]
    assert "gain_interval" in found["G_2"]["dimensions"]["temporal_flickering"]
