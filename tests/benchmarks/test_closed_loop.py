"""What the closed-loop benchmark measures with: its control judges and its bootstrap."""

import numpy as np
import pytest

from benchmarks.closed_loop import bootstrap, differences, oracle_wins, scores
from benchmarks.closed_loop_arms import ARMS, RANKED, TWINS, AlwaysFirst, CoinFlip, opposite
from benchmarks.offline_dpo import ARMS as OFFLINE_ARMS
from benchmarks.offline_dpo import TWINS as OFFLINE_TWINS
from pipelines.loop.config import parse
from shapes_world.oracle import DIMENSIONS
from videoduet.records import Comparison, OrderVerdict, Prompt, Video, VideoPair

PAIRS = [
    VideoPair(
        prompt=Prompt.of("p"), first=Video(id=f"{i}a", path=f"{i}a.mp4"), second=Video(id=f"{i}b", path=f"{i}b.mp4")
    )
    for i in range(400)
]


def test_the_coin_is_fair_decided_in_both_orders_and_falls_the_same_way_again():
    once, again = ([c.preferred_id for c in CoinFlip().compare(PAIRS)] for _ in range(2))
    assert once == again and None not in once
    firsts = sum(name.endswith("a") for name in once)
    assert abs(firsts - 200) < 4 * 10  # four standard deviations


def test_who_always_says_first_never_prefers_a_video():
    assert all(c.preferred_id is None for c in AlwaysFirst().compare(PAIRS))


def test_bootstrap_of_normal_cases_has_the_textbook_interval():
    rng = np.random.default_rng(1)
    cases = rng.normal(0.3, 1.0, 400)
    mean, low, high = bootstrap([cases.tolist()])
    error = cases.std() / 20
    assert mean == pytest.approx(cases.mean())
    assert (low, high) == (
        pytest.approx(mean - 1.96 * error, abs=0.1 * error),
        pytest.approx(mean + 1.96 * error, abs=0.1 * error),
    )


def test_bootstrap_knows_that_seeds_differ():
    apart, together = [[0.0] * 50, [1.0] * 50], [[0.0, 1.0] * 25] * 2
    assert bootstrap(apart)[1:] == (0.0, 1.0)
    _, low, high = bootstrap(together)
    assert 0.35 < low < high < 0.65


def test_a_draw_is_half_a_win():
    assert oracle_wins({"base": [0.5, 0.5, 0.5], "aligned": [0.6, 0.5, 0.4]}) == [1.0, 0.5, 0.0]


def test_a_case_that_beats_the_base_may_still_lose_to_its_twin():
    base, aligned, twin = (dict(zip(DIMENSIONS, x, strict=True)) for x in np.diag([0.3, 0.6, 0.9]))
    results = {"sft": {0: scores([base], [aligned])}, "sft_coin": {0: scores([base], [twin])}}
    over_base, over_twin = differences(results, "sft"), differences(results, "sft", "sft_coin")
    assert over_base["spatial"] == [[pytest.approx(-0.3)]] and over_base["temporal"] == [[pytest.approx(0.6)]]
    assert over_base["mean"] == [[pytest.approx(0.1)]] and over_base["wins"] == [[1.0]]
    assert over_twin["alignment"] == [[pytest.approx(-0.9)]] and over_twin["wins"] == [[0.0]]


def test_the_opposite_of_a_comparison_prefers_the_other_video_and_abstains_alike():
    verdicts = [("first", "second"), ("first", "first"), ("tie", "tie"), (None, "first")]
    for forward, backward in verdicts:
        orders = (OrderVerdict(text="", verdict=verdict) for verdict in (forward, backward))
        comparison = Comparison.of(PAIRS[0], "judge", *orders)
        other = opposite(comparison)
        again = Comparison.of(PAIRS[0], "opposite", other.forward, other.backward)
        assert (other.status, other.preferred_id) == (again.status, again.preferred_id)
        assert other.status == comparison.status
        assert other.preferred_id != comparison.preferred_id or comparison.preferred_id is None


def test_a_recipe_and_its_twin_differ_in_labels_alone():
    config, _ = parse([])
    for arm, twin in TWINS.items():
        one, other = ARMS[arm][0](config), ARMS[twin][0](config)
        assert one.align == other.align
        assert one.judge == config.judge and other.judge.factory == "benchmarks.closed_loop_arms.CoinFlip"
    for change, shared in ARMS.values():
        assert shared != RANKED or change(config).judge == config.judge, "ranks are shared by one judge's arms"
    for arm, twin in OFFLINE_TWINS.items():
        assert OFFLINE_ARMS[arm][0] == OFFLINE_ARMS[twin][0] and OFFLINE_ARMS[arm][1] is not OFFLINE_ARMS[twin][1]
