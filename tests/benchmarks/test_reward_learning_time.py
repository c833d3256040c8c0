"""What a judge says of clips that are spoilt in time: versions, and statistics of them."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.reward_learning_data import SCALE
from benchmarks.reward_learning_time import (
    SPOILT,
    STATISTICS,
    STRENGTHS,
    UNTRAINED,
    fall,
    freeze,
    of_untrained,
    order,
    said_of,
    untrained_change,
    write_spoilt,
)
from reward_model.datasets import ScoredClip, read_dataset
from videoduet.video import read_video

FRAMES = np.arange(8)[:, None] * np.ones((1, 3))


@pytest.mark.parametrize("seed", range(5))
def test_a_frozen_clip_stands_still_and_goes_on(seed):
    for strength, still in ((1 / 3, 2), (2 / 3, 5), (1.0, 7)):
        shown = freeze(FRAMES, strength, np.random.default_rng(seed))[:, 0].astype(int)
        assert (np.diff(shown) == 0).sum() == still and shown[0] == 0
        assert all(frame <= place for place, frame in enumerate(shown))


def test_every_version_of_a_clip_is_written(tmp_path):
    write_spoilt(tmp_path / "spoilt", 2, 1)
    items = read_dataset("lsvq", tmp_path / "spoilt", "test").items
    assert len(items) == 2 * (1 + len(SPOILT) * len(STRENGTHS))
    said = said_of(items, list(range(len(items))))
    assert {len(values) for values in said.values()} == {2}
    frames = {Path(item.path).stem: read_video(item.path).frames.astype(float) for item in items}
    for kind in SPOILT:
        assert np.abs(frames[f"0_{kind}_3"] - frames["0_whole_0"]).mean() > 0.3, kind


def test_scores_are_read_by_version():
    items = [ScoredClip(path=f"/x/{name}.mp4", scores={"overall": 1.0}) for name in ("1_whole_0", "0_whole_0", "0_a_1")]
    said = said_of([*items, ScoredClip(path="/x/1_a_1.mp4", scores={})], [7.0, None, 900.0, -3.0])
    assert said == {"whole_0": [sum(SCALE) / 2, 7.0], "a_1": [SCALE[1], SCALE[0]]}


def test_a_judge_that_sees_falls_in_order():
    whole = {"whole_0": [8.0, 6.0]}
    seeing = whole | {f"{kind}_{level}": [8.0 - level, 6.0 - level] for kind in SPOILT for level in (1, 2, 3)}
    blind = whole | {f"{kind}_{level}": [8.0, 6.0] for kind in SPOILT for level in (1, 2, 3)}
    for kind in UNTRAINED:
        assert fall(seeing, kind) == pytest.approx([0.2, 0.2]) and order(seeing, kind).tolist() == [1, 1]
    assert of_untrained("order", blind).tolist() == [0.5, 0.5] and of_untrained("fall", blind).tolist() == [0, 0]
    assert set(STATISTICS) == {"fall", "order"}


def test_a_judge_that_learned_to_see_falls_further():
    whole = {"whole_0": [8.0, 6.0]}
    before, after = (
        whole | {f"{kind}_{level}": [8.0 - drop * level, 6.0 - drop * level] for kind in SPOILT for level in (1, 2, 3)}
        for drop in (0.0, 1.0)
    )
    assert untrained_change("fall", before, after) == pytest.approx((0.2, 0.2, 0.2))
    assert untrained_change("order", before, after) == pytest.approx((0.5, 0.5, 0.5))
    assert untrained_change("fall", after, after) == (0, 0, 0)
