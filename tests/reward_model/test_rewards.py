"""The paper's rewards against vectors from the released code, closed forms and invariances."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from reward_model.parsing import answer_text, first_number, parse_option, parse_score, parse_scores, strict_scores
from reward_model.rewards import (
    RELEASED_TAU,
    bell_shaped_reward,
    comparison_reward,
    format_reward,
    length_control_reward,
    multi_dimension_reward,
    pairwise_ranking_reward,
    score_reward,
    temporal_consistency_reward,
    temporal_modeling_reward,
    unreadable_reward,
)

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((FOLDER / "vqinsight_rewards.json").read_text())
THINKER = json.loads((FOLDER / "vqathinker_rewards.json").read_text())
TOLERANCE = dict(rel=0, abs=1e-6)


def text_of(row: dict) -> str:
    return row.get("name") or row["completion"][-50:]


@pytest.mark.parametrize("row", GOLDEN["format"] + THINKER["format"], ids=text_of)
def test_format_reward_is_the_released_one(row):
    assert format_reward(row["completion"]) == row["released"]


def test_format_reward_has_both_values():
    assert {row["released"] for row in GOLDEN["format"]} == {0.0, 1.0}
    assert format_reward("") == format_reward("<think></think><answer>") == 0.0


@pytest.mark.parametrize("preferred", ["first", "second"])
@pytest.mark.parametrize("choice", ["first", "second", "tie", None])
def test_comparison_reward(choice, preferred):
    assert comparison_reward(choice, preferred) == (1.0 if choice == preferred else 0.0)
    assert isinstance(comparison_reward(choice, preferred), float)


@pytest.mark.parametrize("row", GOLDEN["multiple_choice"], ids=text_of)
def test_comparison_reward_is_the_released_exact_match(row):
    assert comparison_reward(row["extracted"], row["gt"]) == row["released"] == row["paper_exact_match"]


@pytest.mark.parametrize("row", GOLDEN["regression"], ids=text_of)
def test_score_reward(row):
    value = parse_score(row["completion"])
    assert value == row["extracted"]
    assert score_reward(value, row["gt"]) == pytest.approx(row["paper_l1_scores_over_100"], **TOLERANCE)
    if value is None:
        assert score_reward(value, row["gt"], variant="released") == 0.0
        return
    assert score_reward(value, row["gt"], scale=(0, 1)) == pytest.approx(row["paper_l1_raw"], **TOLERANCE)
    assert score_reward(value, row["gt"], variant="released") == pytest.approx(row["released"], rel=0, abs=1e-12)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_earns_nothing(value):
    for variant in ("paper", "released"):
        assert score_reward(value, 50.0, variant=variant) == 0.0
        assert bell_shaped_reward(value, 3.0, variant=variant) == 0.0
        assert multi_dimension_reward([50.0, value], [50.0, 50.0], variant=variant) == 0.0


@given(st.floats(-200, 200), st.floats(0, 100), st.floats(-50, 50), st.floats(0.1, 9))
@settings(max_examples=50, deadline=None)
def test_score_reward_follows_the_scale(predicted, target, shift, factor):
    moved = [factor * value + shift for value in (predicted, target)]
    scale = (shift, 100 * factor + shift)
    assert score_reward(*moved, scale=scale) == pytest.approx(score_reward(predicted, target), abs=1e-9)


@pytest.mark.parametrize("row", GOLDEN["multi_dimension"], ids=text_of)
def test_multi_dimension_reward(row):
    target = dict(zip(row["keys"], row["gt"], strict=True))
    values = parse_scores(row["completion"], row["keys"])
    assert (list(values.values()) if values else None) == row["values_lenient_parse"]
    expected = row["paper_l1_scores_over_100_equal_lambda"]
    assert multi_dimension_reward(values, target) == pytest.approx(expected, **TOLERANCE)
    as_lists = multi_dimension_reward(row["values_lenient_parse"], row["gt"])
    assert as_lists == pytest.approx(expected, **TOLERANCE)
    relative = multi_dimension_reward(values, target, variant="released")
    assert relative == pytest.approx(row["relative_error_lenient_parse"], **TOLERANCE)
    strict = strict_scores(row["completion"], row["keys"])
    released = multi_dimension_reward(strict, target, variant="released")
    assert released == pytest.approx(row["released"], rel=0, abs=1e-12)


def test_six_dimensions():
    (row,) = GOLDEN["multi_dimension_six"]
    target = json.loads(answer_text(row["solution"]))
    values = strict_scores(row["completion"], list(target))
    assert multi_dimension_reward(values, target, variant="released") == pytest.approx(
        row["released_mean"], **TOLERANCE
    )


def test_weights_of_dimensions():
    predicted, target = {"a": 10.0, "b": 70.0}, {"b": 50.0, "a": 0.0}
    assert multi_dimension_reward(predicted, target) == pytest.approx(0.85)
    assert multi_dimension_reward(predicted, target, weights={"a": 1, "b": 1}) == pytest.approx(0.7)
    assert multi_dimension_reward(predicted, target, weights={"a": 1, "b": 0}) == pytest.approx(0.9)
    assert multi_dimension_reward({"a": 10.0}, target) == 0.0
    assert multi_dimension_reward([3.0], [4.0], scale=(1, 5)) == score_reward(3.0, 4.0, scale=(1, 5)) == 0.75


@pytest.mark.parametrize("row", GOLDEN["temporal_length"], ids=text_of)
def test_temporal_and_length_rewards(row):
    accuracy, shuffled, lengths = row["accuracy"], row["shuffled_accuracy"], row["completion_lengths"]
    temporal = temporal_modeling_reward(accuracy, shuffled)
    assert temporal == pytest.approx(row["per_response_temporal_bonus"], **TOLERANCE)
    assert temporal.shape == (len(accuracy),)
    literal = temporal_modeling_reward(accuracy, shuffled, variant="literal")
    assert literal == pytest.approx(row["paper_temporal_bonus"], **TOLERANCE)
    assert literal.shape == (len(accuracy),)
    assert length_control_reward(lengths) == pytest.approx(row["paper_length_bonus"], **TOLERANCE)
    temporal = temporal_modeling_reward(accuracy, shuffled, variant="released")
    length = length_control_reward(lengths, accuracy, variant="released")
    assert temporal == pytest.approx(row["released_temporal_bonus"], **TOLERANCE)
    assert length == pytest.approx(row["released_length_bonus"], **TOLERANCE)
    total = np.array(accuracy) + row["format"] + temporal + length
    assert total == pytest.approx(row["released_total_reward"], **TOLERANCE)
    advantages = (total - total.mean()) / (total.std(ddof=1) + 1e-4)
    assert advantages == pytest.approx(row["released_advantages"], rel=0, abs=1e-4)


def test_the_order_of_shuffled_answers_is_nothing():
    for variant in ("paper", "released"):
        one = temporal_modeling_reward([0.5, 0.9], [0.2, 0.7, 0.4], variant=variant)
        assert list(one) == list(temporal_modeling_reward([0.5, 0.9], [0.7, 0.4, 0.2], variant=variant))


def test_bounds_of_length():
    assert list(length_control_reward([320, 321, 511, 512])) == [0.0, 0.1, 0.1, 0.0]
    assert float(length_control_reward(10, l_min=5, l_max=12, gamma=0.4)) == 0.4
    with pytest.raises(ValueError, match="accuracies"):
        length_control_reward([400], variant="released")


@pytest.mark.parametrize("row", THINKER["regression"], ids=text_of)
def test_bell_shaped_reward(row):
    value = first_number(row["completion"])
    assert value == row["extracted_prediction"]
    assert bell_shaped_reward(value, row["gt"]) == pytest.approx(row["paper_alpha_0_8"], **TOLERANCE)
    assert bell_shaped_reward(value, row["gt"], alpha=1) == pytest.approx(row["gaussian"], **TOLERANCE)
    assert bell_shaped_reward(value, row["gt"], variant="released") == pytest.approx(row["released"], **TOLERANCE)


def test_bell_is_flatter_near_the_truth_than_far():
    at = [bell_shaped_reward(3 + error, 3, alpha=1) for error in (0, 0.1, 0.5, 0.6)]
    assert at[0] == 1.0 and at[0] - at[1] < at[2] - at[3]
    assert bell_shaped_reward(2.5, 3) == pytest.approx(0.8 * math.exp(-0.5))


@pytest.mark.parametrize("name", THINKER["ranking"])
def test_pairwise_ranking_reward(name):
    row = THINKER["ranking"][name]
    arguments = row["preds"], row["gt"]
    assert pairwise_ranking_reward(*arguments) == pytest.approx(
        np.array(row["paper_formula_unbiased_variance"]), **TOLERANCE
    )
    assert pairwise_ranking_reward(*arguments, ddof=0) == pytest.approx(
        np.array(row["paper_formula_population_variance"]), **TOLERANCE
    )
    released = pairwise_ranking_reward(*arguments, variant="released")
    assert released == pytest.approx(np.array(row["released_rule_float64"]), **TOLERANCE)
    assert released == pytest.approx(np.array(row["released"]), **TOLERANCE)


def test_pairwise_ranking_in_closed_form():
    """Two videos without spread: p is the normal's value at the gap over √ε."""
    reward = pairwise_ranking_reward([[3.0, 3.0], [2.999, 2.999]], [4, 2])
    p = norm.cdf(0.001 / math.sqrt(1e-6))
    assert reward == pytest.approx(math.sqrt(p + 1e-6) + 1e-3, **TOLERANCE)


