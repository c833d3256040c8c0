"""The measurement of a round: what it draws and asks, that the score repeats none of it, who shares it."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_judges import Brightest
from small_loop import command, do, recipe, samples_of
from test_report import text_of

from pipelines.loop.directory import RunDirectory
from pipelines.loop.driver import drive
from pipelines.loop.phases import independent, turns
from pipelines.loop.run import Run
from pipelines.loop.summaries import MeasureSummary, read_summary
from pipelines.report import write_report
from videoduet.errors import InputError
from videoduet.records import Comparison
from videoduet.store import read_json, read_records

MEASURES = ("round_00/measure", "round_01/measure")


@pytest.fixture
def run(finished, tmp_path, monkeypatch) -> Run:
    """The finished run as it was before anything was measured, with a second judge."""
    root = Path(shutil.copytree(finished.root, tmp_path / "run"))
    for name in (*MEASURES, "score", "final"):
        shutil.rmtree(root / name)
    (root / "score").mkdir()
    shutil.copy(finished.root / "score" / "prompts.parquet", root / "score")
    monkeypatch.setattr(Run, "load_judge", lambda *_, **__: Brightest(str(tmp_path / "asked")))
    settings = replace(finished.config, run_dir=str(root))
    return Run(RunDirectory(root), replace(settings, judge=replace(settings.judge, second_path=str(tmp_path))))


def asked(run: Run) -> int:
    """Pairs that the second judge was asked about."""
    file = run.directory.root.parent / "asked"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_a_round_is_measured_by_the_second_judge(run, finished):
    root = run.directory.root
    do(run, "measure", 0)
    assert {sample.generator for sample in samples_of(root, "score")} == {"G_0", "G_1"}
    summary = read_summary(MeasureSummary, root / MEASURES[0])
    assert summary.version == "G_1" and summary.reason is None and summary.win_rate["second_judge"]["total"] == 2
    assert read_json(root / MEASURES[0] / "done.json")["counts"] == {"samples": 2}
    kept = read_records(Comparison, root / "score" / "comparisons_second_judge_G_1.parquet")
    won = sum(c.preferred_id == c.first_id for c in kept)
    assert summary.win_rate["second_judge"]["rate"] == won / 2 and asked(run) == len(kept) == 2
    for path in (root / "score" / "videos").iterdir():
        assert path.read_bytes() == (finished.root / "score" / "videos" / path.name).read_bytes()


def test_a_measurement_that_was_stopped_goes_on(run, monkeypatch):
    """Stopped while the second judge is asked: what was drawn stays as it is, what was half judged is judged anew."""

    class Stopped(Brightest):
        def compare(self, pairs):
            yield next(super().compare(pairs))
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "load_judge", lambda *_, **__: Stopped())
        with pytest.raises(KeyboardInterrupt):
            do(run, "measure", 0)
    drawn = {path: path.stat().st_mtime_ns for path in run.folder("score").rglob("*G_*")}
    assert len(drawn) == 2 * (1 + 1 + 2) and not run.directory.is_done(run.folder("measure", 0))
    do(run, "measure", 0)
    assert all(path.stat().st_mtime_ns == mark for path, mark in drawn.items()) and asked(run) == 2
    assert read_summary(MeasureSummary, run.folder("measure", 0)).win_rate["second_judge"]["decided"] == 2


def test_what_a_round_drew_and_judged_the_score_takes(run, finished, monkeypatch):
    for number in (0, 1):
        do(run, "measure", number)
    before = asked(run)
    monkeypatch.setattr(Run, "generator", lambda *_: pytest.fail("nothing is left to draw"))
    do(run, "score", 0)
    summary, then = (read_json(root / "score" / "summary.json") for root in (run.directory.root, finished.root))
    assert asked(run) == before == 4
    assert summary["win_rate"]["judge"] == then["win_rate"]["judge"] and summary["versions"] == then["versions"]
    for number, version in enumerate(("G_1", "G_2")):
        found = read_summary(MeasureSummary, run.folder("measure", number))
        assert summary["win_rate"]["second_judge"][version] == found.win_rate["second_judge"]


def test_the_score_of_a_run_without_measurements_does_it_all(run, finished):
    do(run, "score", 0)
    files = [path.relative_to(finished.root) for path in sorted((finished.root / "score").rglob("*.mp4"))]
    assert len(files) == 6 and all(
        (run.directory.root / name).read_bytes() == (finished.root / name).read_bytes() for name in files
    )
    assert set(read_json(run.folder("score") / "summary.json")["win_rate"]) == {"judge", "second_judge"}
    # A run that was finished before there were measurements stays as it is.
    drive(run, merge=False, after_each=lambda: None)
    assert not any((run.directory.root / name).exists() for name in MEASURES)


def test_a_measurement_that_was_removed_is_made_again(run):
    for number in range(2):
        do(run, "measure", number)
    do(run, "score", 0)
    before = (run.folder("measure", 1) / "summary.json").read_bytes()
    for name in MEASURES:
        shutil.rmtree(run.directory.root / name)
    drive(run, merge=False, after_each=lambda: None)
    assert (run.folder("measure", 1) / "summary.json").read_bytes() == before


def test_without_a_second_judge_that_is_said(finished):
    for name in MEASURES:
        summary = read_summary(MeasureSummary, finished.root / name)
        assert summary.win_rate == {} and "judge.second_path" in summary.reason


@pytest.mark.slow
def test_a_measurement_finds_its_base_again(run):
    """Whoever removes the score's folder loses its videos: they are drawn anew, and not compared with nothing."""
    do(run, "measure", 0)
    for path in run.folder("score").glob("*_G_*"):
        path.unlink()
    do(run, "measure", 1)
    assert {sample.generator for sample in samples_of(run.directory.root, "score")} == {"G_0", "G_2"}
    assert read_summary(MeasureSummary, run.folder("measure", 1)).win_rate["second_judge"]["decided"] == 2


