"""Correlations and accuracies against vectors from public code, brute force, and what must not change them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_model.metrics import bootstrap_interval, correlations, position_consistency, preference_accuracy, srcc

FOLDER = Path(__file__).parents[1] / "golden"
CORRELATION = json.loads((FOLDER / "correlation.json").read_text())["cases"]
PREFERENCE = json.loads((FOLDER / "preference_accuracy.json").read_text())


@pytest.mark.parametrize("case", CORRELATION.values(), ids=CORRELATION)
def test_correlations(case):
    result = correlations(case["prediction"], case["mos"])
    assert result["srcc"] == pytest.approx(case["srcc"], abs=1e-10)
    assert result["plcc"] == pytest.approx(case["plcc"], abs=1e-10)
    assert result["krcc"] == pytest.approx(case["krcc_tau_b"], abs=1e-10)
    assert result["rmse"] == pytest.approx(case["rmse"], abs=1e-9)
    for name in ("plcc", "rmse"):
        assert result["logistic4"][name] == pytest.approx(case["logistic4"][name], abs=1e-6)
    single, best = case["logistic5"], case["logistic5"]["best_of_many_starts"]
    assert single["plcc"] - 1e-3 <= result["logistic5"]["plcc"] <= best["plcc"] + 1e-3
    assert result["n"] == len(case["mos"])


def test_correlations_of_what_has_none():
    flat = correlations([3.0, 3.0, 3.0], [1.0, 2.0, 3.0])
    assert all(math.isnan(flat[name]) for name in ("srcc", "plcc", "krcc"))
    assert math.isnan(correlations([1.0, 2.0], [1.0, 2.0])["logistic5"]["plcc"])
    for pred, mos in (([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, math.nan], [1.0, 2.0]), ([[1.0, 2.0]], [[1.0, 2.0]])):
        with pytest.raises(ValueError):
            correlations(pred, mos)


def test_ranks_do_not_see_a_monotone_change():
    rng = np.random.default_rng(0)
    mos = rng.normal(size=40)
    pred = mos + rng.normal(size=40)
    plain, bent = correlations(pred, mos), correlations(np.exp(pred), mos)
    assert (bent["srcc"], bent["krcc"]) == (plain["srcc"], plain["krcc"])
    assert bent["plcc"] < plain["plcc"]
    moved = correlations(3 * pred + 1, mos)
    assert moved["plcc"] == pytest.approx(plain["plcc"])
    assert moved["logistic4"]["plcc"] == pytest.approx(plain["logistic4"]["plcc"], abs=1e-6)


@pytest.mark.parametrize("case", PREFERENCE["datasets"].values(), ids=PREFERENCE["datasets"])
def test_preference_accuracy(case):
    result = preference_accuracy(case["human"], case["model_diff"])
    assert result["tau"] == pytest.approx(case["tau_calibrated_accuracy"]["value"], abs=1e-12)
    assert result["threshold"] == pytest.approx(case["tau_calibrated_accuracy"]["best_threshold"], abs=1e-9)
    assert 2 * result["tau"] - 1 == pytest.approx(case["tau_23_optimised"]["value"], abs=1e-12)
    diff, counts = case["diff_accuracy"], case["sufficient_stats_epsilon0"]
    assert result["diff"] == pytest.approx(diff["value"], abs=1e-12)
    assert result["diff"] == pytest.approx(case["videoalign_released"]["without_ties"], abs=1e-12)
    assert result["diff_zero_half"] == pytest.approx(diff["value_with_zero_as_half"], abs=1e-12)
    assert [result[name] for name in ("correct", "n_non_tie", "model_zero")] == [
        diff[name] for name in ("correct", "n_non_tie", "model_zero")
    ]
    assert (result["correct"], result["model_zero"]) == (counts["C"], counts["Tm"])
    assert (result["human_ties"], result["n"]) == (counts["Th"] + counts["Thm"], case["n"])
    assert result["accuracy"] == pytest.approx(case["accuracy_at_threshold"]["0.0"], abs=1e-12)
    for threshold, accuracy in case["accuracy_at_threshold"].items():
        fixed = preference_accuracy(case["human"], case["model_diff"], threshold=float(threshold))
        assert fixed["tau"] == pytest.approx(accuracy, abs=1e-12)
        assert fixed["threshold"] == float(threshold)


def item_pairs(scores: list[float]) -> np.ndarray:
    return np.subtract.outer(scores, scores)[np.triu_indices(len(scores), 1)]


@pytest.mark.parametrize("case", PREFERENCE["item_level"].values(), ids=PREFERENCE["item_level"])
def test_pairs_of_scored_items(case):
    result = preference_accuracy(np.sign(item_pairs(case["human"])), item_pairs(case["metric"]))
    assert result["n"] == case["n_item_pairs"]
    assert result["tau"] == pytest.approx(case["acc_eq_calibrated"], abs=1e-12)
    assert result["threshold"] == pytest.approx(case["best_threshold"], abs=1e-9)
    assert result["accuracy"] == pytest.approx(case["acc_eq_epsilon0"], abs=1e-12)
    assert correlations(case["metric"], case["human"])["krcc"] == pytest.approx(case["kendall_tau_b"], abs=1e-10)


def test_pairs_within_groups():
    case = PREFERENCE["grouped_rows"]
    human, metric = (np.concatenate([item_pairs(row) for row in case[name]]) for name in ("human", "metric"))
    result = preference_accuracy(np.sign(human), metric)
    assert result["tau"] == pytest.approx(case["acc_eq_calibrated_row_average"], abs=1e-12)
    assert result["threshold"] == pytest.approx(case["best_threshold"], abs=1e-9)


@given(st.lists(st.tuples(st.sampled_from([-1, 0, 1]), st.integers(-4, 4)), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_calibration_is_the_best_of_all_thresholds(rows):
    human, margin = map(np.array, zip(*rows, strict=True))
    result = preference_accuracy(human, margin)
    tried = {e: np.mean(np.where(np.abs(margin) <= e, human == 0, human * margin > 0)) for e in range(5)}
    assert result["tau"] == pytest.approx(max(tried.values()), abs=1e-12)
    assert result["threshold"] == min(e for e, value in tried.items() if value > max(tried.values()) - 1e-12)
    swapped = preference_accuracy(-human, -margin)
    assert swapped == pytest.approx(result, nan_ok=True)
    assert preference_accuracy(human[::-1], 2 * margin[::-1])["tau"] == result["tau"]


def test_accuracies_of_nothing():
    ties = preference_accuracy([0, 0], [0.5, -0.1])
    assert math.isnan(ties["diff"]) and (ties["tau"], ties["threshold"], ties["accuracy"]) == (1.0, 0.5, 0.0)
    nothing = preference_accuracy([], [])
    assert math.isnan(nothing["tau"]) and nothing["n"] == 0
    for human, margin in (([2], [0.0]), ([1], [math.nan]), ([1, 0], [0.1])):
        with pytest.raises(ValueError):
            preference_accuracy(human, margin)


def test_position_consistency():
    result = position_consistency(
        ["first", "first", "tie", "second", None, "tie"], ["second", "first", "tie", "first", "first", "first"]
    )
    assert result == {
        "consistency": pytest.approx(3 / 5), "first_position_rate": pytest.approx(6 / 8), "n": 5, "unreadable": 1,
    }  # fmt: skip
    always_first = position_consistency(["first"] * 4, ["first"] * 4)
    assert (always_first["consistency"], always_first["first_position_rate"]) == (0.0, 1.0)
    assert math.isnan(position_consistency([], [])["consistency"])


def test_bootstrap_interval():
    rng = np.random.default_rng(0)
    sample = rng.normal(5, 2, 400)
    low, high = bootstrap_interval(np.mean, sample)
    error = 1.96 * sample.std() / 20
    assert low == pytest.approx(sample.mean() - error, abs=0.05)
    assert high == pytest.approx(sample.mean() + error, abs=0.05)
    assert bootstrap_interval(np.mean, sample) == (low, high) != bootstrap_interval(np.mean, sample, seed=1)


def test_bootstrap_keeps_pairs_together():
    values = np.arange(30.0)
    assert bootstrap_interval(srcc, values, values, resamples=50) == pytest.approx((1.0, 1.0))
    assert all(map(math.isnan, bootstrap_interval(np.mean, [1.0])))
    low, high = bootstrap_interval(srcc, [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], resamples=100)
    assert (low, high) == pytest.approx((1.0, 1.0)), "resamples of one item have no correlation"
