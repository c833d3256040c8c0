"""Degradations: bounds, the zero point, growth, and scenes with one attribute wrong."""

import dataclasses

import numpy as np
import pytest

from shapes_world.degradations import ATTRIBUTES, SPATIAL, TEMPORAL, degrade, wrong
from shapes_world.world import all_scenes, render

CLIP = render("a white circle moving left fast on a black background", 0)


@pytest.mark.parametrize("name", SPATIAL + TEMPORAL)
@pytest.mark.parametrize("size", [(8, 32, 32), (1, 32, 32), (5, 20, 27), (0, 32, 32)])
def test_any_clip_keeps_its_form(name, size):
    frames = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    before = frames.copy()
    for strength in (0, 0.3, 1):
        result = degrade(frames, name, strength, np.random.default_rng(1))
        assert result.dtype == np.uint8
        assert result.shape == frames.shape
        assert np.array_equal(frames, before)
    assert np.array_equal(degrade(frames, name, 0, np.random.default_rng(1)), frames)


@pytest.mark.parametrize("name", SPATIAL + TEMPORAL)
def test_damage_grows_with_strength(name):
    def damage(strength: float) -> float:
        degraded = [degrade(CLIP, name, strength, np.random.default_rng(seed)) for seed in range(60)]
        # Moved pictures differ by how many they are, changed ones by how much.
        if name in TEMPORAL and name != "flicker":
            return float(np.mean([(clip != CLIP).any((1, 2, 3)).sum() for clip in degraded]))
        return float(np.mean([np.abs(clip.astype(int) - CLIP).mean() for clip in degraded]))

    assert np.all(np.diff([damage(strength) for strength in (0, 0.25, 0.5, 0.75, 1)]) > 0)


@pytest.mark.parametrize("name", SPATIAL)
def test_spatial_damage_never_mixes_frames(name):
    one_changed = CLIP.copy()
    one_changed[3] = 128
    first, second = (degrade(clip, name, 1, np.random.default_rng(0)) for clip in (CLIP, one_changed))
    assert np.array_equal(np.delete(first, 3, 0), np.delete(second, 3, 0))


def test_blocks_are_flat_at_full_strength():
    blocks = degrade(CLIP, "blockiness", 1, np.random.default_rng(0)).reshape(8, 4, 8, 4, 8, 3)
    assert np.array_equal(blocks.max((2, 4)), blocks.min((2, 4)))
    assert np.allclose(blocks[:, :, 0, :, 0], CLIP.reshape(8, 4, 8, 4, 8, 3).mean((2, 4)), atol=0.5)


def test_flicker_alternates():
    grey = np.full((8, 32, 32, 3), 100, np.uint8)
    for seed in range(20):
        brightness = degrade(grey, "flicker", 0.5, np.random.default_rng(seed)).mean((1, 2, 3))
        assert np.all(np.abs(np.diff(brightness)) > 40)


@pytest.mark.parametrize(("name", "strength"), [("sharpen", 0.5), ("blur", -0.1), ("reverse", 1.1)])
def test_wrong_arguments(name, strength):
    with pytest.raises(ValueError, match=r"unknown degradation|strength must"):
        degrade(CLIP, name, strength, np.random.default_rng(0))


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_wrong_changes_one_attribute_to_any_other_value(attribute):
    scene = all_scenes()[17]
    scenes = [wrong(scene, attribute, np.random.default_rng(seed)) for seed in range(60)]
    others = set(ATTRIBUTES[attribute]) - {getattr(scene, attribute)}
    assert {getattr(other, attribute) for other in scenes} == others
    restored = {dataclasses.replace(other, **{attribute: getattr(scene, attribute)}) for other in scenes}
    assert restored == {scene}
