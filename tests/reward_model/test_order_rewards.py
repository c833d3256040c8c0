"""Rewards over versions of a clip: closed forms, bounds, what cannot be read."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from reward_model.order_rewards import (
    discounted_label_reward,
    order_fidelity_reward,
    severity_margin_reward,
    severity_ranking_reward,
)
from reward_model.training.config import RewardConfig
from reward_model.training.group_rewards import Rollout, reward_table


def test_fidelity_in_closed_form():
    p = norm.cdf((0.8 - 0.5) / math.sqrt(0.02 + 0.0 + 1e-6))
    found = order_fidelity_reward([0.8, 0.6], [0.5, 0.5])
    assert found[0] == pytest.approx(0.3 * math.sqrt(p)) and found[0] > found[1] > 0.15
    assert order_fidelity_reward([0.8, 0.6], [None]).tolist() == [0, 0]
    assert order_fidelity_reward([None, 0.6], [0.7, None])[0] == 0


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.lists(st.floats(0, 1), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_fidelity_grows_with_the_score(scores, shuffled):
    found = order_fidelity_reward(scores, shuffled)
    assert ((found >= 0) & (found <= 0.3)).all()
    assert (np.diff(found[np.argsort(scores)]) >= -1e-12).all()


def test_a_rank_wants_the_more_shuffled_lower():
    found = severity_ranking_reward([[0.9, 0.5], [0.4, 0.2], [0.1, 0.6]], [0.0, 0.5, 1.0])
    assert found[0, 0] > found[0, 1] and found[2, 0] > found[2, 1]
    two = severity_ranking_reward([[0.9, 0.7], [0.4, 0.2]], [0.0, 1.0])
    assert (two > 0.28).all() and (severity_ranking_reward([[0.4, 0.2], [0.9, 0.7]], [0.0, 1.0]) < 0.1).all()


def test_a_margin_is_enough():
    found = severity_margin_reward([[0.9, 0.7], [0.5, 0.3]], [0.0, 1.0], margin=0.2)
    assert found == pytest.approx(np.full((2, 2), 0.3)), "farther apart earns no more"
    found = severity_margin_reward([[0.9, 0.5, 0.4], [0.5, 0.5, 0.5]], [0.0, 1.0], margin=0.2)
    assert found[0] == pytest.approx([0.3, 0.0, 0.0]) and found[1] == pytest.approx([0.15] * 3)
    three = severity_margin_reward([[0.9], [0.8], [0.4]], [0.0, 0.5, 1.0], margin=0.4)
    assert three[:, 0] == pytest.approx([0.3 * (0.5 + 1) / 2, 0.3 * (0.5 + 1) / 2, 0.3])


def test_what_cannot_be_read_earns_nothing_and_counts_in_no_mean():
    for reward in (severity_margin_reward, severity_ranking_reward):
        whole = reward([[0.9, 0.7], [0.5, 0.3]], [0.0, 1.0])
        some = reward([[0.9, 0.7, None], [0.5, math.nan, 0.3]], [0.0, 1.0])
        assert some[0] == pytest.approx([*whole[0], 0]) and some[1] == pytest.approx([whole[1, 0], 0, whole[1, 1]])
        assert reward([[None, None], [0.5, 0.3]], [0.0, 1.0]).tolist() == [[0, 0], [0, 0]]


def test_a_version_has_a_label_of_its_own():
    found = discounted_label_reward([0.3, 0.5, 0.0, None], 0.6, 1.0)
    assert found == pytest.approx([1.0, 0.8, 0.7, 0.0])
    half = discounted_label_reward([0.45, 0.95], 0.6, 0.5)
    assert half == pytest.approx([1.0, 0.5])
    assert discounted_label_reward([0.6], 0.6, 0.0) == pytest.approx([1.0]), "what is not shuffled keeps its label"


def test_a_distance_pays_for_praise_of_a_clip_that_is_bad_by_its_label():
    """Why ``discount`` leaves responses to the clip as it is to its label: ``margin`` pays more for raising them."""
    honest, praise = 0.4, 0.6
    margin = severity_margin_reward([[honest, praise], [0.4, 0.4]], [0.0, 1.0])[0]
    assert margin[1] - margin[0] > praise - honest, "than the label's own reward takes"
    batch = [*rollouts([4, 6], 0.0), *rollouts([4, 4], 1.0)]
    table, _ = reward_table(batch, RewardConfig(temporal="discount"), 2)
    assert np.isnan(table["temporal"][:2]).all()


def rollouts(answers, severity=None, clip=0, kind="score") -> list[Rollout]:
    right = {"kind": kind, "dataset": "A", "scale": (0, 10), "moves": True}
    right |= {"target": 6.0} if kind == "score" else {"targets": {"spatial": 5.0, "temporal": 6.0}}
    right |= {} if severity is None else {"severity": severity, "clip": clip}
    return [Rollout(right, f"<think>so</think><answer>{a}</answer>", 30) for a in answers]


@pytest.mark.parametrize("temporal", ["contrast", "margin", "severity"])
def test_a_shuffled_version_has_no_label_and_no_rank(temporal):
    batch = [*rollouts([9, 7], 0.0), *rollouts([5, 3], 1.0), *rollouts([8, 2]), *rollouts([8, 2], 0.0, clip=4)]
    table, metrics = reward_table(batch, RewardConfig(temporal=temporal, ranking=True), 2)
    assert np.isnan(table["accuracy"]).tolist() == [False] * 2 + [True] * 2 + [False] * 4
    assert np.isnan(table["ranking"]).tolist() == [False] * 2 + [True] * 2 + [False] * 4
    assert np.isnan(table["temporal"]).tolist() == [False] * 4 + [True] * 4, "a clip without versions has no order"
    assert table["temporal"][:4].min() > 0.25
    assert metrics == pytest.approx({"temporal/ordered": 0.8, "temporal/perturbed": 0.4})


def test_of_several_dimensions_time_counts():
    answers = [['{"spatial": 1, "temporal": 9}'] * 2, ['{"spatial": 9, "temporal": 4}'] * 2]
    batch = [*rollouts(answers[0], 0.0, kind="dimensions"), *rollouts(answers[1], 1.0, kind="dimensions")]
    table, _ = reward_table(batch, RewardConfig(temporal="margin"), 2)
    assert table["temporal"] == pytest.approx(np.full(4, 0.3))


def test_a_discount_rewards_versions_alone():
    batch = [*rollouts([9, 7], 0.0), *rollouts([5, 3], 1.0), *rollouts([8, 2]), *rollouts([8, 2], 0.0, clip=4)]
    table, metrics = reward_table(batch, RewardConfig(temporal="discount", ranking=True), 2)
    assert np.isnan(table["accuracy"]).tolist() == [False] * 2 + [True] * 2 + [False] * 4
    assert np.isnan(table["temporal"]).tolist() == [True] * 2 + [False] * 2 + [True] * 4
    assert table["temporal"][2:4] == pytest.approx([0.8, 1.0]), "of a label of 0.6, shuffled wholly, half is left"
    assert metrics == pytest.approx({"temporal/ordered": 0.8, "temporal/perturbed": 0.4})
    told = [*rollouts([{"spatial": 1, "temporal": 9}] * 2, 0.0, kind="dimensions"),
            *rollouts(['{"spatial": 9, "temporal": 2}'] * 2, 0.5, kind="dimensions")]  # fmt: skip
    table, _ = reward_table(told, RewardConfig(temporal="discount"), 2)
    assert table["temporal"][2:] == pytest.approx([0.75] * 2), "of several dimensions time counts"