def test_the_report_of_an_unfinished_run_has_the_rounds_so_far(run):
    do(run, "measure", 0)
    page = write_report(run.directory.root).read_text("utf-8")
    text = text_of(page)
    assert "By the second judge, G_1 beats the base in" in text and "Win rate over the base, with 95 %" in text
    assert "have not been scored yet: win rates are those of the rounds so far." in text
    assert "G_1 (aligned)" in text, "held-out videos are there to look at"
    assert "Round 1 has not finished: measure left no summary." in text


def test_measurements_need_nothing_that_comes_later_to_be_done_again():
    paths = [turn.path for turn in turns(2)]
    of = {turn.path: independent(turn, 2) for turn in turns(2)}
    assert of["round_00/sample"] == [] and of["score"] == paths[:-1]
    assert of["round_00/measure"] == [path for path in paths if path not in (*MEASURES, "score")]
    assert of["round_01/align"] == paths[: paths.index("round_01/align")]


def test_a_sibling_has_the_videos_of_the_measurements_that_it_shares(finished, tmp_path):
    run = RunDirectory(shutil.copytree(finished.root, tmp_path / "run"))
    settings = replace(finished.config, run_dir=str(run.root))
    sibling = run.sibling("round_01/align", settings)
    assert sibling.is_done(sibling.root / MEASURES[0]) and not (sibling.root / MEASURES[1]).exists()
    drawn = samples_of(sibling.root, "score")
    assert {sample.generator for sample in drawn} == {"G_0", "G_1"}
    for sample in drawn:
        assert os.path.samefile(sample.video_path, run.root / Path(sample.video_path).relative_to(sibling.root))
    assert not list(sibling.phase("score").glob("comparisons_judge_*")), "whose judge may be another there"
    others = replace(settings, prompts=replace(settings.prompts, held_out="others.txt"))
    with pytest.raises(InputError, match="--from measure"):
        run.sibling("score", others)
    again = run.sibling("measure", others)
    assert again.is_done(again.root / "round_01" / "align") and not (again.root / MEASURES[0]).exists()
    assert not (again.root / "score").exists()


def test_measured_by_another_judge_nothing_is_drawn_again(finished, tmp_path, monkeypatch):
    run = RunDirectory(shutil.copytree(finished.root, tmp_path / "run"))
    other = replace(finished.config.judge, second_path=str(tmp_path))
    settings = replace(finished.config, run_dir=str(run.root), judge=other)
    sibling = run.sibling("measure", settings)
    drawn = samples_of(sibling.root, "score")
    assert {sample.generator for sample in drawn} == {"G_0", "G_1", "G_2"}
    assert not list(sibling.phase("score").glob("comparisons_*")), "what was said of them is said anew"
    monkeypatch.setattr("generators.sampling._Shard.hand_over", lambda *_: pytest.fail("it is there"))
    monkeypatch.setattr(Run, "load_judge", lambda *_, **__: Brightest())
    for number in (0, 1):
        do(Run(sibling, settings), "measure", number)
    assert read_summary(MeasureSummary, sibling.root / MEASURES[1]).win_rate["second_judge"]["total"] == 2
    # Held-out prompts that changed under their name are others.
    Path(settings.prompts.held_out).rename(tmp_path / "kept.txt")
    try:
        Path(settings.prompts.held_out).write_text("a teal square moving up\n")
        another = replace(settings, judge=replace(other, second_path=str(tmp_path / "another")))
        assert not (run.sibling("measure", another).root / "score").exists()
    finally:
        (tmp_path / "kept.txt").rename(settings.prompts.held_out)


@pytest.mark.slow
def test_other_held_out_prompts_share_all_but_the_measurements(finished, no_report):
    root = finished.root.parent
    (root / "others.txt").write_text("a teal square moving up\n")
    prompts = {"held_out": str(root / "others.txt")}
    file = recipe(root, "others.yaml", judge={"arguments": {"calls": str(finished.calls)}}, prompts=prompts)
    assert command("--config", file, "--from", "measure") == 0
    sibling = root / "run_from_round_00_measure_1"
    for name in ("round_00/sample", "round_01/align"):
        assert os.path.samefile(sibling / name / "done.json", finished.root / name / "done.json")
    assert len(samples_of(sibling, "score")) == 3 and (sibling / MEASURES[1] / "done.json").exists()