@given(st.integers(0, 1000), st.sampled_from(["paper", "released"]))
@settings(max_examples=25, deadline=None)
def test_pairwise_ranking_invariances(seed, variant):
    rng = np.random.default_rng(seed)
    scores, truth, order = rng.normal(3, 1, (5, 4)), rng.integers(1, 4, 5), rng.permutation(5)
    reward = pairwise_ranking_reward(scores, truth, variant=variant)
    permuted = pairwise_ranking_reward(scores[order], truth[order], variant=variant)
    assert permuted == pytest.approx(reward[order], abs=1e-12)
    assert pairwise_ranking_reward(scores + 7, truth, variant=variant) == pytest.approx(reward, abs=1e-9)
    mirrored = pairwise_ranking_reward(-scores, -truth, variant=variant)
    assert mirrored == pytest.approx(reward, abs=1e-9)
    assert pairwise_ranking_reward(scores, 10 * truth - 3, variant=variant) == pytest.approx(reward, abs=1e-12)


def test_unreadable_answers_are_left_out_of_a_ranking():
    whole = pairwise_ranking_reward([[3.1, 3.4, 2.9], [2.0, 2.2, 1.7]], [4, 2])
    some = pairwise_ranking_reward([[3.1, 3.4, 2.9, None], [2.0, 2.2, math.nan, 1.7]], [4, 2])
    assert some[0] == pytest.approx([*whole[0], 0.0])
    assert some[1] == pytest.approx([*whole[1][:2], 0.0, whole[1][2]])
    three = pairwise_ranking_reward([[3.1, 3.4, 2.9], [None] * 3, [2.0, 2.2, 1.7]], [4, 3, 2])
    assert three == pytest.approx(np.array([whole[0], [0.0] * 3, whole[1]]))


