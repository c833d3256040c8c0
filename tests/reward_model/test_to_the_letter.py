"""Evaluation as the papers do it: free descriptions that a model reads, an Overall weighted by videos; and ties that
are calibrated on other pairs.
"""

import re

import numpy as np
import pytest

from reward_model.datasets import PreferenceItem, QuestionItem
from reward_model.judging.base import Answer, VideoJudge
from reward_model.measuring.config import JudgeEvaluationConfig
from reward_model.measuring.described import MEANT, mentions
from reward_model.measuring.evaluation import Bootstrap, evaluate_preferences, evaluate_questions
from reward_model.measuring.overall import GROUPS, VIDEOS, overall_of, published_overall
from reward_model.metrics import held_out_right, preference_accuracy
from reward_model.presets import preset_named
from reward_model.questions import video_paths
from videoduet.errors import InputError
from videoduet.records import Comparison, OrderVerdict

FEW = Bootstrap(resamples=20)


class Scripted(VideoJudge):
    """Answers by what ``say`` makes of a question, and keeps what it was asked."""

    def __init__(self, say):
        super().__init__(preset_named(None).prompts, judge_id="scripted")
        self.say, self.seen = say, []

    def answer(self, questions):
        for question in questions:
            self.seen.append(question)
            yield self.say(question)


def mentioned(question) -> Answer:
    """A model that reads: yes where the description names the distortion by its first word."""
    assert not video_paths(question.messages), "it sees no video"
    text = question.messages[-1]["content"][0]["text"]
    description, _, asked = text.partition("\n\n")
    kind = next(kind for kind, words in MEANT.items() if words in asked)
    return Answer(f"<answer>{'yes' if re.search(kind, description) else 'no'}</answer>")


def test_what_a_description_mentions_is_read_by_another_model(tmp_path):
    told = {"a.mp4": "<think>there is noise</think> it has blur", "b.mp4": "sharp", "c.mp4": None}

    def describe(question):
        text = told[video_paths(question.messages)[0]]
        return Answer(text) if text else Answer(error="damaged")

    judge, reader = Scripted(describe), Scripted(mentioned)
    items = [
        QuestionItem(paths=(path,), question="?", options=("yes", "no"), answer=right, kind=kind)
        for kind, rights in (("blur", ("yes", "no", "no")), ("noise", ("yes", "yes", "no")))
        for path, right in zip(told, rights, strict=True)
    ]
    found = mentions(items, judge, reader, tmp_path, 2)
    assert [said and "yes" in said for said in found] == [True, False, None, True, False, None], "thoughts are read too"
    assert (len(judge.seen), len(reader.seen)) == (3, 4), "a video is described once"
    kept = [(item, said) for item, said in zip(items, found, strict=True) if said is not None]
    measured = evaluate_questions(*zip(*kept, strict=True), FEW)["dimensions"]
    assert {name: one["accuracy"]["value"] for name, one in measured.items()} == {
        "blur": 1.0, "noise": 0.5, "overall": 0.75,
    }  # fmt: skip
    assert mentions(items, judge, reader, tmp_path, 2) == found and len(reader.seen) == 4, "nothing is asked again"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"benchmark": "lsvq", "checker": "m", "checker_server": "http://x/v1"}, "Nothing is checked in lsvq"),
        ({"benchmark": "finevd", "checker": "m"}, "--checker_server"),
    ],
)
def test_a_checker_has_a_server_and_something_to_check(given, says):
    with pytest.raises(InputError, match=says):
        JudgeEvaluationConfig(judge="j", data="d", output="o", **given)


def test_a_question_counts_in_all_its_groups():
    items = [
        QuestionItem(paths=("x",), question="q", options=("A", "B"), answer="A", kind="what/how", groups=groups)
        for groups in (("global", "single videos"), ("referring", "single videos"), ("two videos",))
    ]
    found = evaluate_questions(items, ["<answer>A</answer>", "<answer>A</answer>", "<answer>B</answer>"], FEW)
    values = {name: row["accuracy"]["value"] for name, row in found["dimensions"].items()}
    assert values == pytest.approx(
        {"what/how": 2 / 3, "global": 1, "single videos": 1, "referring": 1, "two videos": 0, "overall": 2 / 3}
    )


# VQAThinker, table 1.
@pytest.mark.parametrize(
    ("group", "method", "srcc", "plcc"),
    [
        ("in-domain", "VQAThinker", 0.855, 0.866), ("in-domain", "Q-Align", 0.844, 0.861),
        ("in-domain", "VisualQuality-R1", 0.765, 0.776), ("in-domain", "Q-Insight", 0.635, 0.651),
        ("out of distribution", "VQAThinker", 0.661, 0.698), ("out of distribution", "DOVER", 0.511, 0.563),
    ],
)  # fmt: skip
def test_overall_is_the_papers(group, method, srcc, plcc):
    row = next(row for row in published_overall(group) if row["method"] == method)
    assert (row["SRCC"], row["PLCC"]) == (pytest.approx(srcc, abs=6e-4), pytest.approx(plcc, abs=6e-4))


def test_overall_needs_the_whole_group():
    values = (0.865, 0.782, 0.860, 0.781, 0.834)  # SFT, VQAThinker's table 7
    results = [
        {"benchmark": name, "split": split,
         "dimensions": {"overall": {"SRCC": {"value": value}, "PLCC": {"value": value}, "n": VIDEOS[name, split]}}}
        for (name, split), value in zip(GROUPS["in-domain"], values, strict=True)
    ]  # fmt: skip
    found = overall_of(results)
    assert set(found) == {"in-domain"} and found["in-domain"]["SRCC"] == pytest.approx(0.837, abs=6e-4)
    assert found["in-domain"]["n"] == 13560
    assert overall_of(results[1:])["in-domain"] == {"missing": ["lsvq test"]}


def test_ties_are_calibrated_on_other_pairs():
    rng = np.random.default_rng(0)
    human = rng.integers(-1, 2, 400)
    margin, half = human * 0.5 + rng.normal(0, 0.3, 400), rng.integers(0, 2, 400)
    right, thresholds = held_out_right(human, margin, half)
    for own in (0, 1):
        fitted = preference_accuracy(human[half != own], margin[half != own])["threshold"]
        measured = preference_accuracy(human[half == own], margin[half == own], threshold=fitted)
        assert thresholds[own] == fitted and right[half == own].mean() == pytest.approx(measured["tau"])
    assert right.mean() <= preference_accuracy(human, margin)["tau"] + 0.01
    guess = held_out_right(human, rng.normal(0, 1, 400), half)[0].mean()
    assert guess == pytest.approx(1 / 3, abs=0.1)
    assert held_out_right(human, margin, np.zeros(400))[1] == ()


def test_ties_held_out_are_told_where_prompts_differ():
    items, given = [], []
    for index in range(12):
        label = ("first", "second", "tie")[index % 3]
        items.append(PreferenceItem(first="1", second="2", prompt=f"p{index}", preferred={"overall": label}))
        p = {"first": 0.9, "second": 0.1, "tie": 0.55}[label]
        verdicts = [OrderVerdict(text="", verdict=verdict) for verdict in ("first", "second")]
        given.append(Comparison.of(items[-1].pair, "j", *verdicts, p))
    found = evaluate_preferences(items, given, FEW)["dimensions"]["overall"]
    assert found["tau, held out"]["value"] == found["tau"]["value"] == 1.0
    assert found["threshold 1, held out"] == found["threshold 2, held out"] == pytest.approx(0.05)
