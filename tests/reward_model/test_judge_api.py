"""The judge by itself: what it takes and gives back, presets in the published layout, several samples, failures."""

import itertools
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from peft import LoraConfig, get_peft_model
from small_judge import PROMPTS, SMALL_PROMPT, pair
from small_qwen3 import write_qwen3
from transformers import Qwen3VLForConditionalGeneration

from alignment.preferences.pairs import PairConfig, follows_position, select_pairs
from alignment.preferences.ranking import judge_statistics, rank, rank_prompts
from reward_model import PRESETS, Decoding, Failure, Judge, VideoJudge
from reward_model.inputs import as_pair, as_video
from reward_model.judging.base import Answer
from reward_model.judging.loading import load_model
from reward_model.prompts import DEFAULT_PROMPT, JudgePrompt, Prompts, VideoPrompt
from reward_model.questions import Question
from videoduet.errors import InputError
from videoduet.records import DimensionScore, Prompt, Video, VideoPair
from videoduet.video import FrameSampling, read_video, write_video

TWO_A_SECOND = FrameSampling(fps=2, min_frames=4, max_frames=16)
SCORE = VideoPrompt(system=None, before="", question="{prompt}", max_new_tokens=6)


def test_paths_clips_and_records_are_judged_alike(small, judge):
    paths = [small.videos[name].path for name in ("red", "green")]
    clips = [read_video(path) for path in paths]
    given = [
        pair(small.videos, "red", "green", PROMPTS[0]),
        (*paths, PROMPTS[0]),
        (*clips, Prompt.of(PROMPTS[0])),
        tuple(paths),
    ]
    record, by_path, by_clip, without_prompt = judge.compare(given)
    assert record.prompt_id == by_path.prompt_id == by_clip.prompt_id == Prompt.of(PROMPTS[0]).id
    assert record.forward.text == by_path.forward.text == by_clip.forward.text
    assert record.backward.text == by_path.backward.text == by_clip.backward.text
    assert without_prompt.prompt_id == Prompt.of("").id
    assert by_path.first_id == as_video(paths[0])[0].id != by_clip.first_id


def test_arrays_and_tensors_are_the_same_video():
    frames = np.random.default_rng(0).integers(0, 255, (5, 8, 6, 3), dtype=np.uint8)
    tensor = torch.from_numpy(frames).permute(0, 3, 1, 2)
    forms = [frames, torch.from_numpy(frames), tensor, tensor.float() / 255, tensor.double().numpy() / 255]
    videos = [as_video(form) for form in forms]
    assert len({video.id for video, _ in videos}) == 1
    for video, clips in videos:
        assert np.array_equal(clips[video.path].frames, frames)
        assert clips[video.path].fps == 8
    assert as_video(frames[::-1])[0].id != videos[0][0].id


@pytest.mark.parametrize(
    "given",
    [
        np.zeros((4, 8, 8), np.uint8), np.zeros((4, 8, 8, 4), np.uint8), np.zeros((4, 8, 8, 3), np.int64),
        np.full((4, 8, 8, 3), 255.0), np.full((4, 8, 8, 3), np.nan), np.zeros((0, 8, 8, 3), np.uint8),
    ],
)  # fmt: skip
def test_what_is_no_video(given):
    with pytest.raises(InputError, match="Frames"):
        as_video(given)


@pytest.mark.parametrize("given", ["a.mp4", ("a.mp4",), 3, ("a", "b", "c", "d")])
def test_what_is_no_pair(given):
    with pytest.raises(InputError, match="A pair is"):
        as_pair(given)


def test_what_cannot_be_judged_is_listed_and_the_rest_is_judged(small, judge, not_a_video):
    red, green, blue = (small.videos[name].path for name in ("red", "green", "blue"))
    given = [(red, green), (red, not_a_video), (red, "nowhere.mp4"), (red, blue), (np.zeros((2, 1, 3)), red)]
    failures: list[Failure] = []
    comparisons = list(judge.compare(given, failures=failures))
    assert [(c.first_id, c.second_id) for c in comparisons] == [
        (as_video(red)[0].id, as_video(other)[0].id) for other in (green, blue)
    ]
    assert {id(failure.given) for failure in failures} == {id(item) for item in given[1:3] + given[4:]}
    reasons = " ".join(failure.reason for failure in failures)
    assert "broken_clip.mp4 cannot be read" in reasons and "nowhere.mp4 does not exist" in reasons
    with pytest.raises(InputError, match="broken_clip"):
        list(judge.compare(given[:2]))
    thin = np.zeros((2, 2, 600, 3), np.uint8)
    assert list(judge.compare([(red, thin)], failures=failures)) == [] and "aspect ratio" in failures[-1].reason


