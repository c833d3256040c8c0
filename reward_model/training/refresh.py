"""The judge's refresh: what it learns from a round's videos, and whether the learned judge is kept (VQ-Insight, stage
3).
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reward_model.judging.base import PairwiseJudge
from reward_model.metrics import position_consistency
from reward_model.parsing import Choice
from videoduet.errors import InputError
from videoduet.records import Comparison, LabelledPair, Prompt, Video, VideoPair
from videoduet.seeding import seed_for
from videoduet.store import parse_json
from videoduet.tables import read_lines


def read_labelled_pairs(path: str | Path) -> list[LabelledPair]:
    """The labelled pairs in JSON Lines of ``{"prompt", "first", "second", "preferred"}``, with absolute paths; in the
    file they are relative to it.

    ``preferred`` is 'first' or 'second'. Raises InputError naming the line that cannot be used.
    """
    path, pairs = Path(path), []
    folder = path.parent.absolute()
    if not path.exists():
        raise InputError(f"Labelled pairs {path} do not exist; check the path.")
    try:
        lines = read_lines(path)
    except (OSError, ValueError) as error:
        raise InputError(f"Labelled pairs {path} cannot be read ({error}); give JSON Lines in UTF-8.") from error
    if not lines:
        raise InputError(f"Labelled pairs {path} are empty; give at least one line.")
    for number, line in enumerate(lines, 1):
        try:
            pairs.append(_labelled(parse_json(line), path.stem, folder))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}, line {number}: cannot be used ({error}); give prompt, first, second, preferred."
            ) from error
    return pairs


def _labelled(row: Mapping[str, Any], source: str, folder: Path) -> LabelledPair:
    for key in ("prompt", "first", "second", "preferred"):
        if not isinstance(row[key], str) or (key == "preferred" and row[key] not in ("first", "second")):
            raise ValueError(f"{key} is {row[key]!r}")
    first, second = (Video(id=f"{source}/{row[side]}", path=str(folder / row[side])) for side in ("first", "second"))
    return LabelledPair(
        prompt=Prompt.of(row["prompt"]), first=first, second=second, preferred=row["preferred"], source=source
    )


def best_by_knockout(
    judge: PairwiseJudge, prompts: Mapping[str, Prompt], videos: Mapping[str, Sequence[Video]]
) -> tuple[dict[str, Video], list[Comparison]]:
    """The best video of each prompt by ``judge``, with N - 1 comparisons instead of N(N-1)/2, and those comparisons.

    Losers go out; where the judge does not decide, the video with the higher probability stays (the earlier one, if
    none is given). All prompts play each stage at once, in one call of the judge.
    """
    alive = {prompt_id: list(group) for prompt_id, group in videos.items() if group}
    played: list[Comparison] = []
    while any(len(group) > 1 for group in alive.values()):
        pairs = [
            VideoPair(prompt=prompts[prompt_id], first=group[index], second=group[index + 1])
            for prompt_id, group in alive.items()
            for index in range(0, len(group) - 1, 2)
        ]
        results = {(c.prompt_id, c.first_id, c.second_id): c for c in judge.compare(pairs)}
        played += results.values()
        for prompt_id, group in alive.items():
            alive[prompt_id] = [
                _winner(one, other, results.get((prompt_id, one.id, other.id))) if other else one
                for one, other in itertools.zip_longest(group[::2], group[1::2])
            ]
    return {prompt_id: group[0] for prompt_id, group in alive.items()}, played


def _winner(first: Video, second: Video, comparison: Comparison | None) -> Video:
    if comparison is None:
        return first
    if comparison.preferred_id is not None:
        return first if comparison.preferred_id == first.id else second
    return second if comparison.p_first is not None and comparison.p_first < 0.5 else first


def labels_from(
    comparisons: Iterable[Comparison], prompts: Mapping[str, Prompt], videos: Mapping[str, Video], source: str
) -> list[LabelledPair]:
    """Labelled pairs from comparisons that were decided in both orders; the others are never a label."""
    return [
        LabelledPair(
            prompt=prompts[comparison.prompt_id],
            first=videos[comparison.first_id],
            second=videos[comparison.second_id],
            preferred="first" if comparison.preferred_id == comparison.first_id else "second",
            source=source,
        )
        for comparison in comparisons
        if comparison.preferred_id is not None
    ]


def mixture(
    new: Sequence[LabelledPair],
    within: Sequence[LabelledPair],
    original: Sequence[LabelledPair],
    *,
    share: float,
    seed: int,
) -> list[LabelledPair]:
    """Training pairs: all ``new`` (across versions), as many ``within`` one version, and ``share`` of the original
    data.
    """
    rng = np.random.default_rng(seed_for(seed, "mixture"))

    def draw(pairs: Sequence[LabelledPair], count: int) -> list[LabelledPair]:
        return [pairs[index] for index in rng.permutation(len(pairs))[:count]]

    generated = [*new, *draw(within, len(new))]
    count = round(share / (1 - share) * len(generated)) if share < 1 else len(original)
    pairs = [*generated, *draw(original, count)]
    return [pairs[index] for index in rng.permutation(len(pairs))]


def accuracy(judge: PairwiseJudge, pairs: Sequence[LabelledPair]) -> dict[str, float | int | None]:
    """How a judge does on labelled pairs.

    ``accuracy`` counts an abstention ½; ``decided_accuracy`` leaves abstentions out (None: nothing decided);
    ``abstention`` is their share; ``first_position_rate`` how often the position shown first won; ``n`` the number of
    pairs.
    """
    labels = {(pair.prompt.id, pair.first.id, pair.second.id): pair.preferred for pair in pairs}
    right = decided = 0
    shown: list[tuple[Choice | None, Choice | None]] = []
    for comparison in judge.compare([pair.pair for pair in pairs]):
        label = labels[comparison.prompt_id, comparison.first_id, comparison.second_id]
        if comparison.preferred_id is not None:
            decided += 1
            right += (comparison.preferred_id == comparison.first_id) == (label == "first")
        backward = comparison.backward and comparison.backward.verdict
        shown.append((comparison.forward.verdict, backward))
    total = len(pairs)
    first = position_consistency(*zip(*shown, strict=True))["first_position_rate"] if shown else math.nan
    return {
        "accuracy": (right + 0.5 * (total - decided)) / total if total else None,
        "decided_accuracy": right / decided if decided else None,
        "abstention": 1 - decided / total if total else None,
        "first_position_rate": None if math.isnan(first) else first,
        "n": total,
    }
