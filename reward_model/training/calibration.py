"""How sure a judge can be of the difference of two of its scores, from videos whose scores are known."""

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reward_model.judging.config import SURE
from reward_model.training.assessor_loss import AssessorLoss

LEAST = 8
"""Pairs without which nothing is said."""


def calibrate(lesson: AssessorLoss, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """``margins`` and ``slope`` of the difference of two mean scores (0 to 100), as :func:`measured` says, on
    held-out ``rows``, each of which is looked at alone.
    """
    lesson.eval()
    given, true, groups = [], [], []
    with torch.no_grad():
        for row in rows:
            known = np.isfinite(row["target"])
            given.append(100 * float(np.mean(lesson.scores([row])[0].cpu().numpy()[known])))
            true.append(100 * float(np.mean(np.asarray(row["target"])[known])))
            groups.append(row["text"])
    return measured(np.array(given), np.array(true), groups)


def measured(given: NDArray[np.float64], true: NDArray[np.float64], groups: Sequence[str]) -> dict[str, Any]:
    """``margins`` by how sure they are: within how many points so many of the differences of ``given`` scores lie of
    those of ``true`` ones (conformal: Vovk et al. 2005), where there are enough of them to say; a difference beyond it
    is a preference that can be relied on. ``slope``: by how many logits a point makes the better score likelier to be
    the better video (maximum likelihood).

    Differences are of videos of one group, or of any two where fewer than ``LEAST`` pairs share one; {} where there are
    too few of these, too.
    """
    by_group: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        by_group[group].append(place)
    pairs = [pair for places in by_group.values() for pair in itertools.combinations(places, 2)]
    pairs = pairs if len(pairs) >= LEAST else list(itertools.combinations(range(len(groups)), 2))
    if len(pairs) < LEAST:
        return {}
    first, second = np.array(pairs).T
    gaps, wanted = given[first] - given[second], true[first] - true[second]
    errors = np.sort(np.abs(gaps - wanted))
    # The quantile of n errors and one more, which few errors have only of what is less sure.
    places = {sure: math.ceil(sure * (len(errors) + 1)) for sure in SURE}
    margins = {f"{sure:g}": float(errors[place - 1]) for sure, place in places.items() if place <= len(errors)}
    clear = wanted != 0
    return {"margins": margins, "slope": _slope(np.where(wanted > 0, gaps, -gaps)[clear])}


def _slope(gaps: NDArray[np.float64]) -> float:
    """The k that makes ``gaps`` towards the better video likeliest under P = sigmoid(k gap), by bisection."""
    low, high = 1e-6, 10.0

    def rising(k: float) -> bool:
        return float(np.sum(gaps / (1 + np.exp(np.clip(k * gaps, -500, 500))))) > 0

    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if rising(middle) else (low, middle)
    return low
