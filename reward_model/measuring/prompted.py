"""What scores of generated videos are worth by split and within prompts, where a data set says what was prompted."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from reward_model.datasets import PreferenceItem, ScoredClip
from reward_model.datasets.splits import prompt_of, random_splits, shared_prompts, video_of
from reward_model.metrics import krcc, plcc, preference_accuracy, srcc

Scores = Mapping[str, float | None]
"""A video's scores by dimension; None where an answer could not be read."""
Measure = Callable[[Sequence[float], Sequence[float]], float]
MEASURES: dict[str, Measure] = {"SRCC": srcc, "PLCC": plcc, "KRCC": krcc}


def by_split(items: Sequence[ScoredClip], predicted: Sequence[Scores], seed: int = 0) -> dict[str, Any]:
    """The mean over ten random test fifths, by prompt and by video (AIGV-Assessor, section 5.1): ``dimensions`` with
    SRCC, PLCC and KRCC by name, and ``shared``, the part of test videos whose prompt is trained on as well.

    A judge that was not trained on the rest measures alike by both; one that was looks better by video, which leaks.
    Empty where no two videos share a prompt.
    """
    prompts = [prompt_of(item) for item in items]
    if len(set(prompts)) in (1, len(prompts)) or any(item.prompt is None for item in items):
        return {}
    found: dict[str, Any] = {}
    for by, groups in (("prompt", prompts), ("video", [video_of(item) for item in items])):
        splits = random_splits(groups, seed=seed)
        found[by] = {
            "shared": float(np.mean([shared_prompts(prompts, test) for test in splits])),
            "dimensions": {
                name: {
                    label: _mean([_measured(measure, items, predicted, name, test) for test in splits])
                    for label, measure in MEASURES.items()
                }
                for name in items[0].scores
            },
        }
    return found


def _measured(
    measure: Measure, items: Sequence[ScoredClip], predicted: Sequence[Scores], name: str, test: Sequence[int]
) -> float:
    read = [(place, score) for place in test if (score := predicted[place][name]) is not None]
    if len(read) < 2:
        return float("nan")
    return measure([score for _, score in read], [items[place].scores[name] for place, _ in read])


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def within_prompts(items: Sequence[ScoredClip], predicted: Sequence[Scores]) -> dict[str, dict[str, float]]:
    """Pair accuracy by dimension: of every two videos of one prompt that people score differently, how often the one
    with the higher mean opinion score is scored higher, ``accuracy``, of ``n``; equal scores count as wrong.

    Empty where nothing says what was prompted, or no two videos share a prompt.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        if item.prompt is not None:
            groups[item.prompt].append(place)
    pairs = [pair for places in groups.values() for pair in combinations(places, 2)]
    found: dict[str, dict[str, float]] = {}
    for name in items[0].scores if pairs else ():
        margins: list[tuple[float, float]] = []
        for first, second in pairs:
            one, other = predicted[first][name], predicted[second][name]
            if one is not None and other is not None:
                margins.append((items[first].scores[name] - items[second].scores[name], one - other))
        human, margin = np.array(margins).reshape(-1, 2).T
        result = preference_accuracy(np.sign(human).astype(int), margin)
        found[name] = {"accuracy": result["diff"], "n": result["n_non_tie"]}
    return found


def pair_accuracy_of_scores(
    items: Sequence[PreferenceItem], scores: Mapping[str, Scores]
) -> dict[str, dict[str, float]]:
    """Pair accuracy by dimension of scores (by path of the video) on pairs that people judged, as AIGV-Assessor's table
    3 has it: ``accuracy`` over the ``n`` pairs without a tie. A pair without both scores is left out of ``n``.
    """
    numbers = {"first": 1, "second": -1, "tie": 0}
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(name for item in items for name in item.preferred):
        rows: list[tuple[int, float]] = []
        for item in items:
            one, other = (scores.get(path, {}).get(name) for path in (item.first, item.second))
            if name in item.preferred and one is not None and other is not None:
                rows.append((numbers[item.preferred[name]], one - other))
        human, margin = np.array(rows, dtype=float).reshape(-1, 2).T
        result = preference_accuracy(human.astype(int), margin)
        found[name] = {"accuracy": result["diff"], "n": result["n_non_tie"]}
    return found
