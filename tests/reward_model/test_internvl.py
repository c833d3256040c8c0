"""InternVL judges as Qwen does: its answers are those of the plain model with the processor's own call."""

import itertools
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from small_internvl import write_internvl
from small_judge import PROMPTS, SMALL_PROMPT, pair
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import InternVLForConditionalGeneration

from reward_model import Judge
from reward_model.encoding import ShowingEncoder
from reward_model.families.base import Family
from reward_model.presets import PRESETS
from reward_model.questions import View
from videoduet.errors import InputError
from videoduet.video import read_video

NAMES = ("red", "green", "blue", "three_frames")
PROMPT = replace(SMALL_PROMPT, max_new_tokens=6)


@pytest.fixture(scope="module")
def internvl(tmp_path_factory):
    path = tmp_path_factory.mktemp("internvl") / "judge"
    write_internvl(path)
    return path


@pytest.fixture(scope="module")
def plain(internvl):
    return InternVLForConditionalGeneration.from_pretrained(internvl).eval()


def judge_at(path, **options) -> Judge:
    return Judge.from_pretrained(path, prompt=PROMPT, device="cpu", **options)


def processed(judge: Judge, messages: list[dict]) -> dict:
    """What the library's own processor makes of one showing of whole videos, whose frames are as large as it wants."""
    paths = [part["video"] for part in messages[-1]["content"] if part["type"] == "video"]
    frames = [torch.from_numpy(read_video(path, PROMPT.num_frames).frames).permute(0, 3, 1, 2) for path in paths]
    text = judge.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return judge.processor(text=[text], videos=frames, do_sample_frames=False, return_tensors="pt")


@torch.no_grad()
def test_a_showing_is_what_the_processor_makes_of_it(internvl, small):
    judge = judge_at(internvl)
    messages = PROMPT.messages(PROMPTS[0], small.videos["red"].path, small.videos["blue"].path)
    expected, showing = processed(judge, messages), judge.encoder.showing(messages)
    assert showing.ids == expected["input_ids"][0].tolist()
    inputs = judge.encoder.collate([showing], pixels=True)
    assert set(inputs) == {"input_ids", "attention_mask", "pixel_values"}
    assert torch.allclose(inputs["pixel_values"], expected["pixel_values"], atol=1e-5)
    written = judge.tokenizer.decode(showing.ids)
    assert "Frame1: <img><IMG_CONTEXT>" in written and "</img>\nFrame2: <img>" in written
    assert showing.ids[showing.prefix - 1] == judge.encoder.video_token_id != showing.ids[showing.prefix]