def test_a_ranking_is_rank_of_compare(small, judge):
    names = ("red", "green", "blue")
    ranking = rank(judge.compare(pair(small.videos, a, b) for a, b in (names[:2], names[1:], names[::2])))
    assert set(ranking.video_ids) == set(names)


def test_score_and_describe_say_what_the_model_says(small, judge):
    """Real generation; the words are those of ``generate`` on the same inputs."""
    asked = Judge(judge.model, judge.processor, Prompts(score=SCORE, describe=SCORE), judge_id="x")
    videos = [small.videos["red"], (small.videos["wide"], "a red circle")]
    for records in (list(asked.score(videos)), list(asked.describe(videos))):
        assert [record.video_id for record in records] == ["red", "wide"]
        for (video, prompt), record in zip([(videos[0], ""), videos[1]], records, strict=True):
            showing = judge.encoder.__class__(judge.processor, 8).showing(SCORE.messages(prompt, video.path))
            inputs = judge.encoder.collate([showing], pixels=True)
            output = judge.model.generate(**inputs, do_sample=False, max_new_tokens=6)
            completion = output[0, len(showing.ids) :]
            assert record.text == judge.tokenizer.decode(completion, skip_special_tokens=True) != ""
            assert record.prompt_id == Prompt.of(prompt).id
    with pytest.raises(InputError, match="not made to compare"):
        list(asked.compare([]))


class Scripted(VideoJudge):
    """Answers from a list, and remembers what was asked."""

    def __init__(self, texts: list[str], **kwargs):
        prompts = Prompts(SMALL_PROMPT, replace(SCORE, keys=kwargs.pop("keys", ())), SCORE)
        super().__init__(prompts, judge_id="scripted", **kwargs)
        self.texts, self.asked = iter(texts), []

    def answer(self, questions: Iterator[Question]) -> Iterator[Answer]:
        for question in questions:
            self.asked.append(question)
            text = next(self.texts)
            yield Answer(error=text[1:]) if text.startswith("!") else Answer(text, p=0.8 if "1" in text else None)


RED_GREEN = ("red", "green")


def test_scores_are_read_on_their_scale(small):
    texts = ["<answer>60</answer>", "<answer>101</answer>", "good", "-1", "0"]
    scores = list(Scripted(texts).score([small.videos["red"]] * 5))
    assert [record.score for record in scores] == [60.0, None, None, None, 0.0]
    assert [record.text for record in scores] == texts
    (named,) = Scripted(['{"b": 20, "a": 40}'], keys=("a", "b")).score([small.videos["red"]])
    assert named.dimensions == (DimensionScore(name="a", value=40.0), DimensionScore(name="b", value=20.0))
    assert named.score == 30.0


def test_several_samples_of_a_score_are_averaged(small):
    judge = Scripted(["10", "hm", "20", "1", "2", "3"], decoding=Decoding(samples=3))
    first, second = judge.score([small.videos["red"], small.videos["green"]])
    assert (first.score, second.score) == (15.0, 2.0)
    assert all(text in first.text for text in ("10", "hm", "20"))


@pytest.mark.parametrize(
    ("forward", "backward", "status", "verdict"),
    [
        (["1", "1", "2"], ["2", "hm", "2"], "decided", "first"),
        (["1", "1", "2"], ["1", "2", "1"], "disagreement", "first"),
        (["1", "2", "hm"], ["2", "2", "2"], "disagreement", "tie"),
        (["hm", "ha", "?"], ["2", "2", "2"], "unparsable", None),
        (["hm", "ha", "2"], ["1", "?", "?"], "decided", "second"),
    ],
)
def test_the_majority_of_samples(small, forward, backward, status, verdict):
    judge = Scripted(forward + backward, decoding=Decoding(samples=3))
    (comparison,) = judge.compare([pair(small.videos, *RED_GREEN)])
    assert (comparison.status, comparison.forward.verdict) == (status, verdict)
    assert all(text in comparison.forward.text for text in forward)
    assert [question.sample for question in judge.asked] == [0, 1, 2] * 2


@pytest.mark.parametrize("kind", ["always first", "always second", "coin"])
def test_judges_that_do_not_look_are_told_by_their_statistics(kind):
    rng, videos = random.Random(0), [Video(id=f"v{index}", path=f"v{index}") for index in range(16)]
    answer = {"always first": lambda: "1", "always second": lambda: "2", "coin": lambda: rng.choice("12")}[kind]
    pairs = [VideoPair(prompt=Prompt.of("x"), first=a, second=b) for a, b in itertools.combinations(videos, 2)]
    comparisons = list(Scripted([f"<answer>{answer()}</answer>" for _ in range(2 * len(pairs))]).compare(pairs))
    statistics = judge_statistics(comparisons)
    if kind == "coin":
        assert 0.35 < statistics["agreement"] < 0.65 and statistics["transitivity"] < 0.95
        assert not follows_position(statistics)
        return
    assert statistics["agreement"] == 0 and follows_position(statistics)
    ranked = rank_prompts(comparisons)
    assert set(ranked[Prompt.of("x").id].wins) == {7.5}
    assert select_pairs(ranked, comparisons, {video.id: 0 for video in videos}, PairConfig()) == []


