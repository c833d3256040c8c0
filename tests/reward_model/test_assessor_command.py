"""A judge that rates in numbers at the judge's command, and in front of another judge there and in a run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_assessor import write_assessor

from pipelines.judge import main
from pipelines.loop.config import RunConfig
from pipelines.loop.judge_config import JudgeConfig, RefreshConfig
from pipelines.loop.run import Run
from reward_model.inputs import as_video
from reward_model.judging import batch
from reward_model.judging.first_pass import FirstPassJudge
from reward_model.presets import ASSESSED
from videoduet.errors import InputError
from videoduet.records import Comparison, OrderVerdict, Prompt, VideoPair
from videoduet.video import write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("assessor")
    rng = np.random.default_rng(0)
    for name in "abc":
        write_video(root / "in" / f"{name}.mp4", rng.integers(0, 256, (8, 32, 32, 3)).astype(np.uint8), 8)
    write_assessor(root / "judge")
    for name, margin in (("sure", 0.0), ("unsure", 1e9)):
        shutil.copytree(root / "judge", root / name)
        config = json.loads((root / name / "config.json").read_text())
        calibration = {"margins": {"0.95": margin}, "slope": 0.05}
        (root / name / "config.json").write_text(json.dumps(config | {"score_calibration": calibration}))
    return root


class First:
    """Says that the first is better."""

    judge_id, prompts = "first", SimpleNamespace(score=None, compare=None)

    def compare(self, pairs, *, failures=None):
        for pair in pairs:
            verdicts = (OrderVerdict(text="", verdict="first"), OrderVerdict(text="", verdict="second"))
            yield Comparison.of(pair, "first", *verdicts)


def run(capsys, *line: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = 0
    try:
        main([*map(str, line)])
    except SystemExit as ended:
        code = int(ended.code or 0)
    found = capsys.readouterr()
    return code, found.out, " ".join(found.err.split())


def test_scores_and_comparisons(folder, capsys):
    videos = [folder / "in" / "a.mp4", folder / "in" / "b.mp4"]
    line = ["--judge", folder / "judge", "--preset", "aigv-assessor", "--prompt", "a red circle", "--jsonl"]
    code, out, _ = run(capsys, "score", *videos, *line)
    rows = [json.loads(row) for row in out.splitlines()]
    assert code == 0 and [d["name"] for d in rows[0]["dimensions"]] == list(ASSESSED)
    code, out, _ = run(capsys, "compare", *videos, *line)
    (row,) = (json.loads(row) for row in out.splitlines())
    assert code == 0 and row["status"] == "decided" and row["p_first"] == row["forward"]["p"]
    code, _, err = run(capsys, "describe", *videos, *line)
    assert code != 0 and "not made to describe" in err and "Traceback" not in err


@pytest.mark.parametrize(("name", "asked"), [("sure", 0), ("unsure", 3)])
def test_a_ranking_behind_a_first_pass(folder, capsys, monkeypatch, name, asked):
    monkeypatch.setattr(batch, "load_judge", lambda config: First())
    code, out, err = run(
        capsys, "rank", folder / "in", "--prompt", "a", "--first_pass", folder / name, "--jsonl", "--output",
        folder / f"out {name}",
    )  # fmt: skip
    assert code == 0 and f"{3 - asked} of 3 pairs told by 3 scores" in err and out
    shards = sorted((folder / f"out {name}").glob("rank_*.json"))
    rows = [row for shard in shards for row in json.loads(shard.read_text())["rows"]]
    assert [row["judge_id"] for row in rows].count("first") == asked
    code, _, err = run(
        capsys, "rank", folder / "in", "--prompt", "a", "--output", folder / f"out {name}",
    )  # fmt: skip
    assert code != 0 and "first_pass" in err, "a directory keeps to what began it"


def test_an_uncalibrated_judge_cannot_go_first(folder, capsys, monkeypatch):
    monkeypatch.setattr(batch, "load_judge", lambda config: First())
    code, _, err = run(capsys, "rank", folder / "in", "--prompt", "a", "--first_pass", folder / "judge")
    assert code != 0 and "was never calibrated; train its scores here" in err and "Traceback" not in err


def test_a_run_ranks_behind_a_first_pass(folder):
    def ranking(**changed: object) -> object:
        config = SimpleNamespace(judge=JudgeConfig(factory="x.Y", **changed))
        return Run.ranking_judge(SimpleNamespace(config=config, judge=lambda number: First()), 0)

    assert isinstance(ranking(), First)
    judge = ranking(first_pass=str(folder / "sure"))
    assert isinstance(judge, FirstPassJudge)
    one, other = (as_video(folder / "in" / f"{name}.mp4")[0] for name in "ab")
    (comparison,) = judge.compare([VideoPair(prompt=Prompt.of("a"), first=one, second=other)])
    assert comparison.judge_id == judge.scorer.judge_id != "first"
    with pytest.raises(InputError, match=r"0\.5 sure of a difference: it knows 0\.95"):
        ranking(first_pass=str(folder / "sure"), first_pass_sure=0.5)


def test_a_first_pass_that_was_trained_anew_is_another(folder, tmp_path, capsys, monkeypatch):
    """What it told is not mixed with what another tells that lies in its place."""
    monkeypatch.setattr(batch, "load_judge", lambda config: First())
    shutil.copytree(folder / "sure", tmp_path / "first")
    line = ["rank", folder / "in", "--prompt", "a", "--first_pass", tmp_path / "first", "--output", tmp_path / "out"]
    assert run(capsys, *line)[0] == 0
    (shard,) = (tmp_path / "out").glob("rank_*.json")
    shard.unlink()
    kept = json.loads((tmp_path / "first" / "config.json").read_text())
    kept["score_calibration"]["margins"]["0.95"] = 1.0
    (tmp_path / "first" / "config.json").write_text(json.dumps(kept))
    code, _, err = run(capsys, *line)
    assert code != 0 and "other weights or another wording of the judge that goes first" in err


def test_a_run_with_a_judge_of_numbers_has_no_refresh(folder):
    """That is said when the config is read, not after a round."""
    judge = JudgeConfig(path=str(folder / "judge"))
    assert judge.rates_in_numbers and not JudgeConfig(path="shapes_world/models/judge").rates_in_numbers
    assert JudgeConfig(path="owner/name", preset="aigv-assessor").rates_in_numbers
    own = RefreshConfig(original_data="pairs.jsonl", held_out_data="others.jsonl")
    assert "rates in numbers" in (own.why_off(judge) or "")
    with pytest.raises(InputError, match="rates in numbers .* set refresh.enabled: false"):
        RunConfig(judge=judge, refresh=own)
    RunConfig(judge=judge, refresh=replace(own, enabled=False))
    RunConfig(judge=judge)
    RunConfig(judge=judge, refresh=own, rounds=1)
