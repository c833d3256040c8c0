"""What is hashed into ids and seeds, and every word that a model is told: constants of commit 16c8d0d."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_vllm import StandIn, vllm  # noqa: F401

import shapes_world
from reward_model import PRESETS, Decoding, Judge
from reward_model.datasets import PreferenceItem, QuestionItem, Reading, ScoredClip
from reward_model.inputs import as_video
from reward_model.judging.config import ServerSettings
from reward_model.judging.server import ServerJudge
from reward_model.judging.tasks import question_about, right_answer
from reward_model.judging.vllm_offline import VllmJudge
from reward_model.prompts import DEFAULT_PROMPT, JudgePrompt, Prompts, TaskPrompts, wording_id
from reward_model.training.mixture import Ingredient, stage_rows

FROZEN = json.loads((Path(__file__).parent / "frozen.json").read_text())
MODELS = Path(shapes_world.__file__).parent / "models"
SERVER = ServerSettings("http://localhost:1/v1", "m")
KINDS = ("compare", "score", "describe")
ITEMS = {
    "score": ScoredClip(path="a.mp4", scores={"overall": 1.0}),
    "prompted score": ScoredClip(path="a.mp4", scores={"overall": 1.0}, prompt="a <|cat|>"),
    "dimensions": ScoredClip(path="a.mp4", scores={"spatial": 1.0, "temporal": 2.0}, prompt="a {prompt} cat"),
    "preference": PreferenceItem(first="a.mp4", second="b.mp4", prompt="a <|cat|>", preferred={"overall": "first"}),
    "yes or no": QuestionItem(
        paths=("a.mp4",), question="Is it <|good|> {options}?", options=("yes", "no"), answer="yes"
    ),
    "options": QuestionItem(
        paths=("a.mp4", "b.mp4"), question="Which?\nA. x\nB. y\nC. z", options=("A", "B", "C"), answer="B"
    ),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_say_what_they_said(name):
    prompts = PRESETS[name].prompts
    made = {kind: prompt for kind in KINDS if (prompt := getattr(prompts, kind)) is not None}
    assert {kind: wording_id(prompt) for kind, prompt in made.items()} == FROZEN["wording_ids"][name]
    videos = {"compare": ("a.mp4", "b.mp4"), "score": ("a.mp4",), "describe": ("a.mp4",)}
    for kind, prompt in made.items():
        messages = prompt.messages("a <|cat|>", *videos[kind])
        assert messages == FROZEN["preset messages"][name][kind]
        assert getattr(prompt, kind)("a <|cat|>", *videos[kind]).messages == messages


def test_items_are_asked_about_as_they_were():
    kept = JudgePrompt.load(MODELS / "judge")
    own = TaskPrompts(system="", score="score")
    for name, item in ITEMS.items():
        asked = question_about(item, (0.0, 100.0), TaskPrompts(), Prompts(DEFAULT_PROMPT))
        assert asked.messages == FROZEN["messages"][name]
        asked = question_about(item, (1, 5), own, Prompts(kept))
        assert asked.messages == FROZEN["messages, 1-5, own wording"][name]
        assert right_answer(item, (0, 10), (0.0, 100.0)) == FROZEN["right"][name]
    readings = [
        Reading("d", "all", [ITEMS["dimensions"], ITEMS["prompted score"]], (0, 10)),
        Reading("p", "all", [ITEMS["preference"]]),
        Reading("q", "all", [ITEMS["yes or no"], ITEMS["options"]]),
    ]
    rows = stage_rows(
        [Ingredient(reading) for reading in readings], steps=4, per_step=3, scale=(0.0, 100.0), prompts=TaskPrompts(),
        judge_prompt=DEFAULT_PROMPT, seed=7,
    )  # fmt: skip
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest() == FROZEN["rows"]


@pytest.mark.parametrize(
    ("name", "weights", "options"),
    [
        ("judge", "judge", {}),
        ("second_judge", "second_judge", {}),
        ("judge, 3 samples", "judge", {"decoding": Decoding(3, 0.5)}),
        ("judge, other prompt", "judge", {"prompt": DEFAULT_PROMPT}),
        ("aigcvideo", "judge", {"preset": "vqinsight-aigcvideo"}),
    ],
)
def test_judges_have_the_names_they_had(name, weights, options):
    judge = Judge.from_pretrained(MODELS / weights, device="cpu", **options)
    assert judge.judge_id == FROZEN[f"judge_id {name}"]


def test_judges_elsewhere_have_the_names_they_had(vllm):  # noqa: F811
    assert {name: ServerJudge(SERVER, preset=name).judge_id for name in PRESETS} == FROZEN["server ids"]
    assert VllmJudge(str(MODELS / "judge")).judge_id == FROZEN["vllm id"]


def test_answers_kept_of_a_server_are_found_again():
    """The name of a kept answer hashes all that the server is sent."""
    frames = np.arange(4 * 32 * 32 * 3, dtype=np.uint8).reshape(4, 32, 32, 3)
    video, clips = as_video(frames)
    judge, prompts = ServerJudge(SERVER), PRESETS["general"].prompts
    questions = {
        "server key": prompts.compare.compare("a cat", video.path, video.path),
        "server key score": prompts.score.score("a cat", video.path),
    }
    for name, question in questions.items():
        body = judge._body(replace(question, clips=clips))
        key = hashlib.sha256(json.dumps([body, question.labels, 0], sort_keys=True).encode()).hexdigest()
        assert key == FROZEN[name]
