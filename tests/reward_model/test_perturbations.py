"""The six temporal perturbations against the paper's definitions, on frames that are their own index."""

import numpy as np
import pytest

from reward_model.perturbations import PERTURBATIONS, WINDOW, random_drop

SEEDS = range(60)


def orders(name: str, count: int, strength: float = 1.0) -> list[np.ndarray]:
    return [PERTURBATIONS[name](np.arange(count), np.random.default_rng(seed), strength) for seed in SEEDS]


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("count", [2, 3, 5, 8, 16])
@pytest.mark.parametrize("strength", [0.01, 0.5, 1.0])
def test_order_always_changes_and_length_never(name, count, strength):
    for order in orders(name, count, strength):
        assert order.shape == (count,)
        assert set(order) <= set(range(count))
        assert not np.array_equal(order, np.arange(count))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_pictures_stay_whole_and_the_input_untouched(name):
    frames = np.random.default_rng(0).integers(0, 256, (8, 6, 5, 3), dtype=np.uint8)
    before = frames.copy()
    result = PERTURBATIONS[name](frames, np.random.default_rng(1))
    again = PERTURBATIONS[name](frames, np.random.default_rng(1))
    assert result.dtype == np.uint8
    assert np.array_equal(result, again)
    assert {frame.tobytes() for frame in result} <= {frame.tobytes() for frame in frames}
    result[:] = 0
    assert np.array_equal(frames, before)


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("count", [0, 1])
def test_what_has_no_order_comes_back(name, count):
    assert np.array_equal(PERTURBATIONS[name](np.arange(count), np.random.default_rng(0)), np.arange(count))


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("strength", [0, -0.5, 1.5, float("nan")])
def test_strength_out_of_range(name, strength):
    with pytest.raises(ValueError, match="strength"):
        PERTURBATIONS[name](np.arange(8), np.random.default_rng(0), strength)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_strength_is_how_many_frames_move(name):
    moved = [np.mean([(order != np.arange(16)).sum() for order in orders(name, 16, s)]) for s in (0.25, 0.5, 0.75, 1)]
    assert np.all(np.diff(moved) > 0)


def test_shuffles_permute():
    for order in orders("global_shuffle", 8):
        assert sorted(order) == list(range(8))
    assert len({tuple(order) for order in orders("global_shuffle", 8)}) > 50
    for order in orders("local_shuffle", 10):
        assert sorted(order) == list(range(10))
        assert np.array_equal(order // WINDOW, np.arange(10) // WINDOW)
        assert list(order[8:]) == [8, 9]


def test_a_share_of_a_shuffle_leaves_the_rest_in_place():
    for name in ("global_shuffle", "local_shuffle"):
        assert max((order != np.arange(16)).sum() for order in orders(name, 16, 0.25)) <= 4


def test_reverse():
    assert all(list(order) == list(range(7, -1, -1)) for order in orders("reverse", 8))
    for order in orders("reverse", 8, 0.5):
        start = np.flatnonzero(order != np.arange(8))[0]
        assert list(order[start : start + 4]) == list(range(start + 3, start - 1, -1))


def test_jitter_reaches_one_frame():
    reached = np.concatenate([order - np.arange(8) for order in orders("jitter", 8)])
    assert set(reached) == {-1, 0, 1}


def test_duplicate_inserts_one_frame_n_times():
    for strength, copies in ((0.25, 1), (0.5, 2), (1.0, 4)):
        for order in orders("duplicate", 8, strength):
            runs = [(frame, place) for frame in range(8) for place in range(8 - copies + 1)
                    if (order[place : place + copies] == frame).all()]  # fmt: skip
            rests = [np.delete(order, np.arange(place, place + copies)) for _, place in runs]
            assert any((np.diff(rest) > 0).all() for rest in rests)


def test_random_drop_shows_the_last_frame_that_arrived():
    for strength, lost in ((0.25, 1), (0.5, 2), (1.0, 4)):
        for order in orders("random_drop", 8, strength):
            assert len(set(order)) == 8 - lost
            assert (np.diff(order) >= 0).all()
            assert all(order[frame] == frame for frame in set(order))


def test_random_drop_shortens_as_the_paper_has_it():
    for strength, lost in ((0.25, 2), (0.5, 4), (1.0, 8)):
        for seed in SEEDS:
            order = random_drop(np.arange(16), np.random.default_rng(seed), strength, shorten=True)
            assert len(order) == 16 - lost
            assert (np.diff(order) > 0).all()
    for count in (0, 1):
        assert len(random_drop(np.arange(count), np.random.default_rng(0), shorten=True)) == count
