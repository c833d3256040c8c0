"""The command on miniatures of benchmarks with the shipped judge: it measures, resumes, and refuses what it should."""

import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "reward_model"))

from miniature import write_miniature
from small_judge import write_clips
from stub_server import serving

import shapes_world
from pipelines.evaluate_judge import parse, show
from reward_model import Judge
from reward_model.measuring.benchmark import evaluate, items_of
from reward_model.measuring.config import JudgeEvaluationConfig
from reward_model.prompts import VideoPrompt
from videoduet.errors import InputError
from videoduet.records import Comparison, OrderVerdict
from videoduet.store import read_json, write_json


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


SCORE = VideoPrompt(system=None, before="", question="how good is {prompt}?", num_frames=2, max_new_tokens=4)


def test_a_preset_is_asked_in_its_own_words(judge, clips, tmp_path, monkeypatch):
    """Where it scores what the benchmark scores; the rest is asked for in ours, and shown as it shows."""
    preset = "vqinsight-aigcvideo"
    weights = tmp_path / "Q-Insight"
    shutil.copytree(judge, weights / preset, ignore=shutil.ignore_patterns("judge_prompt.json"))
    replace(SCORE, keys=("temporal", "spatial", "consistency")).save(weights / preset, "score")
    asked, answer = [], Judge.answer

    def watched(self, questions):
        questions = list(questions)
        asked.extend(questions)
        return answer(self, questions)

    monkeypatch.setattr(Judge, "answer", watched)
    known = config(weights, clips, tmp_path, "lgvq", preset=preset, limit=3)
    results = evaluate(known)
    assert set(results["dimensions"]) == {"spatial", "temporal", "consistency"} and results["n"] == 3
    texts = [question.messages[-1]["content"][-1]["text"] for question in asked]
    assert all(text.startswith("how good is a red circle") for text in texts)
    assert {question.view for question in asked} == {SCORE.view}
    with pytest.raises(InputError, match="another score_wording"):
        replace(SCORE, keys=("temporal", "spatial", "consistency"), question="?").save(weights / preset, "score")
        evaluate(known)
    asked.clear()
    assert evaluate(config(weights, clips, tmp_path, "q_bench_video", preset=preset, limit=2))["n"] == 2
    assert "Weigh what you see" in str(asked[0].messages) and asked[0].view.sampling == 2
    with pytest.raises(InputError, match="not made to compare"):
        evaluate(config(weights, clips, tmp_path, "monetbench", preset=preset))


def test_a_server_is_measured(clips, tmp_path):
    """What it does not answer is not held against it: nothing is written, and the same command asks again."""
    with serving() as server:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        asked = config(Path("stub"), clips, tmp_path, "monetbench", backend="server", server=url)
        results = evaluate(asked)
    assert len(server.bodies) == 2 * 6 and {body["model"] for body in server.bodies} == {"stub"}
    assert results["dimensions"]["overall"]["n"] == 6 and results["position"]["consistency"] == 1.0
    assert evaluate(asked) == results, "all answers are there"

    def reply(body):
        return {"choices": [{"message": {"content": "<think>hm</think><answer>40</answer>"}}]}

    with serving(["well", "well", "400"], reply=reply) as server:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        asked = config(Path("stub"), clips, tmp_path, "lsvq", backend="server", server=url, concurrency=1)
        with pytest.raises(InputError, match="refused the question"):
            evaluate(asked)
        assert not list(Path(asked.output).glob("answers/*"))
        results = evaluate(asked)
    assert results["unreadable_videos"] == 0 and results["unreadable"] == 0
    assert results["dimensions"]["overall"]["n"] == results["n"] > 2


class FirstName:
    """Prefers the video whose name comes first in the alphabet, and asks itself once."""

    def __init__(self, sure: float = 1.0):
        self.sure = sure

    def compare(self, pairs):
        for pair in pairs:
            first = Path(pair.first.path).name < Path(pair.second.path).name
            verdict = OrderVerdict(text="", verdict="first" if first else "second")
            yield Comparison.of(pair, "names", verdict, p_first=self.sure if first else 1 - self.sure)


