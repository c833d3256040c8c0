"""How generators stand: mean score and win rate by dimension and by category of prompt, with intervals by prompts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_model.measuring.board_videos import CATEGORIES, BoardVideo

Table = NDArray[np.float64]
"""(prompts, generators), NaN where a generator has nothing for a prompt."""
ALL = "overall"


def score_tables(videos: Sequence[BoardVideo], scores: Mapping[str, Mapping[str, float]]) -> dict[str, Table]:
    """Scores by dimension, the mean over samples; ``scores`` are by path. 'overall' is the mean of all dimensions."""
    dimensions = list(dict.fromkeys(name for video in videos for name in scores.get(video.path, {})))
    tables = {name: _mean_table(videos, {p: s[name] for p, s in scores.items() if name in s}) for name in dimensions}
    if len(tables) > 1 and ALL not in tables:
        tables[ALL] = np.mean(list(tables.values()), axis=0)
    return tables


def win_table(scores: Table) -> Table:
    """Of each generator and prompt the part of the others that it beats: a higher score wins, an equal one counts ½."""
    higher = np.where(scores[:, :, None] > scores[:, None, :], 1.0, np.where(scores[:, :, None] == scores[:, None, :],
                      0.5, 0.0))  # fmt: skip
    both = np.isfinite(scores)[:, :, None] & np.isfinite(scores)[:, None, :] & ~np.eye(scores.shape[1], dtype=bool)
    return _ratio(np.where(both, higher, 0).sum(axis=2), both.sum(axis=2))


def compared_table(videos: Sequence[BoardVideo], rows: Sequence[Mapping[str, Any]]) -> Table:
    """The same from comparisons (first, second, preferred, status): a tie, or orders that disagree, count ½, and an
    answer that could not be read counts for nothing.
    """
    place = _places(videos)
    wins, counts = np.zeros(place.shape), np.zeros(place.shape)
    for row in rows:
        if row["status"] == "unparsable":
            continue
        for side in ("first", "second"):
            where = place.of[row[side]]
            wins[where] += 0.5 if row["preferred"] is None else float(row["preferred"] == side)
            counts[where] += 1
    return _ratio(wins, counts)


class _places:
    """Where a video stands in a table, by its path."""

    def __init__(self, videos: Sequence[BoardVideo]):
        names, models = names_of(videos), models_of(videos)
        rows, columns = ({key: place for place, key in enumerate(keys)} for keys in (names, models))
        self.shape = (len(names), len(models))
        self.of = {video.path: (rows[video.name], columns[video.model]) for video in videos}


def names_of(videos: Sequence[BoardVideo]) -> list[str]:
    """The names of the prompts: the rows of a table."""
    return list(dict.fromkeys(video.name for video in videos))


def models_of(videos: Sequence[BoardVideo]) -> list[str]:
    """The generators: the columns of a table."""
    return list(dict.fromkeys(video.model for video in videos))


def _mean_table(videos: Sequence[BoardVideo], scores: Mapping[str, float]) -> Table:
    place = _places(videos)
    sums, counts = np.zeros(place.shape), np.zeros(place.shape)
    for video in videos:
        if video.path in scores:
            sums[place.of[video.path]] += scores[video.path]
            counts[place.of[video.path]] += 1
    return _ratio(sums, counts)


def _ratio(parts: Table, wholes: NDArray[Any]) -> Table:
    return np.where(wholes > 0, parts / np.maximum(wholes, 1), np.nan)


def estimates(table: Table, resamples: int = 1000, seed: int = 0) -> list[dict[str, float]]:
    """Of each generator the mean over its prompts, ``value``, ``low`` and ``high`` of the 95 % percentile interval from
    resampling prompts (the same for all generators), and how many ``prompts`` it has; NaN where there is nothing.
    """
    known = np.isfinite(table)
    filled = np.where(known, table, 0)
    even = np.full(len(table), 1 / len(table))
    draws = np.random.default_rng(seed).multinomial(len(table), even, size=resamples).astype(np.float64)
    means = _ratio(draws @ filled, draws @ known)
    values, found = _ratio(filled.sum(axis=0), known.sum(axis=0)), list[dict[str, float]]()
    for column in range(table.shape[1]):
        replicates = means[np.isfinite(means[:, column]), column]
        low, high = np.percentile(replicates, [2.5, 97.5]) if len(replicates) else (np.nan, np.nan)
        found.append({"value": float(values[column]), "low": float(low), "high": float(high),
                      "prompts": int(known[:, column].sum())})  # fmt: skip
    return found


def leaderboard(
    videos: Sequence[BoardVideo],
    scores: Mapping[str, Table],
    wins: Mapping[str, Table],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """How generators stand: ``models``, best first by their win rate over all dimensions; ``dimensions`` and
    ``categories`` (by kind and value) with the score, where there is one, and the win rate of each.
    """
    models, names = models_of(videos), names_of(videos)
    prompts = {video.name: video.prompt for video in videos}

    def rows(name: str, chosen: NDArray[np.bool_]) -> dict[str, dict[str, dict[str, float]]]:
        tables = {"score": scores.get(name), "win_rate": wins.get(name)}
        made = {what: estimates(t[chosen], resamples, seed) for what, t in tables.items() if t is not None}
        return {model: {what: of[place] for what, of in made.items()} for place, model in enumerate(models)}

    every = np.ones(len(names), dtype=bool)
    dimensions = {name: rows(name, every) for name in wins}
    summary = ALL if ALL in wins else next(iter(wins))
    categories: dict[str, dict[str, Any]] = {}
    for kind in CATEGORIES:
        of = [prompts[name].categories.get(kind, ()) for name in names]
        for value in sorted({value for values in of for value in values}):
            chosen = np.array([value in values for values in of])
            categories.setdefault(kind, {})[value] = {"prompts": int(chosen.sum()), "models": rows(summary, chosen)}
    best = sorted(models, key=lambda model: -np.nan_to_num(dimensions[summary][model]["win_rate"]["value"], nan=-1))
    return {"models": best, "summary": summary, "dimensions": dimensions, "categories": categories,
            "prompts": len(names), "videos": len(videos)}  # fmt: skip
