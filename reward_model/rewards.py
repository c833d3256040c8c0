"""Rewards for GRPO, as pure functions of parsed answers. Names and formulas follow the papers.

``variant="paper"`` (the default) is the printed formula; ``variant="released"`` is what the authors' public code does
where it differs; ``variant="literal"`` reads a temporal reward's means as one decision about the whole group, which
teaches nothing (:func:`temporal_consistency_reward`), and is "paper" for all else. An answer that could not be read is
None: it earns what the worst answer that can be read does (:func:`unreadable_reward`), in any variant. Rewards of one
answer are floats; rewards that depend on the whole group of responses are arrays (K,) of float64.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeVar

import numpy as np
from scipy.special import ndtr

from reward_model.parsing import keeps_format
from videoduet.intervals import Array

Value = TypeVar("Value")
Variant = Literal["paper", "released", "literal"]
Scores = Sequence[float | None] | np.ndarray
PERCENT = (0.0, 100.0)
"""The scale that the natural-video and multi-dimension prompts of VQ-Insight ask for."""
RELEASED_TAU = {"rank": 0.5, "reg": 0.9}
"""The thresholds that VQAThinker's code has in place of τ, for each type of reward."""

_SMOOTHING = 1e-9
_CORRECT = 0.1


def format_reward(text: str) -> float:
    """1.0 where a completion is ``<think>…</think><answer>…</answer>`` from its first character to its last, else 0.0.

    VQ-Insight's and VQAThinker's format reward, as released: it says nothing about what is inside the tags.
    """
    return float(keeps_format(text))


def comparison_reward(choice: str | None, preferred: str) -> float:
    """1.0 where the choice is the right one, else 0.0 (VQ-Insight, eq. 7).

    ``choice`` is a video ('first', 'second'), 'yes' or 'no', or a multiple-choice option; None earns nothing.
    """
    return float(choice == preferred)


def unreadable_reward(
    weights: Mapping[str, float] | Sequence[float] | None = None, *, variant: Variant = "paper"
) -> float:
    """What an answer earns that cannot be read: the least that one on the scale can, and never more than 0.

    That is 0 for one number, a choice, or dimensions that weigh 1/M each (``weights`` None), and 1 - Σ_j λ_j for
    dimensions that weigh more (VQ-Insight, eq. 6; -2 for the paper's three of λ_j = 1): at 0, gibberish would beat an
    honest answer that is far off. Released: 0, the least of its mean of relative errors.
    """
    if weights is None or variant == "released":
        return 0.0
    return min(0.0, 1.0 - sum(weights.values() if isinstance(weights, Mapping) else weights))


def score_reward(
    predicted: float | None, target: float, *, scale: tuple[float, float] = PERCENT, variant: Variant = "paper"
) -> float:
    """1 - |predicted - target|, both normalised to [0, 1] by the range ``scale`` of the scores (VQ-Insight, eq. 3).

    The paper does not clip, so a prediction outside of the scale earns less than 0. Released: the relative error,
    1 - min(1, |p - g| / |g|), with 1e-9 added to both, on any scale; an exact 0 earns 0 there.
    """
    if predicted is None or not math.isfinite(predicted):
        return 0.0
    error = abs(predicted - target)
    if variant == "released":
        return 1.0 - min(1.0, (error + _SMOOTHING) / (abs(target) + _SMOOTHING))
    return 1.0 - error / (scale[1] - scale[0])