def test_a_video_alone_has_nothing_to_rank():
    assert pairwise_ranking_reward([[3.0, 4.0]], [3.0]).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("row", THINKER["temporal"], ids=text_of)
def test_temporal_consistency_reward(row):
    total = 0.0
    for kind in ("rank", "reg"):
        arguments = row[kind], row[f"shuffled_{kind}"]
        bonus = temporal_consistency_reward(*arguments)
        assert bonus == pytest.approx(row[f"per_response_bonus_{kind}"], **TOLERANCE)
        literal = temporal_consistency_reward(*arguments, variant="literal")
        assert literal == pytest.approx(row[f"paper_bonus_{kind}"], **TOLERANCE)
        total += literal
        released = temporal_consistency_reward(*arguments, tau=RELEASED_TAU[kind], variant="released")
        assert released == pytest.approx(row[f"released_bonus_{kind}"], **TOLERANCE)
        assert np.array(row[kind]) + released == pytest.approx(row[f"released_{kind}_after"], **TOLERANCE)
    assert total == pytest.approx(row["paper_bonus_total"], **TOLERANCE)


def test_what_stands_in_for_a_probability_is_one():
    """A bar of μ times a negative accuracy would be lower for worse answers, and one above 1 beyond reach."""
    assert temporal_modeling_reward([-0.5, 0.0, 0.1], [-2.0, -1.0]).tolist() == [0.0, 0.0, 0.3]
    assert temporal_modeling_reward([0.9, 1.4], [1.0, 3.0], mu=0.95).tolist() == [0.0, 0.3]


