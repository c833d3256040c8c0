"""The rebuild of the tiny InternVL and SlowFast, with a few steps each, and what makes the SlowFast's lessons."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reward_model.judging.local import Judge
from reward_model.motion import SlowFast
from reward_model.released_frames import normalised
from shapes_world.build_internvl import InternVLBuild
from shapes_world.build_motion import MotionBuild, build_motion
from shapes_world.build_slowfast import (
    CLASSES,
    RUNS,
    Classifier,
    SlowFastBuild,
    moving_clip,
    new_network,
    random_slowfast,
)
from videoduet.store import content_hash
from videoduet.video import write_video

TINY = MotionBuild(SlowFastBuild(clips=12, steps=3, batch_size=4), InternVLBuild(clips=6, steps=2, batch_size=4))


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("motion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shapes_world.build_slowfast.HELD_OUT", 4)
        build_motion(TINY, output)
    return output


def test_the_judge_describes_and_scores(built, tmp_path):
    judge = Judge.from_pretrained(built / "internvl", device="cpu")
    assert judge.prompts.of("score").question == "score"
    write_video(tmp_path / "a.mp4", moving_clip(0)[0], 8)
    assert len(list(judge.describe([str(tmp_path / "a.mp4")]))) == 1


def test_the_encoder_is_frozen_and_another_than_a_random_one(built):
    frames, _ = moving_clip(1)
    taught, control = SlowFast.from_pretrained(built / "slowfast"), random_slowfast(0)
    assert taught.window == 1 and taught.dim == control.dim == 384
    assert taught.features(frames).dtype == torch.float32
    assert not torch.allclose(taught.features(frames), control.features(frames))
    assert torch.equal(random_slowfast(0).features(frames), control.features(frames))
    assert not torch.equal(random_slowfast(1).features(frames), control.features(frames))


def test_what_is_built_is_left_alone(built):
    files = sorted(built.glob("*/model.safetensors"))
    before = [content_hash(file) for file in files]
    build_motion(TINY, built)
    assert [content_hash(file) for file in files] == before and len(files) == 2


def test_a_moving_clip_knows_how_it_moves():
    made = [moving_clip(seed) for seed in range(40)]
    for frames, (direction, speed, run) in made:
        assert frames.shape == (8, 32, 32, 3) and frames.dtype == np.uint8
        assert direction < 4 and speed < 2 and run < len(RUNS) == len(CLASSES["run"])
    assert {run for _, (_, _, run) in made} == set(range(len(RUNS)))
    assert np.array_equal(moving_clip(3)[0], made[3][0])


@torch.no_grad()
def test_the_classifier_learns_on_the_features_that_are_kept():
    frames, _ = moving_clip(2)
    model = Classifier(new_network(0)).eval()
    features = SlowFast(model.network, window=1).features(frames)
    logits = model(normalised(frames)[None])
    for head, found in zip(model.heads, logits, strict=True):
        torch.testing.assert_close(head(features), found[0], atol=1e-5, rtol=1e-5)
