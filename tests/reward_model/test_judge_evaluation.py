"""From answers to metrics: perfect, reversed, silent and guessing judges score as they should."""

import math

import pytest

from reward_model.datasets import PreferenceItem, QuestionItem, ScoredClip
from reward_model.judging.tasks import question_about, rescaled, right_answer
from reward_model.measuring.evaluation import (
    Bootstrap,
    evaluate_preferences,
    evaluate_questions,
    evaluate_scores,
    margin_of,
)
from reward_model.measuring.published import LGVQ, PREFERENCES, QUESTIONS, SCORES, published_rows
from reward_model.prompts import JudgePrompt, Prompts, TaskPrompts
from videoduet.records import Comparison, OrderVerdict, Prompt, Video, VideoPair

FEW = Bootstrap(resamples=50)
CLIPS = [ScoredClip(path=f"{i}.mp4", scores={"overall": 10.0 * i}) for i in range(8)]


def said(value) -> str:
    return f"<think>so</think><answer>{value}</answer>"


def test_scores():
    perfect = evaluate_scores(CLIPS, [said(clip.scores["overall"] / 20 + 1) for clip in CLIPS], FEW)["dimensions"]
    assert [perfect["overall"][name]["value"] for name in ("SRCC", "PLCC", "KRCC")] == pytest.approx([1, 1, 1])
    assert perfect["overall"]["SRCC"]["low"] == pytest.approx(1)
    reverse = evaluate_scores(CLIPS, [said(-clip.scores["overall"]) for clip in CLIPS], FEW)["dimensions"]
    assert reverse["overall"]["KRCC"]["value"] == pytest.approx(-1)
    assert reverse["overall"]["PLCC after logistic4"] == pytest.approx(1, abs=0.02)


def test_unreadable_scores_are_counted_and_left_out():
    answers = [said(clip.scores["overall"]) for clip in CLIPS]
    result = evaluate_scores(CLIPS, [*answers[:5], said("about 60"), "no", said("")], FEW)
    assert (result["n"], result["unreadable"], result["dimensions"]["overall"]["n"]) == (8, 3, 5)
    assert result["dimensions"]["overall"]["SRCC"]["value"] == pytest.approx(1)
    silent = evaluate_scores(CLIPS, [""] * 8, FEW)
    assert silent["dimensions"] == {"overall": {"n": 0}} and silent["unreadable"] == 8


def test_scores_are_read_on_the_scale_they_were_asked_for():
    """A judge that says its scores out of something else is as good as one that does not, or cannot be read."""
    forms = ["{:g}/100", "{:g} out of 100", "{:g}"]
    answers = [said(forms[i % 3].format(clip.scores["overall"])) for i, clip in enumerate(CLIPS)]
    answers[1:6:2] = said("0.5/5"), said("3 out of 10"), said("2.5 / 5")
    found = evaluate_scores(CLIPS, answers, FEW, (0.0, 100.0))
    assert found["unreadable"] == 0 and found["dimensions"]["overall"]["PLCC"]["value"] == pytest.approx(1)
    answers[2:6] = said("20/30"), said("6/5"), said("-40/100"), said("140")
    found = evaluate_scores(CLIPS, answers, FEW, (0.0, 100.0))
    assert (found["unreadable"], found["dimensions"]["overall"]["n"]) == (4, 4)
    assert found["dimensions"]["overall"]["PLCC"]["value"] == pytest.approx(1)


def test_scores_in_several_dimensions():
    clips = [ScoredClip(path="x", scores={"a": i, "b": (3 * i) % 7}, prompt="p") for i in range(7)]
    answers = [said(f'{{"b": {-clip.scores["b"]}, "a": {clip.scores["a"]}}}') for clip in clips]
    dimensions = evaluate_scores(clips, answers, FEW)["dimensions"]
    assert dimensions["a"]["SRCC"]["value"] == pytest.approx(1)
    assert dimensions["b"]["SRCC"]["value"] == pytest.approx(-1)


def comparison(index: int, forward: str | None, backward: str | None, p: float | None = None) -> Comparison:
    pair = VideoPair(prompt=Prompt.of(str(index)), first=Video(id="1", path="1"), second=Video(id="2", path="2"))
    return Comparison.of(pair, "j", OrderVerdict(text="", verdict=forward), OrderVerdict(text="", verdict=backward), p)


def preferred(label: str, **others: str) -> PreferenceItem:
    return PreferenceItem(first="1", second="2", prompt="p", preferred={"overall": label, **others})


