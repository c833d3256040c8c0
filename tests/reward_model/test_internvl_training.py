"""GRPO and SFT of InternVL: log-probabilities are those of a direct forward, and what was stopped ends the same."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_internvl import write_internvl
from small_judge import PROMPTS, SMALL_PROMPT, labelled
from transformers import InternVLForConditionalGeneration

from reward_model import Judge
from reward_model.judging.loading import load_model, load_processor
from reward_model.prompts import Prompts
from reward_model.training import trainer as training
from reward_model.training.config import GRPOTraining
from reward_model.training.grpo import VideoGRPOTrainer
from reward_model.training.perturbed_videos import perturbed
from reward_model.training.policy import policy_of
from reward_model.training.sft import run_sft
from reward_model.training.trainer import build_trainer, train_judge
from videoduet.config import resolve
from videoduet.errors import InputError

PROMPT = replace(SMALL_PROMPT, max_new_tokens=5)
CONFIG = GRPOTraining(
    steps=2, pairs_per_step=2, num_generations=4, learning_rate=1e-2, lora_rank=2, micro_batch=4, checkpoint_steps=1,
    kl_weight=0.1,
)  # fmt: skip
ADAPTER = "adapter/adapter_model.safetensors"
CLIPS = (("red", "blue"), ("three_frames", "wide"), ("green", "single_frame"))


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def internvl(tmp_path_factory):
    path = tmp_path_factory.mktemp("internvl") / "judge"
    write_internvl(path)
    PROMPT.save(path)
    return path


@pytest.fixture(scope="module")
def pairs(small):
    return [labelled(small.videos, *names, "first") for names in CLIPS]


def letters(completions: list, **_) -> list[float]:
    """Something that differs between completions."""
    return [sum(map(ord, completion[0]["content"])) % 7 for completion in completions]


def trainer_on(path, small, directory, config: GRPOTraining = CONFIG, shared: bool = True) -> VideoGRPOTrainer:
    rows = [
        {"prompt": PROMPT.messages(text, small.videos[a].path, small.videos[b].path)}
        for text, (a, b) in zip(PROMPTS, CLIPS, strict=True)
    ]
    return build_trainer(
        policy_of(load_model(path), path, config, "cpu"), load_processor(path), rows, directory, config, seed=3,
        prompt=PROMPT, trainer_class=partial(VideoGRPOTrainer, reward_funcs=[letters], share_videos=shared),
        reward_weights=[1.0],
    )  # fmt: skip


def log_probabilities(trainer: VideoGRPOTrainer, rows: list[dict], completions: list[list[int]]) -> list[torch.Tensor]:
    """What the trainer works out of several completions in one padded batch."""
    ids, _, _ = trainer._tokenize_prompts([row["prompt"] for row in rows])
    pad, longest, kept = trainer.processing_class.tokenizer.pad_token_id, max(map(len, ids)), max(map(len, completions))
    whole, mask = [], []
    for prompt, said in zip(ids, completions, strict=True):
        before, after = longest - len(prompt), kept - len(said)
        whole.append([pad] * before + prompt + said + [pad] * after)
        mask.append([0] * before + [1] * (len(prompt) + len(said)) + [0] * after)
    found = trainer._get_per_token_logps_and_entropies(trainer.model, torch.tensor(whole), torch.tensor(mask), kept)[0]
    return [row[: len(said)] for row, said in zip(found, completions, strict=True)]


@torch.no_grad()
@pytest.mark.parametrize("shared", [True, False])
def test_log_probabilities_are_those_of_a_direct_forward(internvl, small, tmp_path, shared):
    """Ragged prompts and answers, a group of two, different numbers of frames; with prompts packed and without."""
    trainer = trainer_on(internvl, small, tmp_path, shared=shared)
    model = InternVLForConditionalGeneration.from_pretrained(internvl).eval()
    tokenizer = trainer.processing_class.tokenizer
    rows = [trainer.train_dataset[index] for index in (0, 0, 1, 2)]
    completions = [tokenizer(text).input_ids for text in ("1 2 first", "second", "is better 1", "red circle 2")]
    found = log_probabilities(trainer, rows, completions)
    for row, said, logps in zip(rows, completions, found, strict=True):
        showing = trainer.encoder.showing(row["prompt"])
        inputs = trainer.encoder.collate([replace(showing, ids=showing.ids + said)], pixels=True)
        logits = model(**inputs).logits[0, len(showing.ids) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(said)[:, None])[:, 0]
        assert torch.allclose(logps, expected, atol=1e-5, rtol=0)
    one_by_one = [log_probabilities(trainer, [row], [said])[0] for row, said in zip(rows, completions, strict=True)]
    for together, alone in zip(found, one_by_one, strict=True):
        assert torch.allclose(together, alone, atol=1e-5, rtol=0)
    if shared:
        assert trainer.shared is not None and trainer.shared.encoded == 6, "each video once"


@torch.no_grad()
def test_the_order_of_frames_changes_log_probabilities(internvl, small, tmp_path):
    trainer = trainer_on(internvl, small, tmp_path)
    said = trainer.processing_class.tokenizer("1 2").input_ids
    rows, shown = [trainer.train_dataset[0]], trainer._showings
    plain = log_probabilities(trainer, rows, [said])[0]
    rng = np.random.default_rng(0)

    def shuffled(prompts: list) -> list:
        return [
            replace(each, videos=[perturbed(video, "global_shuffle", rng) for video in each.videos])
            for each in shown(prompts)
        ]

    trainer._showings = shuffled
    changed = log_probabilities(trainer, rows, [said])[0]
    assert (plain - changed).abs().max() > 1e-4


@pytest.fixture(autouse=True, scope="module")
def _a_reward_that_random_weights_earn():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "tags_reward", letters)
        yield


@pytest.fixture(scope="module")
def undisturbed(internvl, pairs, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed")
    return output, train_judge(internvl, pairs, output, CONFIG, seed=5)


def test_it_is_trained_by_rewards_and_resumed_ends_with_the_same_bytes(internvl, pairs, undisturbed, tmp_path, small):
    def stop_at_two(step: int) -> None:
        if step == 2:
            raise Stop

    with pytest.raises(Stop):
        train_judge(internvl, pairs, tmp_path, CONFIG, seed=5, on_step=stop_at_two)
    assert train_judge(internvl, pairs, tmp_path, CONFIG, seed=5) == undisturbed[1]
    learned = load_file(tmp_path / ADAPTER)
    assert (tmp_path / ADAPTER).read_bytes() == (undisturbed[0] / ADAPTER).read_bytes()
    assert all(value.abs().max() > 0 for value in learned.values()), "something is learned"
    assert all("language_model" in name for name in learned)
    judge = Judge.from_pretrained(tmp_path / "adapter", device="cpu")
    assert judge.prompt == PROMPT
    assert list(judge.compare([(small.videos["red"].path, small.videos["blue"].path)]))


def test_the_eyes_learn_where_they_are_asked_to(internvl, pairs, tmp_path):
    config = replace(CONFIG, steps=1, vision="lora")
    train_judge(internvl, pairs, tmp_path / "lora", config, seed=5)
    names = load_file(tmp_path / "lora" / ADAPTER)
    assert any("vision_tower.encoder" in name for name in names) and any("multi_modal_projector" in n for n in names)
    before = load_model(internvl).state_dict()
    for vision in ("frozen", "all"):
        # The first step of the warm-up moves nothing.
        config = replace(CONFIG, parameters="all", vision=vision, kl_weight=0.0)
        train_judge(internvl, pairs, tmp_path / vision, config, seed=5)
        after = load_model(tmp_path / vision / "model").state_dict()
        moved = {name.split(".")[1] for name, value in before.items() if not torch.equal(value, after[name])}
        assert "language_model" in moved
        assert ("vision_tower" in moved, "multi_modal_projector" in moved) == (vision == "all", vision == "all")


def test_it_learns_right_answers(internvl, small, tmp_path):
    rows = [
        {
            "prompt": PROMPT.messages("red", small.videos[one].path, small.videos[other].path),
            "right": json.dumps({"kind": "preference", "preferred": "second"}),
        }
        for one, other in CLIPS[:2]
    ] * 6
    config = replace(CONFIG, method="sft", steps=6, micro_batch=2)
    summary = run_sft(
        internvl, rows, tmp_path, config, seed=3, prompt=PROMPT, counts={"items": 2}, kept=Prompts(PROMPT)
    )
    assert summary["loss_last"] < summary["loss_first"]


@pytest.mark.parametrize("family", ["internvl", "qwen"])
def test_all_weights_go_on_from_where_they_were(internvl, small, family, tmp_path):
    """A checkpoint has the model's own names, whatever those of the files are that it was loaded from: the library
    reads no others, and would go on from the start's weights.
    """
    start = internvl
    if family == "qwen":
        model = load_model(small.path)
        model._weight_conversions = load_model(resolve("shapes_world/models/judge"))._weight_conversions
        model.save_pretrained(start := tmp_path / "start")
        load_processor(small.path).save_pretrained(start)
    rows = [
        {
            "prompt": PROMPT.messages("red", small.videos["red"].path, small.videos["blue"].path),
            "right": json.dumps({"kind": "preference", "preferred": "second"}),
        }
    ] * 6
    config = replace(CONFIG, method="sft", parameters="all", vision="all", steps=3, micro_batch=2, learning_rate=1e-3)

    def learn(output: Path, stop: int | None = None) -> bytes:
        def on_step(step: int) -> None:
            if step == stop:
                raise Stop

        run_sft(
            start,
            rows,
            output,
            config,
            seed=3,
            prompt=PROMPT,
            counts={"items": 2},
            kept=Prompts(PROMPT),
            on_step=on_step,
        )
        return (output / "model" / "model.safetensors").read_bytes()

    whole = learn(tmp_path / "whole")
    assert (
        load_file(tmp_path / "whole" / "model" / "model.safetensors").keys()
        == load_file(start / "model.safetensors").keys()
    ), "what is left has the names of the files that it came from"
    with pytest.raises(Stop):
        learn(tmp_path / "stopped", stop=3)
    assert learn(tmp_path / "stopped") == whole
    with pytest.raises(Stop):
        learn(tmp_path / "older", stop=3)
    kept = tmp_path / "older" / "checkpoints" / "checkpoint-2" / "model.safetensors"
    save_file(load_file(start / "model.safetensors"), kept, metadata={"format": "pt"})
    with pytest.raises(InputError, match="under another name"):
        learn(tmp_path / "older")