def test_descriptions_lose_thought_and_tags(small):
    (record,) = Scripted(["<think>hm</think> <answer>A red circle.</answer>\n"]).describe([small.videos["red"]])
    assert record.description == "A red circle." and "hm" in record.text


def test_an_answer_that_fails_takes_its_comparison_only(small):
    failures = []
    pairs = [pair(small.videos, *RED_GREEN), pair(small.videos, "blue", "white"), pair(small.videos, "red", "white")]
    texts = ["1", "2", "1", "!no answer", "2", "1"]
    comparisons = list(Scripted(texts).compare(pairs, failures=failures))
    assert [c.second_id for c in comparisons] == ["green", "white"] and comparisons[1].first_id == "red"
    assert failures == [Failure(pairs[1], "no answer")]


def test_samples_differ_repeat_and_carry_probabilities(small):
    judge = Judge.from_pretrained(small.path, device="cpu", decoding=Decoding(samples=4, temperature=2.0))
    first, again = (
        list(judge.compare([pair(small.videos, *RED_GREEN), pair(small.videos, "blue", "white")])) for _ in "12"
    )
    assert first == again
    texts = [part.partition("\n")[2] for part in first[0].forward.text.split("\n\n[")]
    assert len(texts) == 4 and len(set(texts)) > 1
    assert judge.judge_id != Judge.from_pretrained(small.path, device="cpu").judge_id
    with pytest.raises(InputError, match="samples"):
        Decoding(samples=0)


@pytest.fixture(scope="module")
def published(small, tmp_path_factory):
    """Random checkpoints in the layout of ByteDance/Q-Insight: one subfolder for each task, weights and processor."""
    root = tmp_path_factory.mktemp("Q-Insight")
    for name in ("vqinsight-comp", "vqinsight-aigcvideo", "vqinsight-naturalvideo"):
        shutil.copytree(small.path, root / name, ignore=shutil.ignore_patterns("judge_prompt.json"))
    return root


def short(judge: Judge) -> Judge:
    """The same with short answers, as random weights never stop."""
    for kind in ("compare", "score", "describe"):
        if (prompt := getattr(judge.prompts, kind)) is not None:
            judge.prompts = replace(judge.prompts, **{kind: replace(prompt, max_new_tokens=4)})
    return judge


def test_vq_insight_compares(published, small):
    judge = short(Judge.from_pretrained(published, preset="vqinsight-comp", device="cpu"))
    prompt = judge.prompts.compare
    assert prompt.sampling == TWO_A_SECOND and prompt.max_pixels == 128 * 28 * 28
    (message,) = prompt.messages("unused", "a", "b")
    parts = [part.get("video") or part["text"] for part in message["content"]]
    assert parts[:4] == ["Video A:", "a", "Video B:", "b"]
    (comparison,) = judge.compare([(small.videos["red"].path, small.videos["ten_frames"].path)])
    assert comparison.forward.text
    assert judge.tokenizer.convert_ids_to_tokens(judge.label_ids) == ["A", "B"]
    with pytest.raises(InputError, match="not made to score"):
        list(judge.score([]))
    (described,) = judge.describe([small.videos["red"].path])
    assert described.text


@pytest.mark.parametrize(
    ("preset", "keys"),
    [("vqinsight-aigcvideo", ("spatial", "temporal", "consistency")), ("vqinsight-naturalvideo", ())],
)
def test_vq_insight_scores(published, small, preset, keys):
    judge = short(Judge.from_pretrained(published, preset=preset, device="cpu"))
    prompt = judge.prompts.score
    assert (prompt.keys, prompt.scale, prompt.sampling) == (keys, (0.0, 100.0), TWO_A_SECOND)
    assert ("{prompt}" in prompt.question) == bool(keys)
    (record,) = judge.score([(small.videos["red"].path, "a red circle")])
    assert record.text and record.score is None  # random weights say nothing
    with pytest.raises(InputError, match="not made to compare"):
        list(judge.compare([]))


