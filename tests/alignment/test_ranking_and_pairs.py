"""Rankings against counts and strengths from other solvers, the diagnosis of a judge, and the pairs that come out."""

import json
import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from alignment.preferences.pairs import PairConfig, follows_position, select_pairs
from alignment.preferences.ranking import bradley_terry, judge_statistics, rank, rank_prompts
from videoduet.errors import InputError
from videoduet.records import Comparison, OrderVerdict, Prompt, Video, VideoPair

CASES = json.loads((Path(__file__).parents[1] / "golden" / "ranking.json").read_text())["cases"]
BOTH_ORDERS = [name for name in CASES if name not in ("order_biased_judge_single_order", "cycle", "sparse_with_ties")]
PROMPT = Prompt.of("a red circle moving left")


def compare(first: int, second: int, forward: str | None, backward: str | None = "absent", prompt=PROMPT) -> Comparison:
    pair = VideoPair(prompt=prompt, first=Video(id=f"v{first}", path=""), second=Video(id=f"v{second}", path=""))
    answers = [OrderVerdict(text="", verdict=verdict) for verdict in (forward, backward) if verdict != "absent"]
    return Comparison.of(pair, "judge", *answers)


def comparisons_of(case: dict) -> list[Comparison]:
    """Golden judgments as comparisons, the two orders of a pair in one."""
    verdicts = {(j["first"], j["second"]): j["verdict"] for j in case["judgments"]}
    if all((second, first) in verdicts for first, second in verdicts):
        return [compare(i, j, verdicts[i, j], verdicts[j, i]) for i, j in verdicts if i < j]
    return [compare(i, j, verdict) for (i, j), verdict in verdicts.items()]


@pytest.mark.parametrize("name", CASES)
def test_bradley_terry_golden(name):
    case = CASES[name]
    y = {"first": 1.0, "second": 0.0, "tie": 0.5}
    each = [(j["first"], j["second"], y[j["verdict"]]) for j in case["judgments"]]
    ways = [(each, case["each_judgment_counts"])]
    if "merged_outcomes" in case:
        ways.append((case["merged_outcomes"], case["merged_disagreement_is_tie"]))
    for judgments, expected in ways:
        for l2, strengths in expected["bt_l2"].items():
            found = bradley_terry(judgments, float(l2), case["num_candidates"])
            np.testing.assert_allclose(found, strengths, atol=1e-5)


@pytest.mark.parametrize("name", BOTH_ORDERS)
def test_rank_golden(name):
    case = CASES[name]
    ranking = rank(comparisons_of(case))
    expected = case["merged_disagreement_is_tie"]
    assert list(ranking.wins) == expected["win_counts"]
    assert list(ranking.comparisons) == expected["num_comparisons"]
    np.testing.assert_allclose(ranking.strengths, expected["bt_l2"]["0.1"], atol=1e-5)
    assert ranking.agreement == pytest.approx(case["order_consistency_rate"])
    assert ranking.first_position_rate == pytest.approx(case["first_position_rate_among_decided"])
    for video, ties in enumerate(ranking.ties):
        assert ties == sum(y == 0.5 and video in (i, j) for i, j, y in case["merged_outcomes"])


def test_transitivity():
    assert rank(comparisons_of(CASES["cycle"])).transitivity == 0.0
    assert rank(comparisons_of(CASES["transitive_both_orders"])).transitivity == 1.0
    assert rank(comparisons_of(CASES["all_tied"])).transitivity is None
    one_cycle = [compare(0, 1, "first"), compare(1, 2, "first"), compare(2, 0, "first")]
    one_cycle += [compare(i, 3, "first") for i in range(3)]
    assert rank(one_cycle).transitivity == 0.75


