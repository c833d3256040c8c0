"""A leaderboard of generators: a judge scores or compares their videos, shard by shard."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from reward_model.judging.batch import Judgements, ask_pairs, ask_videos, judge_in_shards
from reward_model.measuring.board_videos import BoardVideo, board_videos
from reward_model.measuring.config import LeaderboardConfig
from reward_model.measuring.leaderboard import ALL, compared_table, leaderboard, score_tables, win_table
from videoduet.errors import InputError
from videoduet.loading import loading
from videoduet.store import read_json, write_json


def board(config: LeaderboardConfig, folder: str) -> tuple[dict[str, Any], list[BoardVideo], Judgements] | None:
    """What is written to ``leaderboard.json``, the videos, and what was said of them; None for all processes but the
    first. Raises InputError where nothing can be judged.
    """
    others = [_other(Path(path)) for path in config.beside]
    videos, unknown = board_videos(folder, config.prompts)
    if config.ask == "compare":
        found = judge_in_shards(config, "compare", _pairs(videos), ask_pairs)
    else:
        shown = [(video.path, video.prompt.text) for video in videos]
        found = judge_in_shards(config, "score", shown, ask_videos("score"))
    if found is None:
        return None
    if config.ask == "compare":
        scores, wins = {}, {ALL: compared_table(videos, found.rows)}
    else:
        scores = score_tables(videos, {row["video"]: scores_of(row) for row in found.rows})
        wins = {name: win_table(table) for name, table in scores.items()}
    if not wins:
        raise InputError(f"None of the {len(videos)} videos has a score that can be read; is this judge made to score?")
    result = leaderboard(videos, scores, wins, resamples=config.resamples, seed=config.seed)
    result |= {"judge": config.judge, "asked": config.ask, "without_prompt": unknown, "not_judged": found.failures,
               "beside": others}  # fmt: skip
    if config.output is not None:
        write_json(Path(config.output) / "leaderboard.json", result)
    return result, videos, found


def scores_of(row: dict[str, Any]) -> dict[str, float]:
    """The scores in a row by dimension; of a judge with one alone it is 'overall', and none where it has none."""
    if row["score"] is None:
        return {}
    return {each["name"]: each["value"] for each in row["dimensions"]} or {ALL: row["score"]}


def _other(path: Path) -> dict[str, Any]:
    """What another leaderboard says: whose it is, and the win rates by dimension and generator."""
    with loading(f"The leaderboard {path} cannot be read", "give a leaderboard.json that this command wrote."):
        found = read_json(path)
        rates = {
            # What is no number lies there as null.
            name: {m: told["win_rate"] for m, told in rows.items() if told["win_rate"]["value"] is not None}
            for name, rows in found["dimensions"].items()
        }
        return {"judge": found["judge"], "win_rates": rates}


def _pairs(videos: Sequence[BoardVideo]) -> list[tuple[str, str, str]]:
    """Every two generators' videos of a prompt, sample by sample: as many as both have."""
    by_name: dict[str, dict[str, list[BoardVideo]]] = {}
    for video in videos:
        by_name.setdefault(video.name, {}).setdefault(video.model, []).append(video)
    return [
        (one.path, other.path, one.prompt.text)
        for models in by_name.values()
        for first, second in combinations(models.values(), 2)
        for one, other in zip(first, second, strict=False)
    ]