def multi_dimension_reward(
    predicted: Mapping[str, float | None] | Scores | None,
    target: Mapping[str, float] | Sequence[float],
    *,
    weights: Mapping[str, float] | Sequence[float] | None = None,
    scale: tuple[float, float] = PERCENT,
    variant: Variant = "paper",
) -> float:
    """1 - Σ_j λ_j |predicted_j - target_j|, normalised as in :func:`score_reward` (VQ-Insight, eq. 6).

    ``weights`` are the λ_j (None: 1/M each, so that the reward of M dimensions lies where that of one does; the paper
    trains with λ_j = 1). Mappings are matched by key. Where a dimension is missing, the answer is unreadable
    (:func:`unreadable_reward`). Released: the mean of the dimensions' relative errors, whatever the weights.
    """
    names: Sequence[Any] = list(target) if isinstance(target, Mapping) else range(len(target))
    values = _aligned(predicted, names)
    if values is None:
        return unreadable_reward(weights, variant=variant)
    share = (
        [1 / len(names)] * len(names)
        if weights is None or variant == "released"
        else [_at(weights, name) for name in names]
    )
    rewards = [
        score_reward(value, _at(target, name), scale=scale, variant=variant)
        for name, value in zip(names, values, strict=True)
    ]
    return 1.0 - sum(weight * (1.0 - reward) for weight, reward in zip(share, rewards, strict=True))


def _aligned(predicted: Mapping[str, float | None] | Scores | None, names: Sequence[Any]) -> list[float] | None:
    if predicted is None or len(predicted) < len(names):
        return None
    values = [predicted.get(name) if isinstance(predicted, Mapping) else _at(predicted, name) for name in names]
    found = [value for value in values if value is not None and math.isfinite(value)]
    return found if len(found) == len(values) else None


def _at(values: Mapping[Any, Value] | Sequence[Value] | np.ndarray, name: Any) -> Value:
    """What ``values`` holds under a key, or at an index."""
    if isinstance(values, Mapping):
        return values[name]
    index: int = name
    return values[index]


def temporal_modeling_reward(
    accuracies: Sequence[float],
    shuffled_accuracies: Sequence[float],
    *,
    alpha: float = 0.3,
    mu: float = 0.8,
    variant: Variant = "paper",
) -> np.ndarray:
    """α to response i where w_i > μ w_rand, else 0 (VQ-Insight, eq. 4, whose w carry the response's index).

    ``accuracies`` (K,) are the task rewards of the responses to the ordered frames: w_i is response i's own.
    ``shuffled_accuracies`` (any number of) are those to shuffled frames, and w_rand is their mean, as no shuffled
    response belongs to response i. Both stand in for probabilities, so they are cut to [0, 1]: a negative bar would be
    *lower* times μ than alone. Literal: the means of both, one bonus for the whole group, which GRPO's own mean takes
    away. Released: the means, w_seq ≥ μ w_rand, and only to responses whose own accuracy is above 0.1.
    """
    ordered, shuffled = (np.clip(np.asarray(found, float), 0, 1) for found in (accuracies, shuffled_accuracies))
    bar = mu * shuffled.mean()
    if variant == "released":
        return alpha * (ordered.mean() >= bar) * (ordered > _CORRECT)
    if variant == "literal":
        return np.full(len(ordered), alpha * (ordered.mean() > bar))
    return alpha * (ordered > bar)


def length_control_reward(
    lengths: int | Sequence[int],
    accuracies: Sequence[float] | None = None,
    *,
    gamma: float | None = None,
    l_min: int = 320,
    l_max: int = 512,
    variant: Variant = "paper",
) -> np.ndarray:
    """γ = 0.1 where l_min < length < l_max, right or wrong, else 0 (VQ-Insight, eq. 5); lengths are in tokens.

    Released: γ = 0.2 where l_min ≤ length ≤ l_max and the response's accuracy is above 0.1, if at least two responses
    of the group are above that; needs ``accuracies`` (K,). Raises ValueError without them.
    """
    tokens = np.asarray(lengths)
    if variant == "released":
        if accuracies is None:
            raise ValueError("the released length reward depends on the accuracies of the group; give them")
        correct = np.asarray(accuracies, float) > _CORRECT
        within = (l_min <= tokens) & (tokens <= l_max)
        return (0.2 if gamma is None else gamma) * (within & correct & (correct.sum() >= 2))
    return (0.1 if gamma is None else gamma) * ((l_min < tokens) & (tokens < l_max))


