"""What the reward-learning benchmark measures with, and that its data can be read as the public data sets are."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoProcessor

from benchmarks import reward_learning, reward_learning_data
from benchmarks.reward_learning import (
    HELD_OUT,
    STATISTICS,
    accuracy,
    correlation,
    gain,
    gap_change,
    gaps,
    learn_all,
    rewards,
    thought_score,
    unread,
)
from benchmarks.reward_learning_data import cold_start, labelled, write_datasets
from reward_model.datasets import PreferenceItem, read_dataset
from reward_model.parsing import parse_choice, parse_score
from videoduet.video import read_video


def test_a_judge_that_says_the_same_of_everything_is_worth_nothing():
    truth = [1.0, -1.0, 1.0, -1.0]
    assert correlation(truth, [50.0] * 4) == 0 and correlation(truth, [4.0, 1.0, 3.0, 2.0]) == pytest.approx(
        0.894, abs=1e-3
    )
    assert accuracy(truth, [0.0] * 4) == 0.5 and accuracy(truth, [0.5, -0.2, -0.1, 0.0]) == 0.625
    assert correlation(truth, [None] * 4) == 0


def test_a_gain_is_of_the_same_items():
    rng = np.random.default_rng(0)
    truth = rng.choice([-1.0, 1.0], 200)
    guess, better = rng.choice([-1.0, 1.0], 200), truth * rng.choice([-1.0, 1.0], 200, p=[0.1, 0.9])
    before, after = {"pairs": [truth, guess]}, {"pairs": [truth, better]}
    value, low, high = gain("pairs", before, after)
    assert value == pytest.approx(accuracy(truth, better) - accuracy(truth, guess))
    assert 0 < low < value < high
    assert gain("pairs", before, before) == (0, 0, 0)


def test_the_gap_is_of_rewards():
    found = gaps({"clips": [[1.0, 9.0], [1.0, 9.0]], "shuffled": [[1.0, 9.0], [3.0, 6.0]]})
    assert found.tolist() == pytest.approx([0.2, 0.3])


def test_what_cannot_be_read_or_decided_is_told():
    outcomes = {"clips": [[1.0, 2.0, 3.0, 4.0], [1.0, None, None, 0.0]], "pairs": [[1.0, -1.0], [0.0, 0.3]]}
    assert (unread(outcomes, "clips"), unread(outcomes, "pairs")) == (0.5, 0.5)
    assert rewards([8.0, 8.0, 8.0], [8.0, None, 9000.0]).tolist() == [1, 0, 0]


def test_a_thought_names_levels():
    assert thought_score("<think>red circle black clear 9</think>") == 9
    assert thought_score("<think>red circle left fast black clear 4 steady 10</think><answer>1</answer>") == 7
    assert thought_score("<think>red</think>") is None


def test_described_lessons_teach_no_answer(tmp_path, monkeypatch):
    goals = []

    def watched(model, inputs, said):
        goals.extend(said)
        return sum(parameter.sum() for parameter in model.parameters()) * 0.0

    monkeypatch.setattr(reward_learning_data, "_next_token_loss", watched)
    described, answered = (labelled("pictures", count, count, tmp_path) for count in (4, 2))
    cold_start(described, answered, tmp_path / "judge", steps=2, seed=0, answer_share=0.5, batch_size=8)
    processor = AutoProcessor.from_pretrained(tmp_path / "judge")
    texts = processor.tokenizer.batch_decode(goals)
    whole = {f"{one.thought}{one.answer}<|im_end|>" for one in answered}
    assert set(texts) <= whole | {one.thought for one in described} and len(texts) == 16
    assert any(text in whole for text in texts) and any(text not in whole for text in texts)


def test_the_loss_is_of_the_last_tokens_alone():
    class Echo(torch.nn.Module):
        def forward(self, input_ids, use_cache):
            # Certain of the right next token, except that the one after token 3 is said to be 0.
            said = torch.where(input_ids == 3, 0, input_ids + 1)
            return SimpleNamespace(logits=50.0 * F.one_hot(said, 12).float())

    ids = {"input_ids": torch.tensor([[1, 2, 3, 4, 5, 6], [8, 3, 4, 5, 6, 7]])}
    assert reward_learning_data._next_token_loss(Echo(), ids, [[5, 6], [6, 7]]).item() == pytest.approx(0, abs=1e-6)
    assert reward_learning_data._next_token_loss(Echo(), ids, [[4, 5, 6], [6, 7]]).item() == pytest.approx(10)


def test_a_gap_that_widens():
    truth, near, far = [1.0, 9.0, 5.0], [1.2, 8.8, 5.0], [6.0, 4.0, 5.0]
    blind, sighted = (
        {"clips": [truth, near], "shuffled": [truth, near]},
        {"clips": [truth, near], "shuffled": [truth, far]},
    )
    value, low, high = gap_change(blind, sighted)
    assert value == pytest.approx(gaps(sighted).mean() - gaps(blind).mean()) and 0 <= low < value < high
    assert gap_change(sighted, sighted) == (0, 0, 0)


def test_judges_are_learned_in_order_and_told_by_seed(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(reward_learning, "learn", lambda name, seed, root: done.append((name, seed)) or {name: seed})
    with ThreadPoolExecutor(2) as pool:
        found = learn_all(2, ["stages 1 and 2", "no warm-up"], tmp_path, pool)
    assert [list(seed) for seed in found] == [["start", "stage 1", "stages 1 and 2", "no warm-up"]] * 2
    assert found[1] == {"start": {"start": 0}, **{name: {name: 1} for name in list(found[1])[1:]}}
    assert len(done) == 7 and done.index(("stage 1", 1)) < done.index(("stages 1 and 2", 1))


@pytest.mark.parametrize("arms", [["no warm-up"], ["stages 1 and 2", "no such"]])
def test_arms_are_checked_before_anything_is_done(tmp_path, arms):
    with pytest.raises(SystemExit, match="no temporal reward"):
        reward_learning.main(str(tmp_path / "new"), arms=arms)
    assert not (tmp_path / "new").exists()


def test_data_are_in_the_published_formats(tmp_path):
    write_datasets(tmp_path / "data", train=3, held_out=2)
    for kind, (name, folder) in HELD_OUT.items():
        reading = read_dataset(name, tmp_path / "data" / folder, "test")
        assert (len(reading.items), reading.missing) == (2, []), kind
    for name, folder, split in (
        ("koniq_10k", "pictures", "train"), ("lsvq", "clips", "train"), ("vision_reward_pairs", "pairs", "all")
    ):  # fmt: skip
        assert len(read_dataset(name, tmp_path / "data" / folder, split).items) == 3
    clip, shuffled = (
        read_video(read_dataset("lsvq", tmp_path / "data" / name, "test").items[0].path).frames.astype(float)
        for name in ("clips", "shuffled")
    )
    assert np.abs(clip - shuffled).mean() > 1, "other frames at each moment"
    assert np.abs(clip.mean((1, 2)).sum(0) - shuffled.mean((1, 2)).sum(0)).max() < 8, "the same frames in all"


@pytest.mark.parametrize("kind", STATISTICS)
def test_a_lesson_says_the_truth(kind, tmp_path):
    for one in labelled(kind, 2, 5, tmp_path):
        if isinstance(one.item, PreferenceItem):
            assert parse_choice(one.answer) == one.item.preferred["overall"]
        else:
            assert parse_score(one.answer) == pytest.approx(one.item.scores["overall"] / 10, abs=0.51)