def test_a_subfolder_may_be_given_itself_and_its_own_wording_goes_first(published, small, tmp_path):
    itself = Judge.from_pretrained(published / "vqinsight-comp", preset="vqinsight-comp", device="cpu")
    assert itself.judge_id == Judge.from_pretrained(published, preset="vqinsight-comp", device="cpu").judge_id
    shutil.copytree(published / "vqinsight-comp", tmp_path / "own")
    own = replace(PRESETS["vqinsight-comp"].prompts.compare, question="Which?")
    own.save(tmp_path / "own")
    assert JudgePrompt.load(tmp_path / "own") == own
    assert Judge.from_pretrained(tmp_path / "own", preset="vqinsight-comp", device="cpu").prompt == own
    assert Judge.from_pretrained(published / "vqinsight-comp", device="cpu").prompt == DEFAULT_PROMPT


def test_an_adapter_on_a_published_checkpoint(published, small, tmp_path):
    base = str(published / "vqinsight-comp")
    lora = LoraConfig(target_modules=["q_proj"], init_lora_weights=False, base_model_name_or_path=base)
    torch.manual_seed(0)
    get_peft_model(load_model(base), lora).save_pretrained(tmp_path / "adapter")
    pairs = [(small.videos["red"].path, small.videos["green"].path)]
    named = short(Judge.from_pretrained(tmp_path / "adapter", preset="vqinsight-comp", device="cpu"))
    given = short(Judge.from_pretrained(published, preset="vqinsight-comp", adapter=tmp_path / "adapter", device="cpu"))
    assert next(named.compare(pairs)).forward.text == next(given.compare(pairs)).forward.text


def test_unknown_presets_and_missing_weights(published, tmp_path):
    with pytest.raises(InputError, match="vqinsight-comp"):
        Judge.from_pretrained(published, preset="vq-insight")
    with pytest.raises(InputError, match="nowhere/at_all"):
        Judge.from_pretrained("nowhere/at_all", preset="vqinsight-comp")


def test_the_pixel_budget_binds(small, judge):
    encoder = judge.encoder.__class__(judge.processor, 8, max_pixels=16 * 16)
    whole = judge.encoder.__class__(judge.processor, 8)
    path = small.videos["red"].path
    assert whole.video(path).grid.tolist() == [4, 8, 8]
    assert encoder.video(path).grid.tolist() == [4, 4, 4]


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    path = tmp_path_factory.mktemp("qwen3") / "judge"
    write_qwen3(path)
    return path


@pytest.mark.skipif(Version(transformers.__version__) < Version("5.18"), reason="Qwen3-VL needs transformers 5.18")
@torch.no_grad()
def test_qwen3_answers_as_generate_does(qwen3, small):
    """Vision tokens kept and batched = the plain model with the processor's own call on one showing."""
    prompt = replace(SMALL_PROMPT, num_frames=5, max_new_tokens=8)
    judge = Judge.from_pretrained(qwen3, prompt=prompt, device="cpu")
    model = Qwen3VLForConditionalGeneration.from_pretrained(qwen3).eval()
    pairs = [
        pair(small.videos, *names, PROMPTS[i]) for i, names in enumerate((("red", "green"), ("wide", "three_frames")))
    ]
    seen = set()
    for question, comparison in zip(pairs * 2, [*judge.compare(pairs), *judge.compare(pairs)], strict=True):
        for verdict, videos in ((comparison.forward, (question.first, question.second)),
                                (comparison.backward, (question.second, question.first))):  # fmt: skip
            messages = prompt.messages(question.prompt.text, *(video.path for video in videos))
            text = judge.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            clips = [read_video(video.path, 5) for video in videos]
            metadata = [
                {"total_num_frames": 10, "fps": 8.0, "frames_indices": [round(second * 8) for second in clip.seconds]}
                for clip in clips
            ]
            frames = [torch.from_numpy(clip.frames).permute(0, 3, 1, 2) for clip in clips]
            inputs = judge.processor(
                text=[text], videos=frames, video_metadata=metadata, do_sample_frames=False, return_tensors="pt"
            )
            showing = judge.encoder.showing(messages)
            assert showing.ids == inputs["input_ids"][0].tolist()
            output = model.generate(**inputs, do_sample=False, max_new_tokens=8)
            completion = output[0, len(showing.ids) :]
            assert verdict.text == judge.tokenizer.decode(completion, skip_special_tokens=True)
            seen.add(verdict.text)
    assert len(seen) > 1


def test_a_file_that_was_written_anew_is_read_anew(small, tmp_path):
    judge = Judge.from_pretrained(small.path, prompt=SMALL_PROMPT, device="cpu")
    encoder, path = judge._encoder(SMALL_PROMPT.view), tmp_path / "out.mp4"
    seen = []
    for colour in (0, 255, 255):
        write_video(path, np.full((8, 28, 28, 3), colour, np.uint8), 8)
        seen.append(encoder.video(str(path)))
        assert encoder.video(str(path)) is seen[-1]
    assert not torch.equal(seen[0].patches, seen[1].patches) and torch.equal(seen[1].patches, seen[2].patches)
