"""Intervals over prompts: against a bootstrap written out, and against what must hold whatever the numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.vbench.aggregation import DIMENSIONS, aggregate
from evaluation.vbench.statistics import ScoredVideo, mean, replicates, total_replicates
from videoduet.intervals import percentile_interval

videos = st.lists(
    st.builds(ScoredVideo, st.sampled_from("abcdef"), st.integers(0, 4), st.floats(0, 1), st.integers(1, 20)),
    min_size=1,
    max_size=30,
)


def scored(random, prompts=12, per_prompt=3, dimensions=DIMENSIONS):
    return {
        name: [
            ScoredVideo(f"prompt {number}", index, float(random.uniform(0.4, 0.9)), 1)
            for number in range(prompts)
            for index in range(per_prompt)
        ]
        for name in dimensions
    }


@given(videos)
@settings(max_examples=50, deadline=None)
def test_means_lie_among_the_results_and_know_no_order(found):
    low, high = (function(video.result for video in found) for function in (min, max))
    assert low - 1e-9 <= mean(found) <= high + 1e-9
    assert mean(found[::-1]) == pytest.approx(mean(found))
    drawn = replicates({"a": found}, 20)["a"]
    assert np.all((low - 1e-9 <= drawn) & (drawn <= high + 1e-9))
    np.testing.assert_array_equal(drawn, replicates({"a": found}, 20)["a"])


def test_weights_count():
    assert mean([ScoredVideo("a", 0, 1.0, 3), ScoredVideo("b", 0, 0.0, 1)]) == 0.75
    assert np.isnan(mean([]))


def test_the_interval_is_that_of_a_bootstrap_written_out():
    random = np.random.default_rng(3)
    found = [
        ScoredVideo(str(prompt), index, float(np.clip(random.normal(0.5 + prompt / 60, 0.1), 0, 1)), 1 + index)
        for prompt in range(15)
        for index in range(5)
    ]
    groups = [[video for video in found if video.prompt == str(prompt)] for prompt in range(15)]
    plain = [mean([video for chosen in random.integers(0, 15, 15) for video in groups[chosen]]) for _ in range(3000)]
    ours = replicates({"a": found}, 6000)["a"]
    assert ours.mean() == pytest.approx(np.mean(plain), abs=2e-3)
    assert ours.std() == pytest.approx(np.std(plain), rel=0.06)
    np.testing.assert_allclose(percentile_interval(ours), percentile_interval(np.array(plain)), atol=4e-3)


def test_prompts_are_drawn_not_videos():
    """Videos of a prompt that all say the same carry no more certainty than one."""
    once = [ScoredVideo(str(prompt), 0, prompt / 10, 1) for prompt in range(10)]
    often = [ScoredVideo(str(prompt), index, prompt / 10, 1) for prompt in range(10) for index in range(25)]
    np.testing.assert_allclose(replicates({"a": once}, 200)["a"], replicates({"a": often}, 200)["a"])


def test_dimensions_of_the_same_prompts_share_the_draw():
    one = [ScoredVideo(str(prompt), 0, prompt / 10, 1) for prompt in range(10)]
    drawn = replicates({"a": one, "b": one}, 100)
    np.testing.assert_array_equal(drawn["a"], drawn["b"])
    assert percentile_interval(drawn["a"] - drawn["b"]) == (0, 0)


def test_totals_of_replicates_are_the_official_ones():
    found = scored(np.random.default_rng(0))
    drawn = replicates(found, 7)
    totals = total_replicates(drawn)
    for number in range(7):
        expected = aggregate({name: float(values[number]) for name, values in drawn.items()})
        assert {name: values[number] for name, values in totals.items()} == pytest.approx(expected)
    assert "total" not in total_replicates({name: drawn[name] for name in drawn if name != "scene"})


def test_what_has_no_weight_is_not_counted():
    drawn = replicates({"a": [ScoredVideo("p", 0, 0.5, 0)]}, 10)["a"]
    assert np.isnan(drawn).all() and percentile_interval(drawn) is None
    assert percentile_interval(replicates({"a": [ScoredVideo("p", 0, 0.5, 1)]}, 0)["a"]) is None
