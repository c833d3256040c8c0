"""A judge keeps what it was trained with: words, scale, keys, frames and pixels, as an adapter and merged."""

import json
import math
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
from miniature import write_miniature

from pipelines.judge import main as judge_command
from pipelines.train_reward_model import train
from reward_model.datasets import ScoredClip
from reward_model.judging.base import Answer
from reward_model.judging.build import build_judge
from reward_model.judging.local import Judge
from reward_model.measuring.benchmark import _in_its_own_words
from reward_model.measuring.config import JudgeEvaluationConfig
from reward_model.prompts import DEFAULT_VIDEO_PROMPTS, Prompts, TaskPrompts, VideoPrompt
from reward_model.questions import ScoreQuestion
from reward_model.training.config import DataConfig, GRPOTraining, JudgeTrainingConfig, RewardConfig
from reward_model.training.mixture import question_about
from reward_model.training.stage import asked_from_now_on, cost, gather, judge_prompt, task_prompts
from reward_model.wordings import DIRECT, DIRECT_COMPARISON, Shown, as_asked
from videoduet.errors import InputError
from videoduet.video import FrameSampling

SMALL = GRPOTraining(steps=1, pairs_per_step=2, num_generations=2, lora_rank=2, micro_batch=4)
THINKER = RewardConfig(score="bell", ranking=True)
FRAMES = FrameSampling(fps=8, min_frames=4, max_frames=6)
PIXELS = 28 * 28 * 4


@pytest.fixture(scope="module")
def folders(small, tmp_path_factory) -> dict[str, Path]:
    root, clips = tmp_path_factory.mktemp("data"), [Path(small.videos[name].path) for name in ("red", "green", "blue")]
    return {name: write_miniature(name, root / name, clips) for name in ("lsvq", "lgvq", "vision_reward_pairs")}


def config(small, folders, output: Path, name: str, **options) -> JudgeTrainingConfig:
    data = DataConfig(name=name, folder=str(folders[name]), split="train" if name == "lsvq" else "all")
    defaults = {"model": str(small.path), "training": SMALL, "max_new_tokens": 8}
    return JudgeTrainingConfig(**{**defaults, "data": [data], "output": str(output), **options})


def said(question: ScoreQuestion, kept: list) -> Answer:
    kept.append(question)
    return Answer("<think>sharp</think><answer>4.5</answer>")


@pytest.mark.parametrize("prompt", [None, "a <|cat|> {prompt}"])
@pytest.mark.parametrize("names", [("overall",), ("spatial", "temporal", "consistency")])
def test_a_score_is_asked_for_as_training_asked(small, prompt, names):
    item = ScoredClip(path="a.mp4", scores=dict.fromkeys(names, 1.0), prompt=prompt)
    shown = Judge.from_pretrained(small.path, device="cpu").prompt
    kept = as_asked(TaskPrompts(), names, (1.0, 5.0), prompted=prompt is not None, shown=shown)
    asked = question_about(item, (1.0, 5.0), TaskPrompts(), Prompts(shown))
    own = kept.score(prompt or "", "a.mp4")
    assert own.messages == asked.messages and own.view == asked.view and own.keys == asked.keys
    assert own.scale == (1.0, 5.0)


def test_a_scorer_answers_on_its_own_scale_in_its_own_words(small, folders, tmp_path, capsys, monkeypatch):
    """As an adapter, and merged; then after a stage that teaches something else."""
    asked = config(small, folders, tmp_path / "one", "lsvq", scale=(1.0, 5.0), rewards=THINKER, frames=FRAMES,
                   max_pixels=PIXELS, merge=True)  # fmt: skip
    train(asked)
    for name in ("adapter", "model"):
        judge = build_judge(tmp_path / "one" / name, device="cpu")
        own = judge.prompts.score
        assert own.scale == (1.0, 5.0) and own.keys == () and "from 1 (bad) to 5" in own.question
        assert own.frames == FRAMES and own.max_pixels == PIXELS
        assert judge.prompt.frames == judge.prompts.describe.frames == FRAMES
        assert judge.prompts.describe.question == DEFAULT_VIDEO_PROMPTS["describe"].question
        video = small.videos["red"].path
        question = own.score("", video)
        item = gather(asked)[0].reading.items[0]
        trained = question_about(replace(item, path=video), (1.0, 5.0), TaskPrompts(), Prompts(judge_prompt(asked)))
        assert question.messages == trained.messages
        assert question.read("<answer>4.5</answer>") == {"": 4.5} and question.read("<answer>73</answer>") is None
        # What so little training says means nothing, so it is said here.
        questions: list = []
        monkeypatch.setattr(Judge, "answer", lambda self, asked: (said(each, questions) for each in asked))
        more = ["--frames.fps", "2", "--max_pixels", "784"] if name == "model" else []
        judge_command(["score", video, "--judge", str(tmp_path / "one" / name), "--json", *more])
        printed = json.loads(capsys.readouterr().out)
        assert [row["score"] for row in printed["videos"]] == [4.5]
        assert [each.messages[-1]["content"][-1]["text"] for each in questions] == [own.question]
        (view,) = (each.view for each in questions)
        assert (view.sampling, view.max_pixels) == ((FrameSampling(fps=2), 784) if more else (FRAMES, PIXELS))
        monkeypatch.undo()
    pairs = config(small, folders, tmp_path / "two", "vision_reward_pairs", model=str(tmp_path / "one" / "adapter"))
    train(pairs)
    after = build_judge(tmp_path / "two" / "adapter", device="cpu").prompts
    assert after.score == own and after.compare.frames == FRAMES


