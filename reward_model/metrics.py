"""How well a judge agrees with people: correlations, pairwise accuracy with and without ties, consistency of position.

scipy does the statistics. Scores that could not be read are the caller's to leave out and to count.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import curve_fit
from scipy.stats import ConstantInputWarning, kendalltau, pearsonr, spearmanr

from reward_model.parsing import Choice
from videoduet.intervals import bootstrap_interval as bootstrap_interval
from videoduet.records import first_position_rate

Array = Sequence[float] | np.ndarray


def logistic4(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    """b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|)), the four-parameter logistic of VQEG."""
    return b2 + (b1 - b2) / (1 + np.exp(-(x - b3) / np.abs(b4)))


def logistic5(x: np.ndarray, b1: float, b2: float, b3: float, b4: float, b5: float) -> np.ndarray:
    """b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5, a logistic with a linear part (Sheikh et al. 2006)."""
    return b1 * (0.5 - 1 / (1 + np.exp(b2 * (x - b3)))) + b4 * x + b5


def _starts(pred: np.ndarray, mos: np.ndarray, srcc: float) -> dict[Callable[..., Any], list[list[float]]]:
    high, low = (mos.max(), mos.min()) if not srcc < 0 else (mos.min(), mos.max())
    four = [high, low, pred.mean(), pred.std() / 4]
    # A logistic of five parameters stops in a local optimum more often than not: one start also lies where that of
    # four parameters would.
    steep = 1 / max(pred.std(), 1e-12)
    return {
        logistic4: [four, [*four[:3], pred.std()]],
        logistic5: [[mos.max(), 0.1, pred.mean(), 0.1, 0.1], [high - low, steep, pred.mean(), 0.0, mos.mean()]],
    }


def _fitted(
    form: Callable[..., Any], starts: Sequence[Sequence[float]], pred: np.ndarray, mos: np.ndarray
) -> dict[str, float]:
    """PLCC and RMSE after the least-squares fit of ``mos`` by ``form``, from the start that ends best; NaN if none
    ends.
    """
    best = None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for start in starts:
            try:
                parameters, _ = curve_fit(form, pred, mos, p0=start, maxfev=10_000)
            except (RuntimeError, ValueError, TypeError):
                continue
            fitted = form(pred, *parameters)
            if np.isfinite(fitted).all() and (best is None or _rmse(fitted, mos) < _rmse(best, mos)):
                best = fitted
    if best is None:
        return {"plcc": float("nan"), "rmse": float("nan")}
    return {"plcc": plcc(best, mos), "rmse": _rmse(best, mos)}


def _rmse(pred: np.ndarray, mos: np.ndarray) -> float:
    return float(np.sqrt(np.mean((pred - mos) ** 2)))


def _correlation(statistic: Callable[..., Any]) -> Callable[[Array, Array], float]:
    def correlation(pred: Array, mos: Array) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConstantInputWarning)
            return float(statistic(pred, mos).statistic)

    return correlation


srcc, plcc, krcc = map(_correlation, (spearmanr, pearsonr, kendalltau))


def correlations(pred: Array, mos: Array) -> dict[str, Any]:
    """How predicted scores (n,) follow mean opinion scores (n,), by the name of each measure.

    ``srcc`` (Spearman), ``plcc`` (Pearson) and ``krcc`` (Kendall's tau-b) are plain, as in the papers' code, and so is
    ``rmse``; ``logistic4`` and ``logistic5`` hold ``plcc`` and ``rmse`` after the fit of that name, as classic
    video-quality papers report them (it is monotone with four parameters, so SRCC and KRCC keep their size). ``n``
    counts. NaN where a correlation is not defined (constant scores; fewer scores than a fit has parameters). Raises
    ValueError for fewer than two scores, other lengths, or values that are not finite.
    """
    pred, mos = np.asarray(pred, float), np.asarray(mos, float)
    if pred.shape != mos.shape or pred.ndim != 1 or len(pred) < 2:
        raise ValueError(f"needs two equally long lists of two scores or more, not {pred.shape} and {mos.shape}")
    if not (np.isfinite(pred).all() and np.isfinite(mos).all()):
        raise ValueError("some scores are not finite; leave out what could not be read, and count it")
    result = {"srcc": srcc(pred, mos), "plcc": plcc(pred, mos), "krcc": krcc(pred, mos), "rmse": _rmse(pred, mos)}
    fits = {form.__name__: _fitted(form, s, pred, mos) for form, s in _starts(pred, mos, result["srcc"]).items()}
    return {**result, **fits, "n": len(pred)}


def preference_accuracy(human: Array, margin: Array, *, threshold: float | None = None) -> dict[str, Any]:
    """Pairwise accuracy against ``human`` (n,) in {1, 0, -1}: the first is better, a tie, the second is better.

    ``margin`` (n,) is the judge's score of the first video less that of the second, or p(first) - ½. With a tie
    wherever \\|margin\\| ≤ ε, accuracy counts a tie that people call a tie as right (Deutsch et al. 2023, acc_eq):

    - ``tau``: the best accuracy over all ε ≥ 0, calibrated on these very pairs, and ``threshold``, the smallest ε that
      gives it; or, with ``threshold`` given (calibrated on other pairs), the accuracy there;
    - ``accuracy``: the same at ε = 0;
    - ``diff``: right among the pairs without a human tie; a margin of 0 is wrong (``diff_zero_half``: counts ½);
    - ``correct``, ``n_non_tie``, ``human_ties``, ``model_zero`` (among non-ties) and ``n`` count.

    An accuracy of no pairs is NaN. Raises ValueError for other labels, other lengths, or margins that are not finite.
    """
    human, margin = np.asarray(human), np.asarray(margin, float)
    if human.shape != margin.shape or human.ndim != 1:
        raise ValueError(f"needs two equally long lists, not {human.shape} and {margin.shape}")
    if not np.isin(human, (-1, 0, 1)).all() or not np.isfinite(margin).all():
        raise ValueError("needs labels of 1, 0 and -1, and finite margins")
    tie, right, zero = human == 0, human * margin > 0, (human != 0) & (margin == 0)
    n, correct = len(human), int(right.sum())
    decided = n - int(tie.sum())
    epsilons, accuracies = _accuracy_by_threshold(tie, right, np.abs(margin))
    best = int(np.argmax(accuracies)) if n else 0
    tau = accuracies[best] if threshold is None else _ratio(np.where(np.abs(margin) <= threshold, tie, right).sum(), n)
    return {
        "tau": float(tau),
        "threshold": float(epsilons[best]) if threshold is None else float(threshold),
        "accuracy": float(accuracies[0]),
        "diff": _ratio(correct, decided),
        "diff_zero_half": _ratio(correct + 0.5 * zero.sum(), decided),
        "correct": correct,
        "n_non_tie": decided,
        "human_ties": int(tie.sum()),
        "model_zero": int(zero.sum()),
        "n": n,
    }


def held_out_right(human: Array, margin: Array, half: Array) -> tuple[np.ndarray, tuple[float, ...]]:
    """Whether each pair (n,) is right, 1 or 0, with a tie wherever \\|margin\\| ≤ ε for the ε that
    :func:`preference_accuracy` fits on the *other* half of the pairs, and the two thresholds: for half 0, and half 1.

    ``half`` (n,) holds 0 and 1. Where one half is empty there is nothing to fit on: none is right, and no threshold.
    ``tau`` is calibrated on the pairs that it measures, which flatters a judge with many ties; this is not.
    """
    human, margin, half = np.asarray(human), np.asarray(margin, float), np.asarray(half)
    right = np.zeros(len(human))
    thresholds: list[float] = []
    if len(np.unique(half)) < 2:
        return right, ()
    for own in (0, 1):
        threshold = preference_accuracy(human[half != own], margin[half != own])["threshold"]
        tied = np.abs(margin) <= threshold
        right[half == own] = np.where(tied, human == 0, human * margin > 0)[half == own]
        thresholds.append(threshold)
    return right, tuple(thresholds)


def _ratio(part: float, whole: int) -> float:
    return float(part / whole) if whole else float("nan")


def _accuracy_by_threshold(tie: np.ndarray, right: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every threshold that makes a difference, from 0 up, and the accuracy at each."""
    if not len(size):
        return np.zeros(1), np.full(1, np.nan)
    epsilons, group = np.unique(np.concatenate([[0.0], size]), return_inverse=True)
    # Beyond its own size a pair is a tie: it turns right if people say so, and ceases to be right if it was.
    gain = np.bincount(group[1:], weights=tie.astype(float) - right, minlength=len(epsilons))
    return epsilons, (right.sum() + np.cumsum(gain)) / len(size)


def position_consistency(forward: Sequence[Choice | None], backward: Sequence[Choice | None]) -> dict[str, Any]:
    """How a judge's choices depend on the order in which two videos are shown: two rates and two counts.

    ``forward`` are the positions that won when a pair was shown as it is, ``backward`` when its videos were swapped; a
    pair of which an answer could not be read (None) is left out and counted. ``consistency`` is the share of the others
    whose two answers name the same video (or both a tie); ``first_position_rate`` how often the video shown first won,
    among all answers with a winner, so 0.5 is fair. NaN of nothing.
    """
    mirrored: dict[Choice, Choice] = {"first": "second", "second": "first", "tie": "tie"}
    read: list[tuple[Choice, Choice]] = [
        (one, other) for one, other in zip(forward, backward, strict=True) if one is not None and other is not None
    ]
    agree = sum(one == mirrored[other] for one, other in read)
    rate = first_position_rate([*forward, *backward])
    return {
        "consistency": _ratio(agree, len(read)),
        "first_position_rate": math.nan if rate is None else rate,
        "n": len(read),
        "unreadable": len(forward) - len(read),
    }