def test_an_unreadable_answer_earns_the_minimum():
    assert unreadable_reward() == unreadable_reward(variant="released") == 0.0
    assert unreadable_reward([1, 1, 1]) == -2.0
    assert unreadable_reward({"a": 0.2, "b": 0.3}) == 0.0, "never more than nothing"
    target, ends = {"a": 0.0, "b": 100.0, "c": 0.0}, {"a": 100.0, "b": 0.0, "c": 100.0}
    for weights in (None, dict.fromkeys(target, 1.0), {"a": 2.0, "b": 0.5, "c": 1.0}):
        worst = multi_dimension_reward(ends, target, weights=weights)
        for gibberish in (None, {}, {**ends, "b": None}, {"a": 0.0}):
            found = multi_dimension_reward(gibberish, target, weights=weights)
            assert found == unreadable_reward(weights) == pytest.approx(worst)
    assert multi_dimension_reward(None, target, weights=[9, 9, 9], variant="released") == 0.0


def test_temporal_consistency_wants_both():
    assert temporal_consistency_reward([0.6, 0.6], [0.6, 0.6]).tolist() == [0.3, 0.3]
    assert temporal_consistency_reward([0.6, 0.6], [0.7, 0.6]).tolist() == [0.0, 0.0]
    assert temporal_consistency_reward([0.5, 0.5], [0.1, 0.1]).tolist() == [0.0, 0.0], "above τ, not at it"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think><answer>3</answer></think><answer>4</answer>", 4.0),
        ("<answer>3</answer><answer>4</answer>", 4.0),
        ("<think><answer>3</answer></think>", 3.0),
        ("<answer>about -2.5 or 3</answer>", -2.5),
        ("<answer>inf</answer>", None),
        ("3.5", None),
        ("", None),
    ],
)
def test_first_number_is_in_the_last_answer(text, value):
    assert first_number(text) == value


def test_strict_scores_are_in_braces_and_in_order():
    for answer in ('{"a": true}', '{"a": NaN}', '{"a": null}', "[1]", "3", '{"a": {"a": 1}}', "{", "", '"a": 1'):
        assert strict_scores(f"<answer>{answer}</answer>", ["a"]) is None
    both = '<answer>{"a": 1, "b": 2}</answer>'
    assert strict_scores(both, ["a", "b"]) == {"a": 1.0, "b": 2.0}
    assert strict_scores(both, ["a"]) is strict_scores(both, ["b", "a"]) is None


@pytest.mark.parametrize(
    ("answer", "option"),
    [("yes", "yes"), ("Yes.", "yes"), ("NO", "no"), ("maybe", None), ("yes and no", None), ("", None),
     ("yes, it is", None)],
)  # fmt: skip
def test_yes_and_no(answer, option):
    assert parse_option(f"<think>no</think><answer>{answer}</answer>", ("yes", "no")) == option


@pytest.mark.parametrize(
    ("answer", "option"),
    [("B", "B"), ("b", "B"), ("B. Blurry", "B"), ("(C)", "C"), ("C) Noise", "C"), ("D", None), ("A or B", None),
     ("Blurry", None)],
)  # fmt: skip
def test_letters(answer, option):
    assert parse_option(f"<answer>{answer}</answer>", ("A", "B", "C")) == option
