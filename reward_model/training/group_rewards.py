"""The rewards of a whole batch of rollouts: which parts of VQ-Insight's and VQAThinker's rewards a recipe uses, and how
they are made of groups.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_model.order_rewards import (
    discounted_label_reward,
    order_fidelity_reward,
    severity_margin_reward,
    severity_ranking_reward,
)
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
from reward_model.training.config import VERSIONS, RewardConfig

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


def shuffled(rollout: Rollout) -> bool:
    """Whether it answers about a shuffled version of a clip, which is a row of its own."""
    return rollout.right.get("severity", 0.0) > 0


def _number(text: str, scale: tuple[float, float], config: RewardConfig) -> float | None:
    """The score in an answer, by the rule that goes with the reward; released code knows no denominators."""
    if config.variant == "released":
        return first_number(text) if config.score == "bell" else parse_score(text)
    return parse_score(text, scale)


def task_reward(right: dict[str, Any], text: str, config: RewardConfig) -> float:
    """The reward for the answer itself, whatever the task: right or wrong, or how near."""
    if right["kind"] == "preference":
        return comparison_reward(parse_choice(text), right["preferred"])
    if right["kind"] == "question":
        return comparison_reward(parse_option(text, right["options"]), right["preferred"])
    scale = tuple(right["scale"])
    if right["kind"] == "score":
        value, target = _number(text, scale, config), right["target"]
        if config.score == "bell":
            return bell_shaped_reward(value, target, variant=config.variant)
        return score_reward(_near(value, target, scale, config), target, scale=scale, variant=config.variant)
    targets = right["targets"]
    released, names = config.variant == "released", list(targets)
    values = strict_scores(text, names) if released else parse_scores(text, names, scale)
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
    # A shuffled version of a clip has no label.
    accuracy = np.array(
        [[math.nan if shuffled(r) else task_reward(r.right, r.text, config) for r in group] for group in groups]
    )
    table = {"accuracy": accuracy, "format": np.array([[format_reward(r.text) for r in group] for group in groups])}
    if config.score == "none":
        scored = np.array([group[0].right["kind"] == "score" for group in groups])
        table["accuracy"] = np.where(scored[:, None], math.nan, accuracy)
    metrics: dict[str, float] = {}
    ranks = _rankings(groups, config, perturb=None) if config.ranking else None
    if ranks is not None:
        table["ranking"] = ranks
    if config.temporal in VERSIONS:
        table["temporal"], metrics = _versions(groups, config)
    elif config.temporal != "none":
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
        if config.temporal == "fidelity":
            shown = [_level(r.right, r.perturbed, config) for r in group if r.perturbed is not None]
            bonus[index] = order_fidelity_reward([_level(r.right, r.text, config) for r in group], shown)
            continue
        bonus[index] = 0.0
        if config.score == "bell":
            bonus[index] += _consistency(accuracy[index], other, "reg", config)
        if ranks is not None and not np.isnan(ranks[index]).any():
            bonus[index] += _consistency(ranks[index], _rankings(groups, config, perturb=index)[index], "rank", config)
    if not ordered:
        return bonus, {}
    return bonus, {"temporal/ordered": float(np.mean(ordered)), "temporal/perturbed": float(np.mean(shuffled))}


def _versions(groups: Sequence[Sequence[Rollout]], config: RewardConfig) -> tuple[np.ndarray, dict[str, float]]:
    """The reward of every response for where it puts its version of a clip among the others, or for the level that it
    puts it at, and the mean levels of clips as they are and shuffled. NaN where a clip has no versions.
    """
    bonus = np.full((len(groups), len(groups[0])), np.nan)
    clips: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        if "clip" in group[0].right:
            clips.setdefault(group[0].right["clip"], []).append(index)
    # A pair, or a question, says no level.
    levels = np.array(
        [[_level(r.right, r.text, config) if "clip" in r.right else None for r in group] for group in groups],
        dtype=float,
    )
    ordered: list[np.ndarray] = []
    other: list[np.ndarray] = []
    for members in clips.values():
        if len(members) == 1:
            continue
        rights = [groups[index][0].right for index in members]
        bonus[members] = _of_versions(levels[members], rights, config)
        ordered.append(levels[members[:1]])
        other.append(levels[members[1:]])
    if not ordered:
        return bonus, {}
    means = [np.nan_to_num(np.concatenate(found)).mean() for found in (ordered, other)]
    return bonus, {"temporal/ordered": float(means[0]), "temporal/perturbed": float(means[1])}


def _of_versions(levels: np.ndarray, rights: Sequence[dict[str, Any]], config: RewardConfig) -> np.ndarray:
    """The reward (V, K) of the responses to V versions of a clip, the clip as it is first, with their ``levels``."""
    severities = [right["severity"] for right in rights]
    if config.temporal != "discount":
        return (severity_margin_reward if config.temporal == "margin" else severity_ranking_reward)(levels, severities)
    # What the clip as it is should get, its label says.
    bonus, label = np.full(levels.shape, np.nan), _label(rights[0])
    for version in range(1, len(rights)):
        bonus[version] = discounted_label_reward(levels[version], label, severities[version])
    return bonus


def _label(right: dict[str, Any]) -> float:
    """The level that the label of a clip says."""
    level = _of_scale({"": right["target"]} if right["kind"] == "score" else right["targets"], right["scale"])
    assert level is not None, "labels are numbers"
    return level


def _level(right: dict[str, Any], text: str | None, config: RewardConfig) -> float | None:
    """What an answer says of a clip, in [0, 1]: its score, or that of its temporal quality, or the mean of several."""
    scale = tuple(right["scale"])
    if right["kind"] == "score":
        values = {"": _number(text or "", scale, config)}
    else:
        values = parse_scores(text or "", list(right["targets"]), scale) or {}
    return _of_scale(values, scale)


def _of_scale(values: Mapping[str, float | None], scale: Sequence[float]) -> float | None:
    counted = [value for name, value in values.items() if name == "temporal" or "temporal" not in values]
    told = [value for value in counted if value is not None]
    if not told:
        return None
    return min(max((sum(told) / len(told) - scale[0]) / (scale[1] - scale[0]), 0.0), 1.0)


def _ranked(text: str, right: dict[str, Any], config: RewardConfig) -> float | None:
    """The score that an answer is ranked by. Off the scale it is none, as in measuring: the farthest would win."""
    low, high = right["scale"]
    value = _near(_number(text, (low, high), config), right["target"], right["scale"], config)
    return value if value is None or config.variant == "released" or low <= value <= high else None


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
    scored = [i for i, group in enumerate(groups) if group[0].right["kind"] == "score" and not shuffled(group[0])]
    for dataset in {groups[index][0].right["dataset"] for index in scored}:
        chosen = [index for index in scored if groups[index][0].right["dataset"] == dataset]
        rights = [groups[index][0].right for index in chosen]
        targets = [right["target"] for right in rights]
        predictions = [
            [_ranked(text or "", right, config) for text in texts[index]]
            for index, right in zip(chosen, rights, strict=True)
        ]
        predictions = np.array(predictions, dtype=float)
        ranks[chosen] = pairwise_ranking_reward(predictions, targets, variant=config.variant)
    return ranks
