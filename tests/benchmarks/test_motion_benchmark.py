"""What the benchmark of the motion token measures with, and that one arm of it runs."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import motion
from benchmarks.motion import difference, encoder, learn, of, start
from benchmarks.motion_data import probed, write_clips
from reward_model.datasets import read_dataset
from reward_model.judging.loading import load_model
from reward_model.motion import SlowFast
from shapes_world.build_slowfast import random_slowfast
from videoduet.config import resolve


def outcome(truth: np.ndarray, noise: float, seed: int) -> dict:
    said = truth + np.random.default_rng(seed).normal(0, noise, len(truth))
    return {"truth": truth.tolist(), "said": said.tolist()}


def test_a_difference_is_of_the_same_clips():
    truth = np.random.default_rng(0).uniform(0, 10, 80)
    better, worse = outcome(truth, 1, 1), outcome(truth, 20, 2)
    value, low, high = difference(better, worse)
    assert value == pytest.approx(of(better)[0] - of(worse)[0]) and 0 < low < value < high
    assert difference(worse, worse) == (0, 0, 0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion") / "clips"
    write_clips(folder, train=12, held_out=6)
    return folder


def test_clips_are_read_as_lsvqs(clips):
    train, test = (read_dataset("lsvq", str(clips), split).items for split in ("train", "test"))
    assert (len(train), len(test)) == (12, 6)
    scores = [item.scores["overall"] for item in train]
    assert 0 <= min(scores) < max(scores) <= 100 and np.mean(np.array(scores) == 100) < 0.7


def test_a_probe_reads_what_features_hold(clips):
    assert -1 <= probed(random_slowfast(0), clips) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("arm", motion.ARMS)
def test_an_arm_learns_and_is_measured(clips, arm, tmp_path, monkeypatch):
    monkeypatch.setattr(motion, "LAST", replace(motion.LAST, steps=1, pairs_per_step=2, checkpoint_steps=1))
    (tmp_path / "clips").symlink_to(clips)
    found = learn(arm, 0, tmp_path)
    assert len(found["truth"]) == len(found["said"]) == 6 and len(set(found["said"])) > 1
    assert all(0 <= level <= 10 for level in found["said"])
    assert learn(arm, 0, tmp_path) == found
    model = load_model(tmp_path / "seed_0" / arm / "stage" / "model")
    if arm == "none":
        assert start(arm, 0, tmp_path) == resolve(motion.JUDGE) and "slowfast_model" not in model._modules
    else:
        before = encoder(arm, 0).state_dict()
        assert all(bool((value == before[name]).all()) for name, value in model.slowfast_model.state_dict().items())


def test_the_control_is_the_same_network_at_random():
    taught, control = SlowFast.from_pretrained(resolve(motion.SLOWFAST)), encoder("random", 0)
    assert {n: v.shape for n, v in taught.state_dict().items()} == {n: v.shape for n, v in control.state_dict().items()}
