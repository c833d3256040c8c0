"""GRPO on real mp4 pairs: runs, resumes byte for byte, goes on from an adapter against the judge before GRPO."""

import shutil
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from small_judge import SMALL_PROMPT, labelled
from transformers import Qwen2_5_VLForConditionalGeneration

from reward_model.judging.local import Judge, load_model
from reward_model.training import trainer as training
from reward_model.training.config import GRPOTraining
from reward_model.training.grpo import VideoGRPOTrainer
from reward_model.training.trainer import COMPLETE, accuracy_reward, showings, tags_reward, train_judge
from videoduet.store import read_json

CONFIG = GRPOTraining(steps=3, pairs_per_step=2, num_generations=4, learning_rate=1e-2, lora_rank=2, micro_batch=4,
                      checkpoint_steps=1)  # fmt: skip
SEED = 5
ADAPTER = "adapter/adapter_model.safetensors"


class Stop(Exception):
    """What a user's Ctrl-C or a crash would be."""


@pytest.fixture(scope="module")
def pairs(small):
    return [
        labelled(small.videos, *names, preferred, prompt)
        for *names, preferred, prompt in (
            ("red", "green", "first", "a red circle"),
            ("blue", "white", "second", ""),
            ("wide", "yellow", "first", "a {hostile} <b>prompt</b>"),
            ("three_frames", "red", "second", "a red circle"),
            ("white", "green", "first", "a white circle moving left"),
        )
    ]


@pytest.fixture(scope="module")
def undisturbed(small, pairs, tmp_path_factory):
    output, steps = tmp_path_factory.mktemp("undisturbed"), []
    summary = train_judge(small.path, pairs, output, CONFIG, seed=SEED, on_step=steps.append)
    return output, summary, steps


def test_a_run_leaves_an_adapter_and_a_summary(small, undisturbed):
    output, summary, steps = undisturbed
    assert steps == [1, 2, 3]
    assert set(summary) == {"steps", "pairs", "reward_first", "reward_last"}
    assert (summary["steps"], summary["pairs"]) == (3, 5)
    assert 0 <= summary["reward_first"] <= 1.2
    assert sorted(path.name for path in output.iterdir()) == ["adapter", "training.json"]
    log = [row for row in read_json(output / "training.json")["log"] if "reward" in row]
    assert [row["step"] for row in log] == [1, 2, 3]
    assert any(row["reward_std"] > 0 for row in log), "groups without contrast teach nothing"
    weights = load_file(output / ADAPTER)
    assert all(weights[name].abs().max() > 0 for name in weights if "lora_B" in name)
    assert not any("visual" in name for name in weights)


def test_plain_peft_loads_the_adapter(small, undisturbed):
    output, _, _ = undisturbed
    base = Qwen2_5_VLForConditionalGeneration.from_pretrained(small.path)
    plain = PeftModel.from_pretrained(base, str(output / "adapter")).merge_and_unload()
    ours = load_model(output / "adapter")
    assert all(torch.equal(one, other) for one, other in zip(plain.parameters(), ours.parameters(), strict=True))
    assert Judge.from_pretrained(output / "adapter", device="cpu").prompt == SMALL_PROMPT


def test_resumed_ends_with_the_same_bytes(small, pairs, undisturbed, tmp_path):
    def stop_at_two(step):
        if step == 2:
            raise Stop

    with pytest.raises(Stop):
        train_judge(small.path, pairs, tmp_path, CONFIG, seed=SEED, on_step=stop_at_two)
    checkpoints = tmp_path / "checkpoints"
    assert not (tmp_path / "adapter").exists()
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == ["checkpoint-1"]
    # A later checkpoint that was torn while it was written: without its mark it must not be used.
    shutil.copytree(checkpoints / "checkpoint-1", checkpoints / "checkpoint-2")
    (checkpoints / "checkpoint-2" / COMPLETE).unlink()
    (checkpoints / "checkpoint-2" / "trainer_state.json").write_text("{")
    steps = []
    summary = train_judge(small.path, pairs, tmp_path, CONFIG, seed=SEED, on_step=steps.append)
    assert steps == [2, 3]
    output, expected, _ = undisturbed
    assert summary == expected
    assert (tmp_path / ADAPTER).read_bytes() == (output / ADAPTER).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "training.json"]


