"""From a judge's answers on a benchmark to metrics with intervals. An answer that cannot be read is never a guess."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_model.datasets import PreferenceItem, QuestionItem, ScoredClip
from reward_model.measuring.prompted import by_split, within_prompts
from reward_model.metrics import (
    Array,
    bootstrap_interval,
    correlations,
    held_out_right,
    krcc,
    plcc,
    position_consistency,
    preference_accuracy,
    srcc,
)
from reward_model.parsing import parse_option, read_scores
from videoduet.records import Comparison, stable_id

PLAIN = {"SRCC": srcc, "PLCC": plcc, "KRCC": krcc}


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: ``resamples`` of the items, 95 %, from ``seed``."""

    resamples: int = 1000
    seed: int = 0

    def estimate(self, value: float, statistic: Callable[..., float], *samples: Array) -> dict[str, float]:
        """``value`` and its percentile interval."""
        low, high = bootstrap_interval(statistic, *samples, resamples=self.resamples, seed=self.seed)
        return {"value": value, "low": low, "high": high}


Scale = tuple[float, float]


def _scores_of(item: ScoredClip, text: str, scale: Scale | None) -> dict[str, float | None]:
    """The score an answer gives in each dimension; all None where one cannot be read, or is off the scale."""
    names = list(item.scores)
    found = read_scores(text, names if len(names) > 1 else (), scale)
    return dict.fromkeys(names) if found is None else dict(zip(names, found.values(), strict=True))


def evaluate_scores(
    items: Sequence[ScoredClip],
    answers: Sequence[str],
    bootstrap: Bootstrap = Bootstrap(),
    scale: Scale | None = None,
) -> dict[str, Any]:
    """SRCC, PLCC and KRCC by dimension, plain and PLCC after the logistic fits, on the answers that could be read.

    ``scale`` is what answers were asked for on (None: any number will do); one off the scale cannot be read.
    ``unreadable`` counts those that cannot; where they are many the correlations flatter the judge. Of generated videos
    ``splits`` and ``pairs_within_prompts`` say more (:mod:`reward_model.measuring.prompted`).
    """
    predicted = [_scores_of(item, text, scale) for item, text in zip(items, answers, strict=True)]
    dimensions = {}
    for name in items[0].scores:
        pairs = [(p[name], i.scores[name]) for p, i in zip(predicted, items, strict=True) if p[name] is not None]
        pred, mos = np.array(pairs).reshape(-1, 2).T
        if len(pairs) < 2:
            dimensions[name] = {"n": len(pairs)}
            continue
        result = correlations(pred, mos)
        dimensions[name] = {
            **{label: bootstrap.estimate(result[label.lower()], f, pred, mos) for label, f in PLAIN.items()},
            "PLCC after logistic4": result["logistic4"]["plcc"],
            "PLCC after logistic5": result["logistic5"]["plcc"],
            "n": result["n"],
        }
    found: dict[str, Any] = {"n": len(items), "unreadable": sum(None in p.values() for p in predicted)}
    if splits := by_split(items, predicted, bootstrap.seed):
        found["splits"] = splits
    if pairs := within_prompts(items, predicted):
        found["pairs_within_prompts"] = pairs
    return {"dimensions": dimensions, **found}


def margin_of(comparison: Comparison) -> float:
    """How much a judge prefers the first video, in [-½, ½]: p(first) - ½, or by its verdict where it gives no p.

    0 where it cannot be read: a tie, and wrong wherever people see a difference.
    """
    if comparison.p_first is not None:
        return comparison.p_first - 0.5
    if comparison.preferred_id is None:
        return 0.0
    return 0.5 if comparison.preferred_id == comparison.first_id else -0.5


def _accuracy(label: str) -> Callable[[Array, Array], float]:
    def accuracy(human: Array, margin: Array) -> float:
        return preference_accuracy(human, margin)[label]

    return accuracy


def evaluate_preferences(
    items: Sequence[PreferenceItem], comparisons: Sequence[Comparison], bootstrap: Bootstrap = Bootstrap()
) -> dict[str, Any]:
    """tau (tie-calibrated on these pairs) and diff against the overall preference, and consistency of position where
    pairs were shown in both orders. ``tau, held out`` calibrates ties on other prompts than it measures
    (:func:`held_out_right`), and is left out where all pairs have one prompt.

    Where the data set labels further dimensions, the same overall judgment is measured against each.
    """
    numbers = {"first": 1, "second": -1, "tie": 0}
    margins = np.array([margin_of(comparison) for comparison in comparisons])
    dimensions = {}
    for name in dict.fromkeys(name for item in items for name in item.preferred):
        labelled = np.array([name in item.preferred for item in items])
        human = np.array([numbers[item.preferred[name]] for item in items if name in item.preferred])
        result = preference_accuracy(human, margins[labelled])
        dimensions[name] = {
            label: bootstrap.estimate(result[label], _accuracy(label), human, margins[labelled])
            for label in ("tau", "diff")
        } | {key: result[key] for key in ("threshold", "accuracy", "human_ties", "n")}
        half = np.array([int(stable_id(item.prompt), 16) % 2 for item in items])[labelled]
        right, thresholds = held_out_right(human, margins[labelled], half)
        if thresholds:
            dimensions[name]["tau, held out"] = bootstrap.estimate(float(right.mean()), np.mean, right)
            dimensions[name] |= {f"threshold {place + 1}, held out": found for place, found in enumerate(thresholds)}
    found = {"n": len(items), "unreadable": sum(comparison.status == "unparsable" for comparison in comparisons)}
    verdicts = [(c.forward.verdict, c.backward.verdict) for c in comparisons if c.backward is not None]
    if not verdicts:
        return {"dimensions": dimensions, **found}
    return {"dimensions": dimensions, "position": position_consistency(*zip(*verdicts, strict=True)), **found}


def evaluate_questions(
    items: Sequence[QuestionItem], answers: Sequence[str], bootstrap: Bootstrap = Bootstrap()
) -> dict[str, Any]:
    """Accuracy by kind of question, by group and over all; an answer that cannot be read is wrong, and counted.

    ``chance`` is what guessing among the options would give.
    """
    said = [parse_option(text, item.options) for item, text in zip(items, answers, strict=True)]
    right = np.array([float(s == item.answer) for s, item in zip(said, items, strict=True)])
    kinds = np.array([item.kind for item in items])
    groups: Mapping[str, np.ndarray] = {kind: kinds == kind for kind in dict.fromkeys(kinds.tolist())}
    named = dict.fromkeys(name for item in items for name in item.groups)
    groups = {**groups, **{name: np.array([name in item.groups for item in items]) for name in named}}
    groups = {**groups, "overall": np.ones(len(items), dtype=bool)}
    chance = np.array([1 / len(item.options) for item in items])
    dimensions = {
        kind: {
            "accuracy": bootstrap.estimate(float(right[chosen].mean()), np.mean, right[chosen]),
            "chance": float(chance[chosen].mean()),
            "n": int(chosen.sum()),
        }
        for kind, chosen in groups.items()
    }
    return {"dimensions": dimensions, "n": len(items), "unreadable": said.count(None)}