def test_three_keys(small, folders, tmp_path):
    train(config(small, folders, tmp_path, "lgvq"))
    own = build_judge(tmp_path / "adapter", device="cpu").prompts.score
    assert own.scale == (0.0, 100.0) and len(own.keys) == 3
    said = ", ".join(f'"{key}": 40' for key in own.keys)
    assert own.score("", "a.mp4").read(f"<answer>{{{said}}}</answer>") == dict.fromkeys(own.keys, 40.0)
    assert own.question.startswith("This video was generated from the text: {prompt}\n")
    # An adapter on top says what it was trained for.
    assert build_judge(small.path, adapter=tmp_path / "adapter", device="cpu").prompts.score == own


def test_a_benchmark_is_asked_in_the_judges_own_words(small, folders, tmp_path):
    own = VideoPrompt(system=None, before="", question="how good?", scale=(1.0, 5.0))
    asked = JudgeEvaluationConfig(judge="j", benchmark="lsvq", data="d", output="o", num_frames=6, max_pixels=PIXELS)
    judge = Judge.from_pretrained(small.path, device="cpu", shown=asked.shown)
    assert judge.prompt.num_frames == 6 and judge.prompts.score.max_pixels == PIXELS
    assert not _in_its_own_words(asked, judge), "the general words are nobody's own"
    judge.prompts = replace(judge.prompts, score=own)
    assert _in_its_own_words(asked, judge)
    assert not _in_its_own_words(replace(asked, scale=(0.0, 10.0)), judge), "unless the user asks otherwise"


def test_without_reasoning(small, folders, tmp_path):
    asked = config(small, folders, tmp_path, "vision_reward_pairs", reasoning=False)
    assert task_prompts(asked) == DIRECT and "think" not in str(DIRECT)
    assert judge_prompt(asked) == replace(DIRECT_COMPARISON, max_new_tokens=8) and "think" not in str(DIRECT_COMPARISON)
    mine = TaskPrompts(score="{low} {high}")
    assert task_prompts(replace(asked, prompts=mine)) == mine


def test_reasoning_comes_back_after_a_stage_without(small, folders, tmp_path):
    shown = copytree(small.path, tmp_path / "model")
    DIRECT_COMPARISON.save(shown, "compare")
    asked = config(small, folders, tmp_path / "next", "vision_reward_pairs", model=str(shown))
    assert "think" in judge_prompt(asked).system


def test_scores_alone_leave_the_comparisons_wording(small, folders, tmp_path):
    asked = config(small, folders, tmp_path, "lsvq", num_frames=3, reasoning=False)
    before = Judge.from_pretrained(small.path, device="cpu").prompt
    assert asked_from_now_on(asked, gather(asked)).compare == replace(before, num_frames=3, max_new_tokens=8)
    pairs = config(small, folders, tmp_path, "vision_reward_pairs", num_frames=3, reasoning=False)
    assert asked_from_now_on(pairs, gather(pairs)).compare == judge_prompt(pairs)


def test_epochs_count_versions_of_clips_in_the_plan_too(small, folders, tmp_path):
    training = replace(SMALL, epochs=4.0)
    plain = config(small, folders, tmp_path, "lsvq", training=training)
    margin = replace(plain, rewards=replace(plain.rewards, temporal="margin"))
    planned = [cost(each, gather(each)) for each in (plain, margin)]
    assert planned[1]["steps"] == planned[0]["steps"], "versions stand beside the items"
    beside = planned[1]["steps"] * math.ceil(0.25 * SMALL.pairs_per_step) * SMALL.num_generations
    assert planned[1]["rollouts"] == planned[0]["rollouts"] + beside
    assert planned[1]["of_which_perturbed"] == beside


def test_a_number_of_frames_goes_before_a_rate_that_was_trained():
    prompt = replace(DIRECT_COMPARISON, frames=FRAMES)
    assert Shown(num_frames=12).of(prompt).sampling == 12
    assert Shown(max_pixels=7).of(prompt).view.sampling == FRAMES
    assert Shown().in_all(Prompts(prompt)) == Prompts(prompt)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scale": (0.0, 100.0), "rewards": THINKER}, r"bell.*scale: \[1, 5\]"),
        ({"rewards": RewardConfig(ranking=True)}, "have no scale of scores"),
    ],
)
def test_a_scale_that_the_data_do_not_have(small, folders, tmp_path, options, says):
    with pytest.raises(InputError, match=says) as error:
        gather(config(small, folders, tmp_path, "vision_reward_pairs", **options))
    assert error.value.exit_code == 2