def test_a_class_with_compare_is_measured(clips, tmp_path, capsys):
    asked = config(Path(), clips, tmp_path, "monetbench", factory="test_evaluate_judge.FirstName")
    asked = replace(asked, judge="", arguments={"sure": 0.75})
    results = evaluate(asked)
    assert (results["judge"], results["n"], results["unreadable"]) == ("test_evaluate_judge.FirstName", 6, 0)
    assert "position" not in results, "it is asked in one order alone"
    show(results)
    assert "this judge" in capsys.readouterr().err
    with pytest.raises(InputError, match="another judge_id"):
        evaluate(replace(asked, arguments={"sure": 0.5}))
    with pytest.raises(InputError, match="take a benchmark of pairs"):
        evaluate(replace(asked, benchmark="lsvq", data=config(Path(), clips, tmp_path, "lsvq").data))


def test_answers_of_an_older_version_go_on(judge, clips, tmp_path, monkeypatch):
    """What it kept in asked.json is what the directory has adopted."""
    asked = config(judge, clips, tmp_path, "monetbench")
    results, output = evaluate(asked), Path(asked.output)
    (output / "config.yaml").unlink()
    names = ("benchmark", "data", "split", "limit", "scale", "seed", "batch_size")
    kept = {name: getattr(asked, name) for name in names} | {"prompts": asdict(asked.prompts)}
    write_json(output / "asked.json", json.loads(json.dumps({**kept, "judge_id": results["judge_id"], "items": 6})))
    monkeypatch.setattr(Judge, "compare", None)  # nothing is asked again
    assert evaluate(asked) == results
    with pytest.raises(InputError, match="another seed"):
        evaluate(replace(asked, seed=1))


def test_descriptions_are_read_behind_a_server(judge, clips, tmp_path, capsys):
    """FineVD by the paper's protocol stands beside its rows; by yes and no it does not."""
    asked = replace(config(judge, clips, tmp_path, "finevd"), limit=4)
    plain = evaluate(asked)
    assert plain["published"]["overall"] == [] and "--checker" in plain["note"]

    def reply(body):
        return {"choices": [{"message": {"content": "<answer>yes</answer>"}}]}

    with serving(reply=reply) as server:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        described = replace(asked, output=str(tmp_path / "described"), checker="reader", checker_server=url)
        results = evaluate(described)
    assert {body["model"] for body in server.bodies} == {"reader"} and len(server.bodies) == 4
    right = [item.answer == "yes" for item in items_of(asked).items]
    assert results["dimensions"]["overall"]["accuracy"]["value"] == sum(right) / 4
    assert results["published"]["overall"][-1] == {"method": "VQAThinker", "accuracy": pytest.approx(0.7245)}
    show(results)
    assert "free descriptions" in capsys.readouterr().err
    with pytest.raises(InputError, match="another checker"):
        evaluate(replace(described, checker="other"))


def test_results_are_taken_together(judge, clips, tmp_path, capsys):
    asked = replace(
        config(judge, clips, tmp_path, "konvid_1k", split="all", limit=2), together=[str(tmp_path / "lsvq")]
    )
    with pytest.raises(InputError, match=r"no results.json"):
        evaluate(asked)
    one = {"value": 0.8}
    known = {"benchmark": "lsvq", "split": "test", "dimensions": {"overall": {"SRCC": one, "PLCC": one, "n": 9}}}
    write_json(tmp_path / "lsvq" / "results.json", known)
    results = evaluate(asked)
    assert {"lsvq test_1080p", "live_vqc all"} <= set(results["together"]["in-domain"]["missing"])
    show(results)
    assert "Overall, in-domain: " in capsys.readouterr().err
