"""From pairwise comparisons to a ranking of each prompt's videos, and to a diagnosis of the judge that made them.

A disagreement between the two orders of showing counts ½-½, like a tie; an unparsable answer is left out and counted.
Strengths are Bradley-Terry's (Bradley and Terry 1952: P(i beats j) = sigmoid(s_i - s_j)) with an L2 penalty, without
which an undefeated video would be infinitely strong.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TypedDict

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from videoduet.intervals import NORMAL_95
from videoduet.records import Comparison, Ranking, Verdict, first_position_rate

RANKING_L2 = 0.1
"""Penalty on strengths in :func:`rank`. It only shrinks strengths: pairs are made from wins."""


def rank_prompts(comparisons: Iterable[Comparison]) -> dict[str, Ranking]:
    """Rank each prompt's videos; prompts keep the order of their first comparison. Memory is linear."""
    by_prompt: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        by_prompt[comparison.prompt_id].append(comparison)
    return {prompt_id: rank(group) for prompt_id, group in by_prompt.items()}


def rank(comparisons: Iterable[Comparison]) -> Ranking:
    """Rank the videos of one prompt from all comparisons between them, in any order.

    The result does not depend on the order of ``comparisons``: videos are listed by id. A comparison of a video with
    itself (two samples with the same bytes) says nothing and is passed over. A video whose comparisons are all
    unparsable has ``comparisons`` 0 and strength 0. ``agreement`` counts a comparison that was asked in one order only
    as agreeing.

    Raises ValueError where there is no comparison or where they are of several prompts.
    """
    comparisons = list(comparisons)
    prompts = {comparison.prompt_id for comparison in comparisons}
    if len(prompts) > 1:
        raise ValueError(f"rank() takes one prompt's comparisons, not {len(prompts)} prompts'; use rank_prompts()")
    if not comparisons:
        raise ValueError("rank() needs at least one comparison")

    video_ids = sorted({video for c in comparisons for video in (c.first_id, c.second_id)})
    judgments = _judgments(comparisons, {video: index for index, video in enumerate(video_ids)})
    won, ties = _counts(judgments, len(video_ids))
    strengths = bradley_terry(judgments, RANKING_L2, len(video_ids))
    half_width = NORMAL_95 * _standard_errors(judgments, strengths, RANKING_L2)
    status = Counter(c.status for c in comparisons if c.first_id != c.second_id)
    return Ranking(
        prompt_id=comparisons[0].prompt_id,
        video_ids=tuple(video_ids),
        wins=tuple(won.sum(1).tolist()),
        ties=tuple(ties.tolist()),
        comparisons=tuple(int(count) for count in (won + won.T).sum(1)),
        strengths=tuple(strengths.tolist()),
        intervals=tuple(zip((strengths - half_width).tolist(), (strengths + half_width).tolist(), strict=True)),
        transitivity=_transitivity(won),
        agreement=_ratio(status["decided"] + status["tie"], status.total() - status["unparsable"]),
        first_position_rate=first_position_rate(_verdicts(comparisons)),
        unparsable=status["unparsable"],
    )


def order_by_standing(ranking: Ranking) -> list[int]:
    """Indices of a ranking's videos, best first: by wins less losses, then Bradley-Terry strength, then id."""

    def standing(index: int) -> tuple[float, float, str]:
        net_wins = 2 * ranking.wins[index] - ranking.comparisons[index]
        # Strengths are solved for numerically: without rounding, noise and not the id would break a tie between equals.
        return -net_wins, -round(ranking.strengths[index], 6), ranking.video_ids[index]

    return sorted(range(len(ranking.video_ids)), key=standing)


class JudgeStatistics(TypedDict):
    """How a judge behaved over all prompts. A rate is None where there was nothing to count.

    Keys: ``prompts``, ``comparisons``, ``decided``, ``tie``, ``disagreement``, ``unparsable`` (counts);
    ``agreement`` (of the parsed comparisons, how many had both orders agree); ``abstention`` (comparisons not decided);
    ``showings_with_winner`` (count) and ``first_position_rate`` (of those, how often the position shown first won: ½
    for a fair judge asked in both orders); ``transitivity`` (mean over the prompts that have a fully decided triple).
    """

    prompts: int
    comparisons: int
    decided: int
    tie: int
    disagreement: int
    unparsable: int
    agreement: float | None
    abstention: float | None
    showings_with_winner: int
    first_position_rate: float | None
    transitivity: float | None


def judge_statistics(comparisons: Iterable[Comparison]) -> JudgeStatistics:
    """How a judge behaved over all prompts, as :class:`JudgeStatistics`."""
    by_prompt: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        if comparison.first_id != comparison.second_id:
            by_prompt[comparison.prompt_id].append(comparison)
    status: Counter[str] = Counter()
    verdicts: list[Verdict | None] = []
    transitivities: list[float] = []
    for group in by_prompt.values():
        status.update(c.status for c in group)
        verdicts += _verdicts(group)
        index = {video: i for i, video in enumerate(sorted({v for c in group for v in (c.first_id, c.second_id)}))}
        if (transitivity := _transitivity(_counts(_judgments(group, index), len(index))[0])) is not None:
            transitivities.append(transitivity)
    total = status.total()
    return {
        "prompts": len(by_prompt),
        "comparisons": total,
        "decided": status["decided"],
        "tie": status["tie"],
        "disagreement": status["disagreement"],
        "unparsable": status["unparsable"],
        "agreement": _ratio(status["decided"] + status["tie"], total - status["unparsable"]),
        "abstention": _ratio(total - status["decided"], total),
        "showings_with_winner": verdicts.count("first") + verdicts.count("second"),
        "first_position_rate": first_position_rate(verdicts),
        "transitivity": _ratio(sum(transitivities), len(transitivities)),
    }


