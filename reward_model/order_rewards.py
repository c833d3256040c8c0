"""Rewards that teach a judge to see time: what it says of a clip against what it says of the clip with its frames
shuffled, which needs no label.

They are this project's own, built of VQAThinker's ranking. :func:`order_fidelity_reward` is for the responses to the
ordered clip alone; the rankings and the margin reward the responses to the shuffled versions too, for *lower* scores;
:func:`discounted_label_reward` is for those to the versions alone. Scores that cannot be read (None or NaN) earn 0 and
count in no mean.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from reward_model.rewards import Scores, pairwise_ranking_reward

ALPHA = 0.3
"""The most a response earns, as both papers have it for theirs."""


def order_fidelity_reward(
    scores: Scores, shuffled_scores: Scores, *, alpha: float = ALPHA, epsilon: float = 1e-6
) -> np.ndarray:
    """α √p (K,) for p = Φ((s_i - μ_shuffled) / √(σ² + σ²_shuffled + ε)), the probability that response i is above the
    shuffled clip under Thurstone's model.

    ``scores`` (K,) are those of the ordered clip, ``shuffled_scores`` (any number of) those of the shuffled one. Where
    none of these can be read, nothing is earned.
    """
    own, other = np.array(scores, dtype=float), np.array(shuffled_scores, dtype=float)
    known, kept = np.isfinite(own), other[np.isfinite(other)]
    if not len(kept) or not known.any():
        return np.zeros(len(own))
    spread = np.sqrt(_variance(own[known]) + _variance(kept) + epsilon)
    distance: np.ndarray = (np.where(known, own, 0.0) - float(kept.mean())) / spread
    p = np.asarray(norm.cdf(distance), dtype=float)
    return np.where(known, alpha * np.sqrt(p), 0.0)


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def severity_ranking_reward(
    scores: Sequence[Scores] | np.ndarray, severities: Sequence[float], *, alpha: float = ALPHA
) -> np.ndarray:
    """α times how well each response ranks its version of a clip among the others (V, K), the least shuffled first.

    ``scores`` (V, K) are those of V versions, ``severities`` (V,) how much each is shuffled. The fidelity is
    :func:`reward_model.rewards.pairwise_ranking_reward`'s; of two versions alone it is the contrast of one with the
    other.
    """
    return alpha * pairwise_ranking_reward(scores, [-severity for severity in severities])


def severity_margin_reward(
    scores: Sequence[Scores] | np.ndarray, severities: Sequence[float], *, margin: float = 0.25, alpha: float = ALPHA
) -> np.ndarray:
    """α times the share of the wanted distance that each response keeps from the other versions of its clip (V, K).

    ``scores`` (V, K) lie in [0, 1]; two versions whose ``severities`` differ by d should differ by ``margin`` d. A
    response is compared with the other versions' means, and the shares, cut to [0, 1], are averaged. What is far enough
    apart earns all there is: unlike a rank, it does not drive scores to the ends of the scale.
    """
    given, severity = np.array(scores, dtype=float), np.asarray(severities, float)
    known = np.isfinite(given)
    count = known.sum(1)
    mean = np.where(known, given, 0.0).sum(1) / np.maximum(count, 1)
    wanted = margin * (severity[None, :] - severity[:, None])  # (own, other): positive where the own is shuffled less
    distance = (np.where(known, given, 0.0)[:, :, None] - mean) / np.where(wanted == 0, 1.0, wanted)[:, None, :]
    others = (count > 0)[None, :] & (wanted != 0)
    share = (distance.clip(0, 1) * others[:, None, :]).sum(2) / np.maximum(others.sum(1), 1)[:, None]
    return np.where(known, alpha * share, 0.0)


def discounted_label_reward(scores: Scores, target: float, severity: float, *, discount: float = 0.5) -> np.ndarray:
    """1 - |s_k - (1 - ``discount`` ``severity``) ``target``| (K,): what each response to a shuffled version earns.

    ``scores`` (K,) and ``target``, the label of the clip as it is, lie in [0, 1]. The version counts as a clip with a
    label of its own, lower by a share of the clip's: of two clips the better one stays the better one when both are
    shuffled, and nobody is paid for praising the clip as it is, which its label alone is for. A distance that is wanted
    between the two (:func:`severity_margin_reward`) pays more for raising a clip that is bad by its label, 0.3 / 0.25
    of the distance, than the label's ℓ1 takes.
    """
    given = np.array(scores, dtype=float)
    known = np.isfinite(given)
    return np.where(known, 1.0 - np.abs(np.where(known, given, 0.0) - (1.0 - discount * severity) * target), 0.0)
