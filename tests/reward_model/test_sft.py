"""The supervised baseline: the same items, cross-entropy on their answers, and a judge that gives them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from miniature import write_miniature
from safetensors.torch import load_file
from small_judge import SMALL_PROMPT

from pipelines.train_reward_model import train
from reward_model.encoding import Showing
from reward_model.judging.local import Judge
from reward_model.parsing import parse_choice, read_scores
from reward_model.prompts import Prompts
from reward_model.training.config import DataConfig, GRPOTraining, JudgeTrainingConfig
from reward_model.training.sft import answer_text, run_sft
from videoduet.errors import InputError
from videoduet.store import read_json

CONFIG = GRPOTraining(method="sft", steps=3, pairs_per_step=2, learning_rate=1e-2, lora_rank=2, micro_batch=1,
                      checkpoint_steps=1)  # fmt: skip


def rows(small) -> list[dict]:
    clips = [small.videos[name].path for name in ("red", "blue", "wide", "green")]
    return [
        {
            "prompt": SMALL_PROMPT.messages("red", one, other),
            "right": json.dumps({"kind": "preference", "preferred": said}),
        }
        for one, other, said in zip(clips, clips[1:] + clips[:1], ("first", "second", "second", "first"), strict=True)
    ] * 2


def learn(small, output: Path, stop: int | None = None, **options) -> dict:
    def on_step(step):
        if step == stop:
            raise KeyboardInterrupt

    return run_sft(
        small.path, rows(small)[:6], output, replace(CONFIG, **options), seed=3, prompt=SMALL_PROMPT,
        counts={"items": 4}, kept=Prompts(SMALL_PROMPT), on_step=on_step,
    )  # fmt: skip


def test_answers_are_what_is_read():
    assert answer_text({"kind": "score", "target": 3.14159}, ("1", "2")) == "<answer>3.14</answer>"
    several = answer_text({"kind": "dimensions", "targets": {"spatial": 40.0, "temporal": 7.5}}, ("1", "2"))
    assert read_scores(several, ("spatial", "temporal"), None) == {"spatial": 40.0, "temporal": 7.5}
    second = answer_text({"kind": "preference", "preferred": "second"}, (" A", " B"))
    assert second == "<answer>B</answer>" and parse_choice(second) == "second"
    assert answer_text({"kind": "question", "options": ["yes", "no"], "preferred": "no"}, ("1", "2")).count("no") == 1


@pytest.mark.parametrize("parameters", ["lora", "all"])
def test_it_learns_the_answers_and_resumes(small, tmp_path, parameters):
    options = {"parameters": parameters, "learning_rate": 1e-2 if parameters == "lora" else 1e-3}
    summary = learn(small, tmp_path / "whole", **options)
    assert set(summary) == {"steps", "items", "loss_first", "loss_last"} and summary["steps"] == 3
    assert summary["loss_last"] < summary["loss_first"]
    assert learn(small, tmp_path / "whole", **options) == summary, "done is done"
    with pytest.raises(KeyboardInterrupt):
        learn(small, tmp_path / "stopped", stop=2, **options)
    learn(small, tmp_path / "stopped", **options)
    weights = "adapter/adapter_model.safetensors" if parameters == "lora" else "model/model.safetensors"
    assert (tmp_path / "stopped" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    assert load_file(tmp_path / "whole" / weights)


def test_its_loss_is_the_cross_entropy_of_the_answers(small, judge, tmp_path):
    """The mean over rows of what each row's answer costs a token; padding and question cost nothing."""
    learn(small, tmp_path, steps=1, micro_batch=2)
    (first,) = [row["loss"] for row in read_json(tmp_path / "training.json")["log"] if "loss" in row]
    losses = []
    for row, label in zip(rows(small)[:2], ("1", "2"), strict=True):
        said = judge.tokenizer(f"<answer>{label}</answer><|im_end|>").input_ids
        showing = judge.encoder.showing(row["prompt"])
        inputs = judge.encoder.collate([Showing(showing.ids + said, showing.videos, showing.paths)], pixels=True)
        with torch.no_grad():
            logits = judge.model(**inputs).logits[0, -len(said) - 1 : -1]
        losses.append(F.cross_entropy(logits, torch.tensor(said)).item())
    assert first == pytest.approx(sum(losses) / 2, rel=1e-3)


def test_a_stage_by_answers(small, tmp_path):
    clips = [Path(small.videos[name].path) for name in ("red", "green", "blue")]
    folder = write_miniature("lsvq", tmp_path / "lsvq", clips)
    data = [DataConfig(name="lsvq", folder=str(folder), split="train")]
    options = {"model": str(small.path), "data": data, "output": str(tmp_path / "out"), "scale": (1.0, 5.0)}
    training = replace(CONFIG, steps=1)
    with pytest.raises(InputError, match="reasoning: false"):
        JudgeTrainingConfig(**options, training=training)
    train(JudgeTrainingConfig(**options, training=training, reasoning=False))
    own = Judge.from_pretrained(tmp_path / "out" / "adapter", device="cpu").prompts.score
    assert own.scale == (1.0, 5.0) and "think" not in own.question
