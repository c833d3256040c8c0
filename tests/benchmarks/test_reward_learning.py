"""What the reward-learning benchmark measures with, and that its data can be read as the public data sets are."""

import numpy as np
import pytest

from benchmarks.reward_learning import HELD_OUT, STATISTICS, accuracy, correlation, gain, gap, gap_change
from benchmarks.reward_learning_data import labelled, write_datasets
from reward_model.datasets import PreferenceItem, read_dataset
from reward_model.parsing import parse_choice, parse_score
from videoduet.video import read_video


def test_a_judge_that_says_the_same_of_everything_is_worth_nothing():
    truth = [1.0, -1.0, 1.0, -1.0]
    assert correlation(truth, [50.0] * 4) == 0 and correlation(truth, [4.0, 1.0, 3.0, 2.0]) == pytest.approx(
        0.894, abs=1e-3
    )
    assert accuracy(truth, [0.0] * 4) == 0 and accuracy(truth, [0.5, -0.2, -0.1, 0.0]) == 0.5


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
    assert gap({"clips": [[1.0, 9.0], [1.0, 9.0]], "shuffled": [[1.0, 9.0], [3.0, 6.0]]}) == pytest.approx(0.25)


def test_a_gap_that_widens():
    truth, near, far = [1.0, 9.0, 5.0], [1.2, 8.8, 5.0], [6.0, 4.0, 5.0]
    blind, sighted = (
        {"clips": [truth, near], "shuffled": [truth, near]},
        {"clips": [truth, near], "shuffled": [truth, far]},
    )
    value, low, high = gap_change(blind, sighted)
    assert value == pytest.approx(gap(sighted) - gap(blind)) and 0 <= low < value < high
    assert gap_change(sighted, sighted) == (0, 0, 0)


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
