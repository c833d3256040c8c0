"""Judges that people know: asked in their own words, shown what theirs are shown, and read as they answer."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from packaging.version import Version
from published_answers_of import ANSWERS
from small_qwen3 import write_qwen3
from transformers import AutoModelForImageTextToText

from reward_model.judging.base import Answer, majority
from reward_model.judging.local import Judge
from reward_model.presets import PRESETS
from reward_model.published_answers import relative_scores
from videoduet.errors import InputError
from videoduet.video import FrameSampling, read_video

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "published_judges.json").read_text(encoding="utf-8"))
PROMPT = "a cat on a skateboard"
needs_qwen3 = pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.18"), reason="Qwen3-VL needs transformers 5.18"
)


def asked(preset: str, kind: str, prompt: str = PROMPT) -> list[dict]:
    wording = getattr(PRESETS[preset].prompts, kind)
    return wording.messages(prompt, *(["a", "b"] if kind == "compare" else ["a"]))


@pytest.mark.parametrize(
    ("preset", "kind", "golden"),
    [
        ("unifiedreward-think", "compare", "unifiedreward-think"),
        ("unifiedreward-think-qwen3", "compare", "unifiedreward-think-qwen3"),
        ("unifiedreward-2.0", "compare", "unifiedreward-2.0 compare"),
        ("unifiedreward-2.0", "score", "unifiedreward-2.0 score"),
        ("videoscore2", "score", "videoscore2"),
    ],
)
def test_videos_first_then_their_words(preset, kind, golden):
    (message,) = asked(preset, kind)
    *videos, words = message["content"]
    assert [part["video"] for part in videos] == (["a", "b"] if kind == "compare" else ["a"])
    assert words["text"] == GOLDEN[golden]["text"]


def test_q_insight_reads_the_question_before_it_sees():
    system, user = asked("q-insight", "score")
    assert system["content"] == [{"type": "text", "text": GOLDEN["q-insight system"]["text"]}]
    assert user["content"] == [{"type": "text", "text": GOLDEN["q-insight"]["text"]}, {"type": "video", "video": "a"}]
    assert PRESETS["q-insight"].subfolder == "score_degradation"


def test_every_quoted_word_has_a_source_and_a_licence():
    assert all(fact["source"] and fact["licence"].startswith(("MIT", "Apache-2.0")) for fact in GOLDEN.values())


def test_what_is_shown():
    two = FrameSampling(fps=2, min_frames=4, max_frames=768)
    as_video = {"unifiedreward-think": "compare", "videoscore2": "score"}
    for preset, kind in as_video.items():
        view = getattr(PRESETS[preset].prompts, kind).view
        assert (view.sampling, view.max_pixels, view.layout) == (two, 768 * 28 * 28, None)
    for kind in ("compare", "score"):
        view = getattr(PRESETS["unifiedreward-2.0"].prompts, kind).view
        assert (view.sampling, view.max_pixels, view.layout) == (8, None, "images")


@pytest.mark.parametrize(("preset", "kind"), ANSWERS)
def test_twenty_answers(preset, kind):
    wording = getattr(PRESETS[preset].prompts, kind)
    question = getattr(wording, kind)(PROMPT, *(["a", "b"] if kind == "compare" else ["a"]))
    answers = ANSWERS[preset, kind]
    assert len(answers) == 20 and sum(meant is None for _, meant in answers) >= 8
    for text, meant in answers:
        if isinstance(meant, tuple):
            meant = dict(zip(wording.keys, meant, strict=True))
        assert question.read(text) == meant, text


def test_scores_of_two_are_kept_apart():
    text = (
        "Alignment Score:\n Video 1: 0.4736\n Video 2: 0.5264\n\nCoherence Score:\n Video 1: 0.5981\n Video 2: 0.4019"
    )
    text += "\n\nStyle Score:\n Video 1: 0.3484\n Video 2: 0.6516"
    scores = relative_scores(text)
    assert scores == {"alignment": (0.4736, 0.5264), "coherence": (0.5981, 0.4019), "style": (0.3484, 0.6516)}
    read = PRESETS["unifiedreward-2.0"].prompts.compare.compare("", "", "").read
    assert majority([Answer(text)], read).verdict == "second" and majority([Answer(text)]).verdict is None


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    path = tmp_path_factory.mktemp("qwen3") / "judge"
    write_qwen3(path)
    return path


def short(judge: Judge) -> Judge:
    given = {kind: getattr(judge.prompts, kind) for kind in ("compare", "score")}
    cut = {kind: replace(prompt, max_new_tokens=6) for kind, prompt in given.items() if prompt is not None}
    judge.prompts = replace(judge.prompts, **cut)
    return judge


@pytest.fixture(scope="module")
def bare(small, tmp_path_factory):
    """The small Qwen2.5-VL without words of its own, as others publish theirs; at the top and in a subfolder."""
    root = tmp_path_factory.mktemp("published")
    for folder in (root / "top", root / "inside" / "score_degradation"):
        shutil.copytree(small.path, folder, ignore=shutil.ignore_patterns("*_prompt.json"))
    return root


@pytest.mark.parametrize("preset", ["unifiedreward-think", "unifiedreward-2.0", "videoscore2", "q-insight"])
def test_each_loads_and_answers(bare, small, preset):
    where = bare / ("inside" if preset == "q-insight" else "top")
    judge = short(Judge.from_pretrained(where, preset=preset, device="cpu"))
    red, green = (small.videos[name].path for name in ("red", "green"))
    if judge.prompts.compare is not None:
        (comparison,) = judge.compare([(red, green, PROMPT)])
        assert comparison.forward.text
    if judge.prompts.score is not None:
        (record,) = judge.score([(red, PROMPT)])
        assert record.text and record.score is None


@pytest.mark.parametrize("family", ["qwen2_5", pytest.param("qwen3", marks=needs_qwen3)])
@torch.no_grad()
def test_frames_as_images_are_what_the_processor_makes_of_images(bare, qwen3, small, family):
    """Answers are those of the plain model with the processor's own call on the frames as images."""
    path = qwen3 if family == "qwen3" else bare / "top"
    judge = Judge.from_pretrained(path, preset="unifiedreward-2.0", device="cpu")
    wording = replace(judge.prompts.score, num_frames=3, max_new_tokens=8, question="which {prompt}")
    judge.prompts = replace(judge.prompts, score=wording)
    model = AutoModelForImageTextToText.from_pretrained(path).eval()
    for name in ("red", "wide"):
        video = small.videos[name].path
        frames = [torch.from_numpy(frame).permute(2, 0, 1) for frame in read_video(video, 3).frames]
        text = judge.processor.apply_chat_template(
            wording.messages(PROMPT, video), tokenize=False, add_generation_prompt=True
        )
        mark = "<|vision_start|>{}<|vision_end|>".format
        text = text.replace(mark("<|video_pad|>"), mark("<|image_pad|>") * 3)
        inputs = judge.processor(text=[text], images=frames, return_tensors="pt")
        image, seen = (judge.tokenizer.convert_tokens_to_ids(f"<|{kind}_pad|>") for kind in ("image", "video"))
        showing = judge._encoder(wording.view).showing(wording.messages(PROMPT, video))
        assert showing.ids == [seen if token == image else token for token in inputs["input_ids"][0].tolist()]
        output = model.generate(**inputs, do_sample=False, max_new_tokens=8)
        (record, _) = judge.score([(video, PROMPT)] * 2)
        assert record.text == judge.tokenizer.decode(output[0, len(showing.ids) :], skip_special_tokens=True) != ""


def test_another_family_knows_no_images():
    from reward_model.families.internvl import InternVLShowingEncoder

    with pytest.raises(InputError, match="knows no layout images"):
        InternVLShowingEncoder(None, 8, layout="images")