@pytest.mark.parametrize("stop", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_resumed_in_a_later_round_through_the_pairs(small, pairs, tmp_path, stop):
    """Two steps see four of the five pairs: the third begins the next round, in its own order."""
    config = replace(CONFIG, steps=5)
    train_judge(small.path, pairs, tmp_path / "whole", config, seed=SEED)

    def stop_there(step):
        if step == stop:
            raise Stop

    with pytest.raises(Stop):
        train_judge(small.path, pairs, tmp_path / "stopped", config, seed=SEED, on_step=stop_there)
    train_judge(small.path, pairs, tmp_path / "stopped", config, seed=SEED)
    assert (tmp_path / "stopped" / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()


def test_what_happened_before_does_not_matter(small, pairs, undisturbed, tmp_path):
    """Resumed after a kill, other random numbers were drawn before."""
    torch.rand(7)
    train_judge(small.path, pairs, tmp_path, CONFIG, seed=SEED)
    assert (tmp_path / ADAPTER).read_bytes() == (undisturbed[0] / ADAPTER).read_bytes()


def test_videos_and_prompts_are_read_once_for_all_rollouts(small, pairs, tmp_path, monkeypatch):
    trainers = []

    class Kept(VideoGRPOTrainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            trainers.append(self)

    monkeypatch.setattr(training, "VideoGRPOTrainer", Kept)
    train_judge(small.path, pairs, tmp_path, replace(CONFIG, steps=2), seed=SEED)
    (trainer,) = trainers
    assert trainer.prefill.read == 2 * 2, "two pairs a step"
    assert 5 <= trainer.shared.encoded <= 2 * 2 * 2, "each video that is shown, once"


def test_only_whole_checkpoints_count(tmp_path):
    for step, whole in ((2, True), (10, True), (9, True), (12, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            (tmp_path / f"checkpoint-{step}" / COMPLETE).touch()
    assert training._last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert not (tmp_path / "checkpoint-12").exists()
    assert training._last_checkpoint(tmp_path / "nothing") is None


def test_another_seed_ends_elsewhere(small, pairs, undisturbed, tmp_path):
    """Else the equality of bytes above would say little."""
    train_judge(small.path, pairs, tmp_path, replace(CONFIG, checkpoint_steps=10), seed=SEED + 1)
    assert (tmp_path / ADAPTER).read_bytes() != (undisturbed[0] / ADAPTER).read_bytes()


def test_an_adapter_goes_on_and_the_base_is_the_reference(small, pairs, undisturbed, tmp_path, monkeypatch):
    seen = []

    class Recorder(VideoGRPOTrainer):
        def _compute_loss(self, model, inputs):
            ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
            mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
            loss = super()._compute_loss(model, inputs)
            length = inputs["completion_ids"].size(1)
            policy = self._get_per_token_logps_and_entropies(model, ids, mask, length)[0]
            base = plain(ids, mask, inputs["videos"])[:, -length - 1 : -1].log_softmax(-1)
            base = base.gather(2, inputs["completion_ids"][..., None])[..., 0]
            kept = inputs["completion_mask"].bool()
            seen.append((policy[kept].detach(), inputs["ref_per_token_logps"][kept], base[kept]))
            return loss

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(small.path).eval()

    @torch.no_grad()
    def plain(ids, mask, videos):
        flat = [video for row in videos for video in row]
        return model(
            input_ids=ids, attention_mask=mask, mm_token_type_ids=2 * (ids == model.config.video_token_id).int(),
            pixel_values_videos=torch.cat([video.patches for video in flat]),
            video_grid_thw=torch.stack([video.grid for video in flat]),
            second_per_grid_ts=torch.tensor([video.seconds_per_grid for video in flat]),
        ).logits  # fmt: skip

    monkeypatch.setattr(training, "VideoGRPOTrainer", Recorder)
    before = undisturbed[0] / "adapter"
    still = replace(CONFIG, steps=1, learning_rate=0.0)
    train_judge(small.path, pairs, tmp_path, still, seed=SEED, adapter=before)
    kept, start = load_file(tmp_path / ADAPTER), load_file(before / "adapter_model.safetensors")
    assert set(kept) == set(start)
    assert all(torch.equal(kept[name], start[name]) for name in start)
    assert len(seen) == 2
    for policy, reference, base in seen:
        assert torch.allclose(reference, base, atol=1e-5, rtol=0)
        assert (policy - base).abs().max() > 1e-2


def test_a_peft_directory_can_be_trained_on(small, pairs, undisturbed, tmp_path):
    """The new adapter names that directory as its base, so that what was learned there is not lost."""
    before = undisturbed[0] / "adapter"
    train_judge(before, pairs, tmp_path, replace(CONFIG, steps=1, learning_rate=0.0), seed=SEED)
    # Nothing was learned on top, so the judge is the one before.
    one, other = load_model(before), load_model(tmp_path / "adapter")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert Judge.from_pretrained(tmp_path / "adapter", device="cpu").prompt == SMALL_PROMPT


def test_showings_are_balanced_and_labels_follow(small):
    pairs = [labelled(small.videos, "red", "green", "first" if index % 3 else "second") for index in range(600)]
    red, green = pairs[0].first.path, pairs[0].second.path
    rows = showings(pairs, SMALL_PROMPT, seed=1, count=1500)
    shown = [[part["video"] for part in row["prompt"][-1]["content"] if part["type"] == "video"] for row in rows]
    assert len(rows) == 1500 and all(sorted(paths) == sorted([red, green]) for paths in shown)
    better = [paths[{"first": 0, "second": 1}[row["preferred"]]] for paths, row in zip(shown, rows, strict=True)]
    for visit in (better[:600], better[600:1200]):
        assert visit.count(red) == 400, "a visit shows every pair once"
    assert better[:600] != better[600:1200]
    assert 650 < sum(paths[0] == green for paths in shown) < 850
    assert (
        rows == showings(pairs, SMALL_PROMPT, seed=1, count=1500) != showings(pairs, SMALL_PROMPT, seed=2, count=1500)
    )
    assert rows[:700] == showings(pairs, SMALL_PROMPT, seed=1, count=700)


def test_rewards_read_completions():
    completions = [
        [{"role": "assistant", "content": text}]
        for text in ("<think>x</think><answer>1</answer>", "<think>x</think><answer>Video 2</answer>", "1", "no idea")
    ]
    assert accuracy_reward(completions, preferred=["first"] * 4, other_column=[1] * 4) == [1.0, 0.0, 1.0, 0.0]
    assert accuracy_reward(completions, preferred=["second"] * 4) == [0.0, 1.0, 0.0, 0.0]
    assert tags_reward(completions) == [1.0, 1.0, 0.0, 0.0]
