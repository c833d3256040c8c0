"""What can be set about GRPO reaches the trainer: sampling, clipping, passes, epochs, rank alone."""

from dataclasses import replace

import numpy as np
import pytest
from small_judge import SMALL_PROMPT, labelled

from reward_model.training import trainer as training
from reward_model.training.config import GRPOTraining, RewardConfig
from reward_model.training.group_rewards import Rollout, reward_table
from reward_model.training.grpo import VideoGRPOTrainer
from reward_model.training.trainer import train_judge
from videoduet.errors import InputError
from videoduet.store import read_json

CONFIG = GRPOTraining(pairs_per_step=2, passes=2, num_generations=2, lora_rank=2, micro_batch=2, epochs=3,
                      temperature=0.9, top_p=0.8, top_k=50, clip=0.1, checkpoint_steps=1, learning_rate=1e-2,
                      )  # fmt: skip


def test_settings_reach_the_trainer(small, tmp_path, monkeypatch):
    """Three epochs of three pairs, four pairs an update, of which two are drawn and rewarded at once."""
    trainers, batches = [], []

    class Kept(VideoGRPOTrainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            trainers.append(self)

        def _generate_and_score_completions(self, inputs):
            batches.append((self.state.global_step, len(inputs)))
            return super()._generate_and_score_completions(inputs)

    monkeypatch.setattr(training, "VideoGRPOTrainer", Kept)
    pairs = [labelled(small.videos, *names) for names in (("red", "green", "first"), ("blue", "white", "second"),
                                                          ("wide", "yellow", "first"))]  # fmt: skip
    summary = train_judge(small.path, pairs, tmp_path, CONFIG, seed=3, prompt=SMALL_PROMPT)
    assert summary["steps"] == 3, "3 * 3 pairs by 4"
    assert batches == [(step, 4) for step in (0, 0, 1, 1, 2, 2)]
    drawn, args = trainers[0].generation_config, trainers[0].args
    assert (drawn.temperature, drawn.top_p, drawn.top_k, args.epsilon) == (0.9, 0.8, 50, 0.1)
    assert len(trainers[0].train_dataset) == 3 * 4
    assert len([row for row in read_json(tmp_path / "training.json")["log"] if "reward" in row]) == 3


def test_epochs_make_steps():
    assert replace(CONFIG, epochs=None, steps=7).for_items(1000).steps == 7
    vqinsight = GRPOTraining(epochs=3)
    assert [vqinsight.for_items(count).steps for count in (7000, 28056, 2240, 3000, 1)] == [2625, 10521, 840, 1125, 1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": -1}, "top_k is -1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"passes": 0}, "passes is 0"),
        ({"clip": 2.0}, "clip is 2.0"),
        ({"num_generations": 1}, "num_generations is 1; give 2 or more"),
    ],
)
def test_what_cannot_be_is_refused(options, says):
    with pytest.raises(InputError, match=says) as error:
        GRPOTraining(**options)
    assert error.value.exit_code == 2


def test_rank_alone():
    """Scores earn by their rank; a pair in the same batch still earns by its label."""
    config = RewardConfig(score="none", ranking=True)
    score = {"kind": "score", "dataset": "d", "scale": [1, 5]}
    rollouts = [
        Rollout({**score, "target": target}, f"<think>x</think><answer>{said}</answer>", 9)
        for target, answers in ((1.0, (1, 4)), (5.0, (5, 2)))
        for said in answers
    ]
    rollouts += [Rollout({"kind": "preference", "preferred": "first"}, f"<answer>{n}</answer>", 9) for n in (1, 2)]
    table, _ = reward_table(rollouts, config, 2)
    assert np.isnan(table["accuracy"][:4]).all() and table["accuracy"][4:].tolist() == [1.0, 0.0]
    assert table["ranking"][0] > table["ranking"][1] and table["ranking"][2] > table["ranking"][3]
    with pytest.raises(InputError, match="ranking alone"):
        replace(config, ranking=False)
