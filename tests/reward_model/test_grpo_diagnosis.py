"""What a judge's training did not learn is said, and a step holds as many rollouts as was asked for."""

from types import SimpleNamespace

import pytest
from small_judge import labelled

from reward_model.training import trainer as training
from reward_model.training.config import GRPOTraining
from reward_model.training.diagnosis import diagnose
from reward_model.training.trainer import train_judge
from videoduet.errors import InputError
from videoduet.store import read_json

CUT, EQUAL, GRADIENT = "completions/clipped_ratio", "frac_reward_zero_std", "grad_norm"


def test_a_training_that_learns_is_not_spoken_of():
    log = [{CUT: 0.1, EQUAL: 0.5, GRADIENT: 0.3}, {CUT: 0.0, EQUAL: 1.0, GRADIENT: 0.0}, {"train_loss": 0.1}]
    assert diagnose(log, 512) == [] == diagnose([], 512)


def test_each_thing_is_said_with_its_share_and_its_mend():
    (cut,) = diagnose([{CUT: 0.2}, {CUT: 0.6}], 512)
    assert "40% of the answers were cut at 512 tokens" in cut and "raise max_new_tokens" in cut
    (equal,) = diagnose([{EQUAL: 1.0}, {EQUAL: 0.9}], 512)
    assert "95% of the groups" in equal and "hard_pairs" in equal
    (nothing,) = diagnose([{GRADIENT: 0.0}, {GRADIENT: 0.0}], 512)
    assert "learned nothing" in nothing and "all 2 steps" in nothing


def test_answers_that_are_all_cut(small, tmp_path, monkeypatch):
    prompt = training.JudgePrompt.load(small.path)
    monkeypatch.setattr(training.JudgePrompt, "load", lambda _: training.JudgePrompt(**vars(prompt) | LENGTH))
    config = GRPOTraining(steps=2, pairs_per_step=1, num_generations=2, lora_rank=2)
    pairs = [labelled(small.videos, "red", "green", "first")]
    summary = train_judge(small.path, pairs, tmp_path, config, seed=0)
    first, *_, last = summary["notes"]
    assert "100% of the answers were cut at 2 tokens" in first and "learned nothing" in last
    assert read_json(tmp_path / "training.json")["notes"] == summary["notes"]
    assert train_judge(small.path, pairs, tmp_path, config, seed=0)["notes"] == summary["notes"], "done is done"


LENGTH = {"max_new_tokens": 2}


def launched(held: int, steps: int, deepspeed: dict | None) -> SimpleNamespace:
    plugin = None if deepspeed is None else SimpleNamespace(deepspeed_config=deepspeed)
    return SimpleNamespace(
        args=SimpleNamespace(gradient_accumulation_steps=steps),
        get_total_train_batch_size=lambda _: held,
        accelerator=SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin)),
    )


@pytest.mark.parametrize(
    "deepspeed", [None, {}, {"gradient_accumulation_steps": "auto"}, {"gradient_accumulation_steps": 4}]
)
def test_a_step_that_is_whole(deepspeed):
    training._check_batch(launched(64, 4, deepspeed), 64)


@pytest.mark.parametrize(("held", "deepspeed"), [(128, None), (64, {"gradient_accumulation_steps": 1})])
def test_a_step_that_the_launcher_changes(held, deepspeed):
    with pytest.raises(InputError, match="instead of 64"):
        training._check_batch(launched(held, 4, deepspeed), 64)