def bell_shaped_reward(
    predicted: float | None, target: float, *, alpha: float = 0.8, sigma: float = 0.5, variant: Variant = "paper"
) -> float:
    """α exp(-(s - g)² / 2σ²) on the 1-5 scale (VQAThinker, eq. 5: the regression reward).

    Released: α only where the answer has fewer than two decimals once trailing zeros are gone (3.50 has one), else 1.
    """
    if predicted is None or not math.isfinite(predicted):
        return 0.0
    bell = math.exp(-((predicted - target) ** 2) / (2 * sigma**2))
    if variant == "released":
        exponent = Decimal(repr(float(predicted))).normalize().as_tuple().exponent
        if isinstance(exponent, int) and exponent <= -2:
            return bell
    return alpha * bell


def pairwise_ranking_reward(
    predictions: Sequence[Scores] | np.ndarray,
    targets: Sequence[float],
    *,
    epsilon: float = 1e-6,
    ddof: int = 1,
    variant: Variant = "paper",
) -> np.ndarray:
    """How well each response ranks its video among the others of the batch (B, K) (VQAThinker, eq. 6, with its p).

    ``predictions`` (B, K) are K scores of each of B videos, ``targets`` (B,) their true ones, all on one scale. Under
    Thurstone's model response k of video i lies above video j with p = Φ((s_ik - μ_j) / √(σ²_i + σ²_j + ε)); the
    reward is the fidelity √(p 1[g_i > g_j] + ε) + √((1 - p) 1[g_i < g_j] + ε), averaged over the other videos.
    ``ddof=1`` takes unbiased variances, as the code does, 0 those of the population. Equal targets earn 2√ε in the
    paper and count as one half in the code.

    Unreadable answers (None or NaN) earn 0 and count in no mean; a video alone earns 0, as there is nothing to rank.
    """
    scores, truth = np.array(predictions, dtype=float), np.asarray(targets, float)
    readable = np.isfinite(scores)
    count = readable.sum(1)
    known = np.where(readable, scores, 0.0)
    mean = known.sum(1) / np.maximum(count, 1)
    variance = (np.where(readable, known - mean[:, None], 0.0) ** 2).sum(1) / np.maximum(count - ddof, 1)
    spread = np.sqrt(variance[:, None] + variance[None, :] + epsilon)
    gap: np.ndarray = (known[:, :, None] - mean) / spread[:, None, :]
    p = ndtr(gap)
    above = np.sign(truth[:, None] - truth[None, :])[:, None, :]
    up, down = ((1 + above) / 2, (1 - above) / 2) if variant == "released" else (above > 0, above < 0)
    fidelity = np.sqrt(p * up + epsilon) + np.sqrt((1 - p) * down + epsilon)
    opponents = (count > 0)[None, :] & ~np.eye(len(truth), dtype=bool)
    total = (fidelity * opponents[:, None, :]).sum(2) / np.maximum(opponents.sum(1), 1)[:, None]
    return np.where(readable, total, 0.0)


def temporal_consistency_reward(
    rewards: Array,
    perturbed_rewards: Array,
    *,
    delta: float = 0.3,
    tau: float = 0.5,
    variant: Variant = "paper",
) -> np.ndarray:
    """δ to response k where its reward is at least the mean of its video's perturbed version, and above τ, else 0.

    VQAThinker, eq. 8, for one type of reward (regression or ranking); eq. 9 is the sum over both types. Literal: eq. 8
    prints means on both sides, so that all responses of a group get the same; an advantage is a response's reward less
    its group's mean, so that teaches nothing. Released: the means decide, and each response's own reward must be above
    the threshold, which is ``RELEASED_TAU`` there.
    """
    kept, perturbed = np.asarray(rewards, float), np.asarray(perturbed_rewards, float)
    bar = perturbed.mean()
    if variant == "released":
        return delta * ((kept.mean() >= bar) & (kept > tau))
    if variant == "literal":
        return np.full(len(kept), delta * float(kept.mean() >= bar and kept.mean() > tau))
    return delta * ((kept >= bar) & (kept > tau))
