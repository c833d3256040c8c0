"""The rewards of a whole batch of rollouts: which parts of VQ-Insight's and VQAThinker's rewards a recipe uses, and how
they are made of groups.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_model.parsing import first_number, parse_choice, parse_option, parse_score, parse_scores, strict_scores
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
)
from reward_model.training.config import RewardConfig

SCORING = ("score", "dimensions")
"""Tasks whose answer is a score; shuffled frames are shown for these alone, as two shuffled videos have no label."""


@dataclass(frozen=True)
class Rollout:
    """One response: what would be right (:func:`reward_model.judging.tasks.right_answer`, with ``dataset`` and
    ``scale``), its text, its length in tokens, and the text of the response to the perturbed video (None: there is
    none).
    """

    right: dict[str, Any]
    text: str
    length: int
    perturbed: str | None = None


def _number(text: str, scale: tuple[float, float], config: RewardConfig) -> float | None:
    """The score in an answer, by the rule that goes with the reward; released code knows no denominators."""
    if config.variant == "released":
        return first_number(text) if config.score == "bell" else parse_score(text)
    return parse_score(text, scale)


def task_reward(right: dict[str, Any], text: str, config: RewardConfig) -> float:
    """The reward for the answer itself, whatever the task: right or wrong, or how near; NaN: it earns nothing."""
    if right["kind"] == "preference":
        return comparison_reward(parse_choice(text), right["preferred"])
    if right["kind"] == "question":
        return comparison_reward(parse_option(text, right["options"]), right["preferred"])
    scale = tuple(right["scale"])
    if right["kind"] == "score":
        if config.score == "none":
            return math.nan
        value, target = _number(text, scale, config), right["target"]
        if config.score == "bell":
            return bell_shaped_reward(value, target, variant=config.variant)
        return score_reward(_near(value, target, scale, config), target, scale=scale, variant=config.variant)
    targets = right["targets"]
    values = (strict_scores if config.variant == "released" else parse_scores)(text, list(targets))
    if values is not None:
        values = {name: _near(value, targets[name], scale, config) for name, value in values.items()}
    weights = None if config.dimension_weight is None else dict.fromkeys(targets, config.dimension_weight)
    return multi_dimension_reward(values, targets, weights=weights, scale=scale, variant=config.variant)


def _near(value: float | None, target: float, scale: tuple[float, float], config: RewardConfig) -> float | None:
    """``value``, moved to within a whole scale of ``target``: an error counts at most the whole scale.

    The printed formulas do not clip: one absurd number would cost any amount, and the spread of its group, by which
    advantages are divided, would hide what sets the other answers apart. The released ones stay as they are.
    """
    if value is None or config.variant == "released":
        return value
    span = scale[1] - scale[0]
    return min(max(value, target - span), target + span)


def reward_table(
    rollouts: Sequence[Rollout], config: RewardConfig, num_generations: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Every reward (N,) of a batch by name, and what is worth logging.

    ``rollouts`` are all of the batch's, groups of ``num_generations`` one after the other. NaN where a reward does not
    apply to a task.
    """
    groups = [rollouts[start : start + num_generations] for start in range(0, len(rollouts), num_generations)]
    accuracy = np.array([[task_reward(r.right, r.text, config) for r in group] for group in groups])
    table = {"accuracy": accuracy, "format": np.array([[format_reward(r.text) for r in group] for group in groups])}
    metrics: dict[str, float] = {}
    ranks = _rankings(groups, config, perturb=None) if config.ranking else None
    if ranks is not None:
        table["ranking"] = ranks
    if config.temporal != "none":
        table["temporal"], metrics = _temporal(groups, accuracy, ranks, config)
    if config.length:
        table["length"] = np.stack(
            [
                length_control_reward(
                    [r.length for r in g], a, l_min=config.l_min, l_max=config.l_max, variant=config.variant
                )
                for g, a in zip(groups, accuracy, strict=True)
            ]
        )
    return {name: table[name].reshape(-1) for name in config.columns}, metrics


def _temporal(
    groups: Sequence[Sequence[Rollout]], accuracy: np.ndarray, ranks: np.ndarray | None, config: RewardConfig
) -> tuple[np.ndarray, dict[str, float]]:
    """The bonus for being better on the video than on its perturbed version, and both accuracies."""
    bonus = np.full(accuracy.shape, np.nan)
    ordered: list[float] = []
    shuffled: list[float] = []
    for index, group in enumerate(groups):
        other = [task_reward(r.right, r.perturbed, config) for r in group if r.perturbed is not None]
        if not other:
            continue
        ordered.append(accuracy[index].mean())
        shuffled.append(float(np.mean(other)))
        if config.temporal == "modeling":
            bonus[index] = temporal_modeling_reward(accuracy[index], other, variant=config.variant)
            continue
        bonus[index] = 0.0
        if config.score == "bell":
            bonus[index] += _consistency(accuracy[index], other, "reg", config)
        if ranks is not None and not np.isnan(ranks[index]).any():
            bonus[index] += _consistency(ranks[index], _rankings(groups, config, perturb=index)[index], "rank", config)
    if not ordered:
        return bonus, {}
    return bonus, {"temporal/ordered": float(np.mean(ordered)), "temporal/perturbed": float(np.mean(shuffled))}


def _consistency(kept: np.ndarray, perturbed: Sequence[float], kind: str, config: RewardConfig) -> np.ndarray:
    tau = {"tau": RELEASED_TAU[kind]} if config.variant == "released" else {}
    return temporal_consistency_reward(kept, perturbed, variant=config.variant, **tau)


def _rankings(groups: Sequence[Sequence[Rollout]], config: RewardConfig, perturb: int | None) -> np.ndarray:
    """Ranking rewards (B, K) among the scored groups of each data set; NaN for other tasks.

    ``perturb`` is a group that is scored by its answers to the perturbed video while the others keep theirs; in the
    released code all are.
    """
    released = perturb is not None and config.variant == "released"
    texts = [
        [r.perturbed if released or index == perturb else r.text for r in group] for index, group in enumerate(groups)
    ]
    ranks = np.full((len(groups), len(groups[0])), np.nan)
    scored = [index for index, group in enumerate(groups) if group[0].right["kind"] == "score"]
    for dataset in {groups[index][0].right["dataset"] for index in scored}:
        chosen = [index for index in scored if groups[index][0].right["dataset"] == dataset]
        rights = [groups[index][0].right for index in chosen]
        targets = [right["target"] for right in rights]
        predictions = [
            [
                _near(_number(text or "", right["scale"], config), right["target"], right["scale"], config)
                for text in texts[index]
            ]
            for index, right in zip(chosen, rights, strict=True)
        ]
        predictions = np.array(predictions, dtype=float)
        ranks[chosen] = pairwise_ranking_reward(predictions, targets, variant=config.variant)
    return ranks
