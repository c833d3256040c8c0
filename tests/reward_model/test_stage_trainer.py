"""GRPO with a stage's rewards on a very small judge: perturbed rollouts happen, bytes resume, groups hold."""

import numpy as np
import pytest
import torch
from small_judge import SMALL_PROMPT

from reward_model.datasets import Reading, ScoredClip
from reward_model.encoding import ShowingEncoder
from reward_model.judging.sharing import SharedVision
from reward_model.perturbations import PERTURBATIONS
from reward_model.prompts import TaskPrompts
from reward_model.training import stage_trainer
from reward_model.training.config import GRPOTraining, RewardConfig
from reward_model.training.group_rewards import Rollout, reward_table
from reward_model.training.mixture import Ingredient, stage_rows
from reward_model.training.perturbed_videos import perturbed
from reward_model.training.stage_trainer import StageTrainer
from reward_model.training.trainer import run_grpo
from videoduet.store import read_json
from videoduet.video import read_video

TRAINING = GRPOTraining(steps=2, pairs_per_step=2, num_generations=4, learning_rate=1e-2, lora_rank=2, micro_batch=8,
                        checkpoint_steps=1)  # fmt: skip
PROMPTS = TaskPrompts(system="", score="{low} {high}", prompted="{prompt} ")
MARGIN = RewardConfig(temporal="margin")
MODELING = RewardConfig(temporal="modeling", length=True, l_min=1, l_max=13)
THINKER = RewardConfig(score="bell", ranking=True, temporal="consistency")
ADAPTER = "adapter/adapter_model.safetensors"


@pytest.fixture(scope="module")
def reading(small) -> Reading:
    scores = {"red": 1.0, "green": 5.0, "blue": 2.0, "three_frames": 3.0, "wide": 4.0}
    items = [ScoredClip(path=small.videos[n].path, scores={"overall": s}, prompt=n) for n, s in scores.items()]
    return Reading("clips", "all", items, (1.0, 5.0))


def train(small, reading, output, rewards, stop: int | None = None, record: list | None = None, **options) -> dict:
    beside = rewards.rows_beside(1)
    rows = stage_rows(
        [Ingredient(reading)], steps=TRAINING.steps, per_step=TRAINING.pairs_per_step - beside, scale=(1, 5),
        prompts=PROMPTS, judge_prompt=SMALL_PROMPT, seed=4, versions=rewards.severities, beside=beside,
    )  # fmt: skip

    trainers = []

    class Recorder(StageTrainer):
        def _generate_single_turn(self, prompt_ids, images, fields, *rest):
            if record is not None:
                sizes = fields["video_grid_thw"].prod(-1).tolist()
                record.append(fields["pixel_values_videos"].split(sizes))
            return super()._generate_single_turn(prompt_ids, images, fields, *rest)

    def on_step(step):
        if step == stop:
            raise KeyboardInterrupt

    def build(**arguments):
        trainers.append(Recorder(rewards=rewards, perturbation_seed=9, **arguments, **options))
        return trainers[-1]

    summary = run_grpo(
        small.path, rows, output, TRAINING, seed=4, prompt=SMALL_PROMPT, trainer_class=build,
        reward_weights=[1.0] * len(rewards.columns), counts={"items": 5}, on_step=on_step,
    )  # fmt: skip
    if not trainers:
        return summary
    shared, prefill = trainers[0].shared, trainers[0].prefill
    return {
        **summary,
        "encoded": shared.encoded if shared is not None else None,
        "read": prefill.read if prefill is not None else None,
    }


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("clip", ["red", "three_frames", "wide"])
def test_perturbing_patches_is_perturbing_frames(small, judge, name, clip):
    """Frames in another order, then patches = patches, then frames in another order."""
    encoder = ShowingEncoder(judge.encoder.processor, 8)
    video = encoder.video(small.videos[clip].path)
    frames = read_video(small.videos[clip].path, 8).frames
    frames = np.concatenate([frames, frames[-1:]]) if len(frames) % 2 else frames
    shuffled = PERTURBATIONS[name](frames, np.random.default_rng(5))
    expected = encoder.processor.video_processor(
        [torch.from_numpy(shuffled).permute(0, 3, 1, 2)], return_tensors="pt", return_metadata=False
    )
    result = perturbed(video, name, np.random.default_rng(5))
    assert torch.equal(result.patches, expected["pixel_values_videos"])
    assert torch.equal(result.grid, video.grid) and result.seconds_per_grid == video.seconds_per_grid
    assert not torch.equal(result.patches, video.patches)


@pytest.fixture(scope="module")
def undisturbed(small, reading, tmp_path_factory):
    output, record = tmp_path_factory.mktemp("stage"), []
    return output, train(small, reading, output, MODELING, record=record), record