def test_margins():
    assert margin_of(comparison(0, "first", "second", 0.9)) == pytest.approx(0.4)
    assert margin_of(comparison(0, "first", "second")) == 0.5
    assert margin_of(comparison(0, "second", "first")) == -0.5
    for silent in (comparison(0, None, "first"), comparison(0, "first", "first"), comparison(0, "tie", "tie")):
        assert margin_of(silent) == 0.0


def test_preferences():
    items = [preferred("first", motion="second"), preferred("second"), preferred("tie"), preferred("first")]
    given = [comparison(0, "first", "second", 0.8), comparison(1, "second", "first", 0.3),
             comparison(2, "first", "first", 0.52), comparison(3, None, "first")]  # fmt: skip
    result = evaluate_preferences(items, given, FEW)
    overall = result["dimensions"]["overall"]
    assert overall["diff"]["value"] == pytest.approx(2 / 3), "what cannot be read is wrong"
    assert overall["tau"]["value"] == pytest.approx(3 / 4)
    assert overall["threshold"] == pytest.approx(0.02)
    assert result["dimensions"]["motion"]["diff"]["value"] == 0.0
    assert result["position"]["consistency"] == pytest.approx(2 / 3)
    assert (result["n"], result["unreadable"]) == (4, 1)


def question(answer: str, kind: str, options=("yes", "no")) -> QuestionItem:
    return QuestionItem(paths=("x",), question="q", options=options, answer=answer, kind=kind)


def test_questions():
    items = [question("yes", "blur"), question("no", "blur"), question("C", "what", ("A", "B", "C", "D"))]
    result = evaluate_questions(items, [said("Yes"), "dunno", said("C. Noise")], FEW)
    values = {name: row["accuracy"]["value"] for name, row in result["dimensions"].items()}
    assert values == pytest.approx({"blur": 0.5, "what": 1.0, "overall": 2 / 3})
    assert result["dimensions"]["overall"]["chance"] == pytest.approx(1.25 / 3)
    assert result["unreadable"] == 1


def test_what_is_right_moves_with_the_scale():
    clip = ScoredClip(path="x", scores={"overall": 3.0})
    assert right_answer(clip, (1, 5), (0, 100)) == {"kind": "score", "target": 50.0}
    assert rescaled(4.0, (1, 4), (0, 100)) == 100.0 and rescaled(50.0, (0, 100), (1, 5)) == 3.0
    assert right_answer(preferred("tie"), None, (0, 100))["preferred"] is None
    several = right_answer(ScoredClip(path="x", scores={"a": 1.0, "b": 5.0}), (1, 5), (0, 10))
    assert several == {"kind": "dimensions", "targets": {"a": 0.0, "b": 10.0}}


def test_wording():
    prompts, judge = TaskPrompts(), JudgePrompt(system=None, before_first="1", before_second="2", question="{prompt}")
    clip = ScoredClip(path="x.mp4", scores={"a": 1.0, "b": 2.0}, prompt="a {low} <|im_end|> {dimensions}")
    system, user = question_about(clip, (0, 100), prompts, Prompts(judge)).messages
    assert system["role"] == "system" and [part["type"] for part in user["content"]] == ["video", "text"]
    text = user["content"][1]["text"]
    assert "from 0 (bad) to 100" in text and '{"a": 100, "b": 100}' in text and "<|" not in text
    choice = question_about(question("C", "k", ("A", "B", "C")), (0, 1), prompts, Prompts(judge))
    asked = choice.messages[-1]["content"][-1]["text"]
    assert "q\n" in asked and "A, B, C" in asked
    pair = question_about(preferred("first"), (0, 1), prompts, Prompts(judge))
    assert pair.messages == judge.messages("p", "1", "2")


def test_published_rows_are_as_in_the_papers():
    best = published_rows("monetbench", "test", "overall")[-1]
    assert (best["method"], best["tau"], best["diff"]) == ("VQ-Insight", pytest.approx(0.612), pytest.approx(0.7451))
    assert published_rows("lsvq", "test", "overall")[-1] == {"method": "VQAThinker", "SRCC": 0.883, "PLCC": 0.880}
    assert published_rows("lgvq", "all", "temporal")[-1]["PLCC"] == 0.927
    assert published_rows("finevd", "test", "blur")[-1]["accuracy"] == pytest.approx(0.7083)
    assert published_rows("konvid_1k", "test", "overall") == []
    values = [v for rows in SCORES.values() for row in rows for v in row[1:]]
    values += [v for _, dims in LGVQ for row in dims.values() for v in row]
    assert all(0 < value < 1 for value in values)
    assert all(0 < v < 100 for rows in PREFERENCES.values() for row in rows for v in row[1:])
    assert all(0 < v < 100 for rows in QUESTIONS.values() for _, row in rows for v in row.values())
    assert not any(map(math.isnan, values))
