"""One kind of question for all: each reads its own answer, any stream of them is answered, any judge can be built."""

from dataclasses import replace

import pytest
import torch
from small_judge import SMALL_PROMPT, pair
from stub_server import serving

from reward_model import Decoding, Judge, VideoJudge, build_judge
from reward_model.encoding import ShowingEncoder
from reward_model.judging.config import ServerSettings
from reward_model.judging.server import ServerJudge
from reward_model.prompts import JudgePrompt, Prompts, TaskPrompts, VideoPrompt
from reward_model.questions import DescribeQuestion, Question
from videoduet.errors import InputError
from videoduet.records import Comparison, OrderVerdict

SCORE = VideoPrompt(system=None, before="", question="{prompt}", num_frames=2, max_new_tokens=5)
WORDING = TaskPrompts(system="")


class Lengths:
    """Prefers the pair's longer name: a class with ``compare``, and nothing else."""

    def __init__(self, reverse: bool = False):
        self.reverse = reverse

    def compare(self, pairs):
        for each in pairs:
            longer = (len(each.first.id) > len(each.second.id)) != self.reverse
            verdict = OrderVerdict(text="", verdict="first" if longer else "second")
            yield Comparison.of(each, "lengths", verdict)


def test_questions_read_their_own_answers():
    view = SMALL_PROMPT.view
    compare = SMALL_PROMPT.compare("x", "a", "b")
    assert compare.labels == ("1", "2") and compare.read("<think>2</think><answer>1</answer>") == "first"
    score = SCORE.score("x", "a")
    assert (score.read("<answer>60</answer>"), score.read("101"), score.read("hm")) == ({"": 60.0}, None, None)
    several = replace(SCORE, keys=("a", "b"), scale=(1, 5)).score("x", "v")
    assert several.read('{"b": 2, "a": 4}') == {"a": 4.0, "b": 2.0} and several.read('{"a": 4, "b": 6}') is None
    rated = WORDING.rate("v", None, ("overall",), (0, 100), view)
    assert rated.read("101") == {"": 101.0}, "how far off it lies is for rewards and metrics to weigh"
    choice = WORDING.choose(["v"], "Is it good?", ("yes", "no"), view)
    assert (choice.read("<answer>Yes.</answer>"), choice.read("<answer>maybe</answer>")) == ("yes", None)
    words = SCORE.describe("x", "v")
    assert words.read("<think>hm</think> <answer>A circle.</answer>") == "A circle." and not words.sampled
    with pytest.raises(NotImplementedError):
        Question(messages=[], view=view).read("")


def mixed(small) -> list[Question]:
    """Questions of all kinds about the same videos, shown in two ways."""
    red, green, wide = (small.videos[name].path for name in ("red", "green", "wide"))
    view = replace(SMALL_PROMPT.view, max_new_tokens=6)
    return [
        SMALL_PROMPT.compare("a red circle", red, green),
        SCORE.score("a red circle", red),
        WORDING.choose([red], "Is it red?", ("yes", "no"), view),
        SMALL_PROMPT.compare("a red circle", green, red),
        SCORE.describe("", wide),
        WORDING.rate(wide, "a red circle", ("a", "b"), (0, 10), view),
        SCORE.score("a red circle", green),
    ]


@torch.no_grad()
def test_a_mixed_stream_is_answered_in_its_order(small, judge):
    """Each as the plain model answers it alone, with the frames that its own view shows."""
    questions = mixed(small)
    answers = list(judge.answer(questions))
    assert len({answer.text for answer in answers}) > 3
    for question, answer in zip(questions, answers, strict=True):
        encoder = ShowingEncoder.for_view(judge.processor, question.view)
        inputs = encoder.collate([encoder.showing(question.messages)], pixels=True)
        output = judge.model.generate(**inputs, do_sample=False, max_new_tokens=question.view.max_new_tokens)
        completion = output[0, inputs["input_ids"].shape[1] :]
        assert answer.text == judge.tokenizer.decode(completion, skip_special_tokens=True)
        assert answer.p is None or question.labels is not None