def test_unparsable_is_left_out_and_counted():
    ranking = rank([compare(0, 1, "first", "second"), compare(0, 2, None, "first"), compare(1, 2, "first", None)])
    assert ranking.wins == (1.0, 0.0, 0.0)
    assert ranking.comparisons == (1, 1, 0)
    assert ranking.unparsable == 2
    assert ranking.agreement == 1.0
    # The readable halves of unparsable comparisons are showings all the same.
    assert ranking.first_position_rate == 0.75


def test_rank_does_not_depend_on_the_order_of_comparisons():
    comparisons = comparisons_of(CASES["noisy_both_orders"])
    expected = rank(comparisons)
    random.Random(0).shuffle(comparisons)
    assert rank(comparisons) == expected


def test_intervals_shrink_with_evidence_and_hold_the_strength():
    comparisons = comparisons_of(CASES["noisy_both_orders"])
    few, many = rank(comparisons), rank(comparisons * 9)
    for ranking in (few, many):
        assert all(low <= s <= high for s, (low, high) in zip(ranking.strengths, ranking.intervals, strict=True))
    assert many.intervals[0][1] - many.intervals[0][0] < few.intervals[0][1] - few.intervals[0][0]


def test_interval_of_two_videos_in_closed_form():
    ranking = rank([compare(0, 1, "tie")])
    # s_0 = -s_1 = d/2, and d has the curvature 1/4 (one comparison) + l2/2.
    half_width = 1.959964 * 0.5 / np.sqrt(0.25 + 0.1 / 2)
    assert ranking.intervals[0] == pytest.approx((-half_width, half_width), abs=1e-4)


def test_a_video_against_itself_says_nothing():
    ranking = rank([compare(0, 1, "first"), compare(1, 1, "first")])
    assert ranking.wins == (1.0, 0.0)
    assert ranking.comparisons == (1, 1)


def test_wrong_calls():
    other = Prompt.of("a blue square")
    both = [compare(0, 1, "first"), compare(0, 1, "first", prompt=other)]
    with pytest.raises(ValueError, match="rank_prompts"):
        rank(both)
    assert list(rank_prompts(both)) == [PROMPT.id, other.id]
    with pytest.raises(ValueError, match="at least one"):
        rank([])
    with pytest.raises(ValueError, match="l2"):
        bradley_terry([(0, 1, 1.0)], 0.0, 2)
    with pytest.raises(ValueError, match="judgment"):
        bradley_terry([(0, 2, 1.0)], 0.1, 2)


def test_judge_statistics():
    other = Prompt.of("a blue square")
    comparisons = [compare(i, j, "first", "second") for i, j in combinations(range(3), 2)]
    comparisons += [compare(0, 1, "first", "first", other), compare(0, 2, "tie", "tie", other)]
    comparisons += [compare(1, 2, None, "second", other)]
    statistics = judge_statistics(comparisons)
    assert statistics == {
        "prompts": 2,
        "comparisons": 6,
        "decided": 3,
        "tie": 1,
        "disagreement": 1,
        "unparsable": 1,
        "agreement": 0.8,
        "abstention": 0.5,
        "showings_with_winner": 9,
        "first_position_rate": pytest.approx(5 / 9),
        "transitivity": 1.0,
    }
    assert judge_statistics([])["first_position_rate"] is None


ROUNDS = {f"v{i}": 0 for i in range(20)}


def pairs_of(comparisons, **config):
    return select_pairs(rank_prompts(comparisons), comparisons, ROUNDS, PairConfig(**config))


def total_order(size: int) -> list:
    """v0 beats all, v1 all but v0, and so on, in both orders."""
    return [compare(i, j, "first", "second") for i, j in combinations(range(size), 2)]


def names(pairs):
    return [(pair.chosen_id, pair.rejected_id) for pair in pairs]


@pytest.mark.parametrize("name", ["all_tied", "order_biased_judge", "cycle"])
def test_no_pair_without_a_preference(name):
    assert pairs_of(comparisons_of(CASES[name])) == []
    assert pairs_of(comparisons_of(CASES[name]), pairs_per_prompt=4) == []


