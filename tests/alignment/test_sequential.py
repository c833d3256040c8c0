"""The sequential test: it may be looked at after every prompt, and is seldom wrong."""

import numpy as np
import pytest

import alignment
from alignment.sequential import LEVEL, SPENT, Budget, WinEProcess, e_values, fewest_prompts, fewest_sentence
from benchmarks.sequential import falsely_better, null_bets, win_rates
from videoduet.errors import InputError


@pytest.mark.parametrize("spread", [0.0, 0.2, 0.49])
def test_nulls_with_prompt_effects_are_seldom_called_better(spread):
    rng = np.random.default_rng(1)
    chances = 0.5 + spread * rng.choice((-1, 1), (2000, 256))
    means = rng.binomial(4, chances) / 4
    assert (e_values(means).max(1) >= 1 / LEVEL).mean() <= 0.05


def test_a_null_that_stops_when_it_leads_is_seldom_called_better():
    means = win_rates(np.random.default_rng(2), 0.5, 2000, 256)
    found = e_values(means)
    assert (found.max(1) >= 20).mean() <= 0.05
    assert found[:, -1].mean() < 1.5, "its mean is 1 at most under the null"


def test_a_better_generator_is_found():
    means = win_rates(np.random.default_rng(3), 0.7, 500, 128)
    assert (e_values(means).max(1) >= 20).mean() > 0.9


def test_prompts_one_by_one_are_all_together():
    means = win_rates(np.random.default_rng(4), 0.6, 1, 40)[0]
    process = WinEProcess()
    assert [process.update(float(mean)) for mean in means] == pytest.approx(list(e_values(means)))
    assert process.prompts == 40 and process.better == (e_values(means).max() >= 20)


def test_what_was_sure_once_stays_so():
    process = WinEProcess()
    for _ in range(10):
        process.update(1.0)
    assert process.better
    for _ in range(20):
        process.update(0.0)
    assert process.better and process.e_value < 20


def test_ties_say_nothing():
    process = WinEProcess()
    assert process.update(0.5) == 1.0 and not process.better


def test_worked_by_hand():
    """Two wins at m = ½: the mean of (1 + s)² over the shares s."""
    process = WinEProcess()
    process.update(1.0)
    shares = np.array([0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95])
    assert process.update(1.0) == pytest.approx(((1 + shares) ** 2).mean())


@pytest.mark.parametrize("mean", [-0.1, 1.1, float("nan")])
def test_a_win_rate_that_is_none(mean):
    with pytest.raises(InputError, match="win rate is .*; it must lie in"):
        WinEProcess().update(mean)


def test_two_prompts_are_too_few():
    needed = fewest_prompts()
    assert e_values(np.ones(needed))[-1] >= 20 > e_values(np.ones(needed - 1))[-1]
    assert fewest_sentence(2) == f"2 held-out prompts cannot show which round is better; give at least {needed}."
    assert fewest_sentence(needed) is None


def test_runs_whose_rounds_are_no_better_seldom_say_that_one_is():
    """However many rounds bet against the base and the best so far; at 5 % in each bet they would."""
    evidence = null_bets(np.random.default_rng(5), 1000, 8, 64)
    shares = [np.mean([falsely_better(evidence, run, 8, way) for run in range(1000)]) for way in (True, False)]
    assert shares[0] <= 0.05 < shares[1]


def test_a_level_is_shared_out_over_rounds_and_what_is_won_comes_back():
    budget = Budget()
    assert budget.levels(both=False) == (SPENT * LEVEL, 0.0)
    budget.settle(False)
    assert budget.left == pytest.approx((1 - SPENT) * LEVEL)
    before = budget.left
    budget.settle(True)
    assert budget.left == pytest.approx(before), "a bet that is won costs nothing"
    base, best = budget.levels(both=True)
    assert base == pytest.approx(SPENT * before / 2) and best == pytest.approx(base / 2), "one of two earlier rounds"
    budget.settle(True, False)
    assert budget.left == pytest.approx(before - base)


@pytest.mark.parametrize("seed", range(3))
def test_no_course_of_a_run_spends_more_than_its_level(seed):
    """What is lost for ever, by bets that were not won, is the level at most."""
    rng, budget, lost = np.random.default_rng(seed), Budget(), 0.0
    for number in range(40):
        both = number > 0 and bool(rng.random() < 0.5)
        base, best = budget.levels(both)
        won = bool(rng.random() < 0.3), bool(rng.random() < 0.3)
        lost += base * (not won[0]) + best * (not won[1])
        budget.settle(won[0], won[1] if both else None)
        assert lost <= LEVEL + 1e-12 and budget.left > 0


def test_the_fewest_prompts_of_a_run_are_those_of_its_first_round():
    needed = 2 * fewest_prompts(level=SPENT * LEVEL)
    found = fewest_sentence(2, level=SPENT * LEVEL, of=2)
    assert found == f"2 held-out prompts cannot show which round is better; give at least {needed}."


def test_it_is_found_where_the_room_shows_it():
    assert alignment.sequential.WinEProcess is alignment.WinEProcess is WinEProcess