def bradley_terry(judgments: Iterable[tuple[int, int, float]], l2: float, num_candidates: int) -> np.ndarray:
    """Penalised maximum-likelihood strengths (num_candidates,), float64, natural-log scale, mean 0.

    A judgment (i, j, y) says that i beat j (y = 1), lost (0) or tied (0.5). Maximises
    sum [y log sigmoid(s_i - s_j) + (1 - y) log sigmoid(s_j - s_i)] - l2/2 * sum s_i²; the penalty alone fixes the mean.

    Raises ValueError for ``l2`` that is not positive, a y outside [0, 1], or an index out of range.
    """
    if not l2 > 0:
        raise ValueError(f"l2 must be positive, not {l2}: without a penalty an undefeated video has no finite strength")
    won = _counts(judgments, num_candidates)[0]

    def objective(strengths: np.ndarray) -> tuple[float, np.ndarray]:
        gaps = strengths[:, None] - strengths[None, :]
        loss = (won * np.logaddexp(0, -gaps)).sum() + l2 / 2 * strengths @ strengths
        surprise = won * expit(-gaps)
        return loss, surprise.sum(0) - surprise.sum(1) + l2 * strengths

    start = np.zeros(num_candidates)
    solution = minimize(
        objective,
        start,
        jac=True,
        hess=lambda strengths: _hessian(won, strengths, l2),
        method="trust-exact",
        options={"gtol": 1e-9, "initial_trust_radius": 4.0, "max_trust_radius": 1000.0},
    )
    return solution.x - solution.x.mean()


def _hessian(won: np.ndarray, strengths: np.ndarray, l2: float) -> np.ndarray:
    """Of the penalised negative log-likelihood: the comparison graph's Laplacian, weighted by p (1 - p), plus l2."""
    p = expit(strengths[:, None] - strengths[None, :])
    weights = (won + won.T) * p * (1 - p)
    return np.diag(weights.sum(1) + l2) - weights


def _standard_errors(judgments: list[tuple[int, int, float]], strengths: np.ndarray, l2: float) -> np.ndarray:
    """From the inverse Hessian, within the strengths of mean 0."""
    size = len(strengths)
    covariance = np.linalg.inv(_hessian(_counts(judgments, size)[0], strengths, l2))
    # A common shift of all strengths is an eigenvector (eigenvalue l2); the mean is 0 by convention, so it is no
    # uncertainty.
    return np.sqrt(np.maximum(np.diag(covariance) - 1 / (l2 * size), 0.0))


def _judgments(comparisons: list[Comparison], index: dict[str, int]) -> list[tuple[int, int, float]]:
    """(first, second, outcome for first) of all that count."""
    outcomes: list[tuple[int, int, float]] = []
    for c in comparisons:
        if c.status != "unparsable" and c.first_id != c.second_id:
            y = 0.5 if c.status != "decided" else float(c.preferred_id == c.first_id)
            outcomes.append((index[c.first_id], index[c.second_id], y))
    return outcomes


def _counts(judgments: Iterable[tuple[int, int, float]], size: int) -> tuple[np.ndarray, np.ndarray]:
    """won[i, j] (size, size), the wins of i over j, and the number of ties (size,)."""
    won, ties = np.zeros((size, size)), np.zeros(size, dtype=int)
    for i, j, y in judgments:
        if not (0 <= y <= 1 and 0 <= i < size and 0 <= j < size and i != j):
            raise ValueError(f"judgment ({i}, {j}, {y}) must name two of {size} candidates and an outcome in [0, 1]")
        won[i, j] += y
        won[j, i] += 1 - y
        if y == 0.5:
            ties[[i, j]] += 1
    return won, ties


def _verdicts(comparisons: list[Comparison]) -> list[Verdict | None]:
    """Which position won, in all showings of two different videos."""
    showings = [s for c in comparisons if c.first_id != c.second_id for s in (c.forward, c.backward) if s is not None]
    return [showing.verdict for showing in showings]


def _transitivity(won: np.ndarray) -> float | None:
    """The fraction of triples, all three of whose pairs have a winner, that are no cycle; None where there is none."""
    beats = (won > won.T).astype(float)
    decided = beats + beats.T
    # Closed walks of length 3: each triple is walked 6 times in the graph of decided pairs, a cycle 3 times in that of
    # wins.
    triples = round(np.trace(decided @ decided @ decided) / 6)
    cycles = round(np.trace(beats @ beats @ beats) / 3)
    return 1 - cycles / triples if triples else None


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