def test_a_stage_gives_all_its_rewards(undisturbed):
    output, summary, _ = undisturbed
    assert summary["steps"] == 2 and summary["items"] == 5
    log = [row for row in read_json(output / "training.json")["log"] if "reward" in row]
    for name in ("accuracy", "format", "temporal", "length"):
        assert all(f"rewards/{name}/mean" in row for row in log)
    assert all(0 <= row["temporal/ordered"] <= 1 and 0 <= row["temporal/perturbed"] <= 1 for row in log)
    assert any(row["rewards/length/mean"] > 0 for row in log)
    assert (output / ADAPTER).exists()


def test_half_of_a_group_also_sees_shuffled_frames(undisturbed):
    _, _, record = undisturbed
    assert len(record) == 4, "ordered and shuffled rollouts, in two steps"
    for ordered, shuffled in (record[:2], record[2:]):
        assert (len(ordered), len(shuffled)) == (8, 4)
        for before, after in zip((ordered[row] for row in (0, 1, 4, 5)), shuffled, strict=True):
            assert not torch.equal(before, after)
            assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
        assert torch.equal(ordered[0], ordered[1]) and not torch.equal(shuffled[0], shuffled[1]), "each its own order"


def test_a_version_of_a_clip_is_shown_shuffled_and_rewarded(small, reading, tmp_path):
    """The rows of a version show the frames of its clip in another order, the same for the whole group."""
    record = []
    summary = train(small, reading, tmp_path, MARGIN, record=record)
    assert len(record) == 2, "one drawing a step: the version's rows are among the others"
    for shown in record:
        clip, version = shown[:4], shown[4:]
        assert len(version) == 4 and not torch.equal(clip[0], version[0])
        assert torch.equal(clip[0].flatten().sort().values, version[0].flatten().sort().values)
        assert all(torch.equal(group[0], other) for group in (clip, version) for other in group)
    assert summary["encoded"] == 2 * 2, "a version is encoded once for all its rollouts"
    log = [row for row in read_json(tmp_path / "training.json")["log"] if "reward" in row]
    assert all(0 <= row["rewards/temporal/mean"] <= 0.3 and "temporal/perturbed" in row for row in log)


def test_resumed_ends_with_the_same_bytes(small, reading, undisturbed, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(small, reading, tmp_path, MODELING, stop=2)
    train(small, reading, tmp_path, MODELING)
    assert (tmp_path / ADAPTER).read_bytes() == (undisturbed[0] / ADAPTER).read_bytes()


def test_rewards_are_worked_out_for_the_whole_batch(small, reading, tmp_path, monkeypatch):
    """Groups and videos are compared over the batch, so no process may score its own share alone."""
    seen, shares = [], []

    def table(rollouts, config, num_generations):
        columns, metrics = reward_table(rollouts, config, num_generations)
        seen.append((rollouts, columns))
        return columns, metrics

    monkeypatch.setattr(stage_trainer, "reward_table", table)
    monkeypatch.setattr(stage_trainer.RewardColumn, "__call__", lambda self, **_: shares.append(self) or self.values)
    train(small, reading, tmp_path, THINKER)
    rollouts, columns = seen[0]
    assert len(rollouts) == 8 and all(isinstance(r, Rollout) and r.perturbed is not None for r in rollouts)
    assert all(r.right == rollouts[0].right for r in rollouts[:4]) and rollouts[0].right != rollouts[4].right
    assert [column.__name__ for column in shares[:4]] == ["accuracy", "format", "ranking", "temporal"]
    assert all(len(column.values) == 8 for column in shares[:4])
    assert not np.isnan(columns["ranking"]).any()


def test_a_video_is_encoded_once_for_all_its_rollouts(small, reading, undisturbed, tmp_path):
    """The same rewards, losses and weights as where every rollout encodes its own, but for rounding."""
    whole = train(small, reading, tmp_path, MODELING, share_videos=False)
    assert whole["encoded"] is None
    assert undisturbed[1]["encoded"] == 2 * 2 + 2 * 4, "two videos a step, and each of their four shuffled versions"
    assert undisturbed[1]["read"] == 2 * 2 + 2 * 4, "and the prompts with them are read as often, not once a rollout"
    logs = [[row for row in read_json(path / "training.json")["log"] if "reward" in row]
            for path in (tmp_path, undisturbed[0])]  # fmt: skip
    for alone, shared in zip(*logs, strict=True):
        for name in ("loss", "reward", "kl"):
            assert shared[name] == pytest.approx(alone[name], abs=1e-4)


def test_a_group_shares_its_degraded_video(small, reading, tmp_path):
    summary = train(small, reading, tmp_path, THINKER)
    assert summary["encoded"] == summary["read"] == 2 * 2 + 2 * 2


def test_a_trained_vision_tower_is_not_shared():
    with pytest.raises(ValueError, match="trained"):
        SharedVision(torch.nn.Linear(2, 2))
