"""The command on miniatures of benchmarks with the shipped judge: it measures, resumes, and refuses what it should."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "reward_model"))

from miniature import write_miniature
from small_judge import write_clips

import shapes_world
from pipelines.evaluate_judge import parse, show
from reward_model import Judge
from reward_model.measuring.benchmark import evaluate, items_of
from reward_model.measuring.config import JudgeEvaluationConfig
from videoduet.errors import InputError
from videoduet.store import read_json


@pytest.fixture(scope="module")
def judge() -> Path:
    return Path(shapes_world.__file__).parent / "models" / "judge"


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    directory = tmp_path_factory.mktemp("clips")
    write_clips(directory)
    return sorted(directory.glob("*.mp4"))


def config(judge: Path, clips: list[Path], tmp_path: Path, benchmark: str, **options) -> JudgeEvaluationConfig:
    data = tmp_path / benchmark
    if not data.exists():
        write_miniature(benchmark, data, clips)
    return JudgeEvaluationConfig(
        judge=str(judge), benchmark=benchmark, data=str(data), output=str(tmp_path / f"out_{benchmark}"),
        batch_size=4, resamples=20, **options,
    )  # fmt: skip


def test_preferences(judge, clips, tmp_path, capsys, monkeypatch):
    asked = config(judge, clips, tmp_path, "monetbench")
    results = evaluate(asked)
    overall = results["dimensions"]["overall"]
    assert overall["n"] == 6 and 0 <= overall["tau"]["low"] <= overall["tau"]["value"] <= overall["tau"]["high"] <= 1
    assert results["position"]["n"] + results["unreadable"] == 6
    written = read_json(Path(asked.output) / "results.json")
    assert written["dimensions"]["overall"]["diff"] == overall["diff"]
    show(results)
    printed = capsys.readouterr().err
    assert "this judge" in printed and "VQ-Insight" in printed and "0.612" in printed

    # Resumed, only what is missing is asked again.
    Path(asked.output, "answers", "0000004.parquet").unlink()
    seen = []
    compare = Judge.compare
    monkeypatch.setattr(Judge, "compare", lambda self, pairs, **how: seen.extend(pairs) or compare(self, pairs, **how))
    assert evaluate(asked) == results
    assert len(seen) == 2


def test_images(judge, clips, tmp_path):
    results = evaluate(config(judge, clips, tmp_path, "koniq_10k", split="all", limit=3))
    assert (results["n"], results["unreadable_videos"]) == (3, 0), "an image is a video of one frame"


def test_a_damaged_video_costs_its_own_items_alone(judge, clips, tmp_path):
    asked = replace(config(judge, clips, tmp_path, "lgvq"), limit=4)
    paths = [Path(item.path) for item in items_of(asked).items]
    paths[1].write_bytes(b"damaged")
    results = evaluate(asked)
    assert (results["n"], results["unreadable_videos"]) == (3, 1)
    assert set(results["dimensions"]) == {"spatial", "temporal", "consistency"}


def test_questions(judge, clips, tmp_path, capsys):
    results = evaluate(config(judge, clips, tmp_path, "q_bench_video"))
    assert results["dimensions"]["overall"]["n"] == 3 and sum(results["left_out"].values()) == 1
    show(results)
    assert "VQAThinker" in capsys.readouterr().err


def test_answers_of_another_question_are_refused(judge, clips, tmp_path):
    asked = config(judge, clips, tmp_path, "q_bench_video")
    evaluate(asked)
    with pytest.raises(InputError, match="another scale"):
        evaluate(replace(asked, scale=(1.0, 5.0)))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "No judge is named"),
        (["--judge=j", "--benchmark=b", "--data=d", "--output=o", "--limit=0"], "limit is 0"),
        (["--judge=j", "--benchmark=b", "--data=d", "--output=o", "--scale=[5,1]"], "higher bound"),
        (["--judge=j", "--banchmark=b"], "banchmark"),
    ],
)
def test_wrong_usage(arguments, says, capsys):
    with pytest.raises(SystemExit) as error:
        parse(arguments)
    assert error.value.code == 2
    assert says in capsys.readouterr().err


def test_an_unknown_benchmark_is_refused(tmp_path):
    asked = JudgeEvaluationConfig(judge="j", benchmark="monetbanch", data=str(tmp_path), output=str(tmp_path / "o"))
    with pytest.raises(InputError, match="monetbench"):
        evaluate(asked)