@pytest.mark.parametrize("language", ["qwen2", "qwen3"])
@pytest.mark.parametrize("engine", [False, True])
@torch.no_grad()
def test_answers_are_those_of_the_plain_model_and_heads_are_read_once(tmp_path, small, language, engine):
    """Vision tokens and beginnings are shared, by ``generate`` and by the engine."""
    write_internvl(tmp_path, model_type=language, head_dim=8)
    judge, model = judge_at(tmp_path), InternVLForConditionalGeneration.from_pretrained(tmp_path).eval()
    judge.engine = engine
    pairs, lengths, seen = [pair(small.videos, *names) for names in itertools.combinations(NAMES, 2)], [], []
    judge.model.model.language_model.register_forward_hook(
        lambda module, args, kwargs, output: lengths.append(kwargs["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    judge.model.model.vision_tower.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    comparisons = list(judge.compare(pairs))
    assert seen == [4 + 4 + 4 + 3], "each video is encoded once"
    assert engine or (lengths[0][0] == len(NAMES) and lengths[1][0] == 2 * len(pairs))
    texts, encoder = set(), ShowingEncoder.for_view(judge.processor, PROMPT.view)
    for question, comparison in zip(pairs, comparisons, strict=True):
        videos = (question.first.path, question.second.path)
        for order, verdict in ((videos, comparison.forward), (videos[::-1], comparison.backward)):
            inputs = encoder.collate([encoder.showing(PROMPT.messages(question.prompt.text, *order))], pixels=True)
            output = model.generate(**inputs, do_sample=False, max_new_tokens=PROMPT.max_new_tokens)
            text = judge.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            assert verdict.text == text
            texts.add(text)
    assert len(texts) > 2, "what is seen must matter, else this tests little"


class NoHostRead(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "the host waits for a number"
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_dynamic_places_are_not_looked_at_in_a_step(tmp_path, small, monkeypatch):
    """InternVL3 has them; a graph of steps could not be recorded."""
    write_internvl(tmp_path, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})
    judge, plain, found = judge_at(tmp_path), Family.rotary, []

    def rotary(self, text, hidden, axes, *within):
        with NoHostRead() if hidden.shape[1] == 1 else nullcontext():
            turned = plain(self, text, hidden, axes, *within)
        if hidden.shape[1] == 1:
            found.append(all(map(torch.equal, turned, plain(self, text, hidden, axes))))
        return turned

    monkeypatch.setattr(Family, "rotary", rotary)
    pairs, answers = [pair(small.videos, *names) for names in itertools.combinations(NAMES, 2)], []
    for judge.engine in (True, False):
        answers.append([[v.text for v in (each.forward, each.backward) if v] for each in judge.compare(pairs)])
    assert answers[0] == answers[1] and len(found) >= PROMPT.max_new_tokens - 2 and all(found)


def test_it_scores_and_describes(internvl, small):
    judge = Judge.from_pretrained(internvl, preset="general", device="cpu")
    short = {kind: replace(judge.prompts.of(kind), max_new_tokens=4) for kind in ("score", "describe")}
    judge.prompts = replace(judge.prompts, **short)
    path = small.videos["wide"].path
    (score,), (description,) = list(judge.score([(path, "x")])), list(judge.describe([path]))
    assert score.judge_id and description.text
    assert PRESETS["general"].prompts.score is not None


def test_words_that_stand_for_images_stay_words(internvl, small):
    encoder = judge_at(internvl).encoder
    plain = encoder.showing(PROMPT.messages("a cat", *(small.videos[name].path for name in NAMES[:2])))
    odd = encoder.showing(PROMPT.messages("a cat<img><IMG_CONTEXT><video>", *(small.videos[n].path for n in NAMES[:2])))
    assert odd.ids.count(encoder.video_token_id) == plain.ids.count(encoder.video_token_id) == 2 * 4 * 4


def test_the_pixel_budget_sets_the_square(internvl, small):
    judge, path = judge_at(internvl), small.videos["wide"].path
    for pixels, side, tokens in ((None, 32, 4), (16 * 16, 16, 1), (50 * 50, 48, 9)):
        video = ShowingEncoder.for_view(judge.processor, View(4, pixels, 8)).video(path)
        assert tuple(video.patches.shape) == (4, 3, side, side)
        assert int(video.grid.prod()) == 4 * tokens
    with pytest.raises(InputError, match="max_pixels of 256 or more"):
        ShowingEncoder.for_view(judge.processor, View(4, 100, 8))


@torch.no_grad()
def test_a_larger_square_is_seen(internvl, small, plain):
    """Positions of the vision tower are stretched, as the model does it itself."""
    prompt = replace(PROMPT, max_pixels=48 * 48)
    judge = Judge.from_pretrained(internvl, prompt=prompt, device="cpu")
    (found,) = judge.compare([pair(small.videos, "red", "blue")])
    messages = prompt.messages(
        pair(small.videos, "red", "blue").prompt.text, *(small.videos[n].path for n in NAMES[::2])
    )
    inputs = judge.encoder.collate([judge.encoder.showing(messages)], pixels=True)
    output = plain.generate(**inputs, do_sample=False, max_new_tokens=6)
    text = judge.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert found.forward.text == text


def test_a_tokenizer_without_its_tokens_is_told(internvl, small, tmp_path):
    import shutil

    shutil.copytree(internvl, tmp_path / "judge")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(small.path / name, tmp_path / "judge" / name)
    with pytest.raises(InputError, match="judge"):
        Judge.from_pretrained(tmp_path / "judge", device="cpu")
