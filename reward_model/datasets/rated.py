"""Raw ratings to a data set: MOS by video and dimension, who was left out, and ten splits by prompt and by video."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_model.datasets.config import RatingsConfig
from reward_model.datasets.rating_tables import ABOUT, RatingTable, read_ratings
from reward_model.datasets.ratings import mean_opinion_scores, rescaled_scores, screened
from reward_model.datasets.splits import random_splits, shared_prompts
from videoduet.intervals import NORMAL_95
from videoduet.store import write_bytes, write_json
from videoduet.tables import csv_lines


def process_ratings(config: RatingsConfig) -> dict[str, Any]:
    """What is written to ``results.json``; ``MOS.csv`` and ``splits.json`` are written beside it.

    ``MOS.csv`` has a row for each video that has a score in every dimension, and is read as data set ``own_ratings``.
    Raises InputError where the ratings cannot be used.
    """
    table = read_ratings(config.ratings, config.scale, config.dimensions)
    screening = config.screening == "bt500"
    scores = {name: mean_opinion_scores(ratings, screening=screening) for name, ratings in table.ratings.items()}
    whole = [place for place in range(len(table.videos)) if all(np.isfinite(mos[place]) for mos in scores.values())]
    output = Path(config.output)
    write_bytes(output / "MOS.csv", "".join(_lines(table, scores, whole)).encode())
    videos = [table.videos[place] for place in whole]
    prompts = [table.about[video].get("prompt") or Path(video).stem for video in videos]
    splits = _splits(videos, prompts, config.seed)
    write_json(output / "splits.json", splits)
    results = {
        "dimensions": {name: _worth(table, name, screening) for name in scores},
        "videos": len(whole),
        "without_every_dimension": [table.videos[i] for i in sorted(set(range(len(table.videos))) - set(whole))],
        "bad_rows": list(table.bad),
        "splits": {
            by: {"test_videos": _mean([len(test) for test in found["test"]]), "shared": _mean(found["shared"])}
            for by, found in splits.items()
        },
    }
    write_json(output / "results.json", results)
    return results


def _worth(table: RatingTable, name: str, screening: bool) -> dict[str, Any]:
    """Who rated a dimension, and how sure its scores are: half the width of their 95 % intervals, on average."""
    ratings = table.ratings[name]
    rated = np.isfinite(ratings).any(axis=1)
    rejected = screened(ratings) & rated
    scores = rescaled_scores(ratings)
    alike = np.asarray(rated & ~np.isfinite(scores).any(axis=1))
    kept = scores[~rejected] if screening else scores
    return {
        "subjects": int(rated.sum()),
        "rejected": _chosen(table.subjects, rejected) if screening else [],
        "would_be_rejected": [] if screening else _chosen(table.subjects, rejected),
        "rated_everything_alike": _chosen(table.subjects, alike),
        "ratings": int(np.isfinite(kept).sum()),
        "half_interval": _half_interval(kept),
    }


def _chosen(names: Sequence[str], chosen: NDArray[np.bool_]) -> list[str]:
    return [name for name, is_chosen in zip(names, chosen.tolist(), strict=True) if is_chosen]


def _half_interval(scores: NDArray[np.float64]) -> float:
    counts = np.sum(np.isfinite(scores), axis=0)
    columns = np.flatnonzero(counts > 1)
    halves = [NORMAL_95 * float(np.nanstd(scores[:, i], ddof=1)) / float(np.sqrt(counts[i])) for i in columns]
    return _mean(halves)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _lines(table: RatingTable, scores: dict[str, NDArray[np.float64]], places: Sequence[int]) -> list[str]:
    told = [name for name in ABOUT[1:] if any(name in about for about in table.about.values())]
    rows = [
        {"video": table.videos[place], **table.about[table.videos[place]]}
        | {name: repr(float(mos[place])) for name, mos in scores.items()}
        for place in places
    ]
    return list(csv_lines(["video", *told, *scores], rows))


def _splits(videos: Sequence[str], prompts: Sequence[str], seed: int) -> dict[str, dict[str, list[Any]]]:
    found: dict[str, dict[str, list[Any]]] = {}
    for by, groups in (("prompt", prompts), ("video", videos)):
        tests = random_splits(groups, seed=seed) if videos else []
        found[by] = {
            "test": [[videos[place] for place in test] for test in tests],
            "shared": [shared_prompts(prompts, test) for test in tests],
        }
    return found