def test_what_cannot_be_asked_is_answered_by_its_error(small, judge, not_a_video):
    questions = mixed(small)
    broken = SCORE.score("x", str(not_a_video))
    answers = list(judge.answer([questions[0], broken, questions[1]]))
    assert "broken_clip.mp4" in answers[1].error and not answers[1].lost
    assert [answer.error for answer in answers[::2]] == [None, None]


def test_descriptions_are_asked_for_once(small):
    judge = Judge.from_pretrained(small.path, prompt=SMALL_PROMPT, device="cpu", decoding=Decoding(3, 2.0))
    asked = [SCORE.describe("x", small.videos["red"].path)] * 2
    first, second = judge.answer(asked)
    assert first == second and isinstance(asked[0], DescribeQuestion)


def test_prompts_say_what_a_judge_is_not_made_for():
    with pytest.raises(InputError, match="not made to compare"):
        Prompts(score=SCORE).of("compare")
    assert Prompts(score=SCORE).view == SCORE.view and Prompts(score=SCORE).compare_id == ""
    with pytest.raises(InputError, match="not made to describe"):
        _ = Prompts().view


def test_any_judge_is_built_in_one_place(small):
    local = build_judge(small.path, device="cpu", batch_size=3)
    assert isinstance(local, Judge) and local.batch_size == 3 and local.prompts.compare == SMALL_PROMPT
    assert local.judge_id == Judge.from_pretrained(small.path, device="cpu").judge_id
    other = replace(SMALL_PROMPT, question="{prompt}?")
    assert build_judge(small.path, prompt=other, device="cpu").prompts.compare == other
    settings = ServerSettings("http://localhost:1/v1", "m")
    served = build_judge(backend="server", server=settings, preset="vqinsight-comp")
    assert isinstance(served, ServerJudge) and served.settings.model == "m"
    prompted = build_judge("m", backend="server", server=settings, prompt=other)
    assert prompted.prompts.compare == other != served.prompts.compare and prompted.judge_id != served.judge_id
    made = build_judge(factory="test_questions.Lengths", arguments={"reverse": True})
    assert made.reverse and not isinstance(made, VideoJudge)
    (comparison,) = made.compare([pair(small.videos, "red", "green")])
    assert comparison.preferred_id == "red"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "No judge is named"),
        ({"path": "x", "preset": "vq"}, "no preset vq"),
        ({"path": "x", "backend": "server"}, "belong together"),
        ({"factory": "test_questions.Nobody"}, "cannot be used"),
        ({"factory": "test_questions.Lengths", "arguments": {"wrong": 1}}, "cannot be used"),
        ({"path": "./no_judge"}, "no_judge cannot be loaded"),
        ({"path": "x", "backend": "vllm"}, "vLLM is not installed"),
    ],
)
def test_judges_that_cannot_be_built(options, says):
    with pytest.raises(InputError, match=says):
        build_judge(**options)


def test_a_server_is_asked_other_questions_too(small):
    """What it does not answer is told apart from a video that cannot be read."""

    def reply(body):
        return {"choices": [{"message": {"content": f"{len(body['messages'])}"}}]}

    with serving(["well", "400"], reply=reply) as server:
        settings = ServerSettings(f"http://127.0.0.1:{server.server_port}/v1", "m", concurrency=1, retries=0)
        judge = build_judge("m", backend="server", server=settings)
        red = small.videos["red"].path
        questions = [WORDING.rate(path, None, ("a",), (0, 10), SMALL_PROMPT.view) for path in (red, red, "nowhere.mp4")]
        said, refused, missing = judge.answer(questions)
    assert questions[0].read(said.text) == {"": 1.0}
    assert refused.lost and "refused" in refused.error
    assert not missing.lost and "nowhere.mp4 does not exist" in missing.error


def test_a_prompt_keeps_its_fields():
    assert JudgePrompt(None, "1", "2", "q").fields().keys() == {
        "system", "before_first", "before_second", "question", "labels", "num_frames", "max_new_tokens",
    }  # fmt: skip
