"""Readers of data sets of pairs of generated videos with people's preference."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from reward_model.datasets.files import MediaFolder, Row, required, rows
from reward_model.datasets.items import PreferenceItem, Reading, Split
from reward_model.parsing import Choice
from videoduet.errors import InputError

_STANDARD: dict[str, Choice] = {"video1": "first", "video2": "second", "tie": "tie"}
_REWARD_BENCH: dict[str, Choice] = {"A": "first", "B": "second", "same": "tie"}
_VOTES: dict[str, Choice] = {
    "leftvote": "first", "rightvote": "second", "tievote": "tie", "bothbad_vote": "tie",
}  # fmt: skip
REWARD_BENCH_DIMENSIONS = {"overall": "Overall", "visual": "VQ", "motion": "MQ", "alignment": "TA"}


def _pair(
    media: MediaFolder, first: str, second: str, prompt: str, preferred: Mapping[str, Choice]
) -> PreferenceItem | None:
    first_file, second_file = media.find(first), media.find(second)
    if first_file is None or second_file is None:
        return None
    return PreferenceItem(first=first_file, second=second_file, prompt=prompt, preferred=dict(preferred))


def _label(names: Mapping[str, Choice], row: Row, column: str) -> Choice:
    if row[column] not in names:
        raise InputError(f"{row.place}: {column} is {row[column]!r}, not one of {', '.join(names)}; mend the row.")
    return names[row[column]]


def _standard_answers(name: str, folder: Path, split: str, *patterns: str) -> Reading:
    media = MediaFolder(folder)
    pairs: list[PreferenceItem | None] = []
    for path in required(name, folder, *patterns):
        for row in rows(path, ("video1_path", "video2_path", "prompt", "standard_answer")):
            label: dict[str, Choice] = {"overall": _label(_STANDARD, row, "standard_answer")}
            pairs.append(_pair(media, row["video1_path"], row["video2_path"], row["prompt"], label))
    return Reading(name, split, [pair for pair in pairs if pair], missing=media.missing)


def read_vision_reward_pairs(folder: Path, split: Split) -> Reading:
    """VisionRewardDB-Video (Xu et al. 2024), the 1,795 pairs of its configuration ``regression``."""
    return _standard_answers("VisionRewardDB-Video", folder, split, "regression/*.parquet")


def read_monetbench(folder: Path, split: Split) -> Reading:
    """MonetBench (Xu et al. 2024), video: 1,000 pairs with ties, the folder ``monetbench`` of VisionRewardDB-Video."""
    return _standard_answers("MonetBench", folder, split, "monetbench/*.parquet", "test*.parquet")


def read_genai_bench(folder: Path, split: Split) -> Reading:
    """GenAI-Bench (Jiang et al. 2024), video generation: votes left, right, tie or both bad, which counts as a tie.

    ``data.json`` as UnifiedReward hands it on (video_left, video_right: file names), or the parquet files of the
    configuration ``video_generation`` (left_video, right_video: addresses, whose last part is the file's name).
    """
    paths = required("GenAI-Bench", folder, "data.json", "test-*.parquet", "test_v1*.parquet")
    sides = ("video_left", "video_right") if paths[0].suffix.lower() == ".json" else ("left_video", "right_video")
    media = MediaFolder(folder)
    pairs: list[PreferenceItem | None] = []
    for path in paths:
        for row in rows(path, (*sides, "prompt", "vote_type")):
            first, second = (PurePosixPath(str(row[side])).name for side in sides)
            label: dict[str, Choice] = {"overall": _label(_VOTES, row, "vote_type")}
            pairs.append(_pair(media, first, second, row["prompt"], label))
    return Reading("GenAI-Bench", split, [pair for pair in pairs if pair], missing=media.missing)


def read_reward_bench(folder: Path, split: Split) -> Reading:
    """VideoGen-RewardBench (Liu et al. 2025): 26.5k pairs by 12 models; overall, visual, motion and alignment.

    A dimension that is not A, B or same ('invalid') has no label; a pair without an overall one is left out.
    """
    (path, *_) = required("VideoGen-RewardBench", folder, "*.csv")
    media, unlabelled = MediaFolder(folder), 0
    pairs: list[PreferenceItem | None] = []
    for row in rows(path, ("path_A", "path_B", "prompt", *REWARD_BENCH_DIMENSIONS.values())):
        label: dict[str, Choice] = {
            dimension: _REWARD_BENCH[row[column]]
            for dimension, column in REWARD_BENCH_DIMENSIONS.items()
            if row[column] in _REWARD_BENCH
        }
        if "overall" not in label:
            unlabelled += 1
        else:
            pairs.append(_pair(media, row["path_A"], row["path_B"], row["prompt"], label))
    reading = Reading("VideoGen-RewardBench", split, [pair for pair in pairs if pair], missing=media.missing)
    if unlabelled:
        reading.left_out["pairs without an overall preference"] = unlabelled
    return reading