def test_best_against_worst():
    comparisons = comparisons_of(CASES["transitive_both_orders"])
    (pair,) = pairs_of(comparisons)
    assert (pair.prompt_id, pair.chosen_id, pair.rejected_id) == (PROMPT.id, "v3", "v2")
    assert (pair.margin, pair.agreement) == (1.0, 1.0)
    assert pair.comparison_ids == tuple(c.id for c in comparisons if {c.first_id, c.second_id} == {"v2", "v3"})


def test_rounds_are_kept():
    comparisons = total_order(3)
    (pair,) = select_pairs(rank_prompts(comparisons), comparisons, {"v0": 2, "v2": 1}, PairConfig())
    assert (pair.chosen_round, pair.rejected_round) == (2, 1)
    with pytest.raises(InputError, match="v2"):
        select_pairs(rank_prompts(comparisons), comparisons, {"v0": 2}, PairConfig())


def test_top_against_bottom():
    pairs = names(pairs_of(total_order(8), pairs_per_prompt=9))
    assert set(pairs) == {(f"v{i}", f"v{j}") for i in (0, 1, 2) for j in (5, 6, 7)}
    assert pairs[0] == ("v0", "v7")


def test_top_and_bottom_never_overlap():
    assert set(names(pairs_of(total_order(5), pairs_per_prompt=9))) == {
        (f"v{i}", f"v{j}") for i in (0, 1) for j in (3, 4)
    }


@pytest.mark.parametrize("answers", [("tie", "tie"), ("first", "first"), ("second", "first"), (None, "second")])
def test_an_undecided_direct_comparison_is_never_a_label(answers):
    comparisons = [c for c in total_order(4) if {c.first_id, c.second_id} != {"v0", "v3"}]
    comparisons.append(compare(0, 3, *answers))
    assert ("v0", "v3") not in names(pairs_of(comparisons))


def test_videos_never_compared_directly_may_be_paired():
    comparisons = [c for c in total_order(4) if {c.first_id, c.second_id} != {"v0", "v3"}]
    (pair,) = pairs_of(comparisons)
    assert (pair.chosen_id, pair.rejected_id, pair.comparison_ids) == ("v0", "v3", ())


def test_a_video_without_a_readable_comparison_is_no_loser():
    comparisons = total_order(3) + [compare(i, 3, None, None) for i in range(3)]
    assert names(pairs_of(comparisons)) == [("v0", "v2")]


def test_filters():
    comparisons = comparisons_of(CASES["noisy_both_orders"])
    (pair,) = pairs_of(comparisons)
    assert pair.margin == pytest.approx(0.7)
    assert pairs_of(comparisons, min_margin=0.71) == []
    assert pairs_of(comparisons, min_agreement=0.81) == []
    assert len(pairs_of(comparisons, min_margin=0.69, min_agreement=0.8)) == 1


def test_ties_are_broken_the_same_way_whatever_the_order():
    comparisons = comparisons_of(CASES["sparse_with_ties"])
    assert pairs_of(comparisons[::-1]) == pairs_of(comparisons)


@pytest.mark.parametrize("change", [{"pairs_per_prompt": 2}, {"pairs_per_prompt": 0}, {"min_margin": 1.5}])
def test_bad_config(change):
    with pytest.raises(InputError, match=next(iter(change))) as caught:
        PairConfig(**change)
    assert caught.value.exit_code == 2


def test_follows_position():
    def verdict(comparisons):
        return follows_position(judge_statistics(comparisons))

    assert verdict(comparisons_of(CASES["order_biased_judge"]))
    assert verdict(comparisons_of(CASES["order_biased_judge_single_order"]))
    assert verdict([compare(i, j, "second", "second") for i, j in combinations(range(4), 2)])
    assert not verdict(total_order(4))
    assert not verdict(comparisons_of(CASES["partly_order_biased"]))
    assert not verdict(comparisons_of(CASES["all_tied"]))
    assert not verdict([compare(0, 1, "first")])
