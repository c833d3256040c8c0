"""Readers of AIGVQA-DB (AIGV-Assessor, Wang et al. 2025): scores by dimension, prompts, and pairs with a preference."""

import re
from collections import Counter, defaultdict
from pathlib import Path

from reward_model.datasets.files import MediaFolder, Row, Scores, required, rows, tables
from reward_model.datasets.items import PreferenceItem, Reading, ScoredClip, Split
from reward_model.parsing import Choice
from reward_model.presets import ASSESSED
from videoduet.errors import InputError

PERCENT = (0.0, 100.0)
DIMENSIONS = ASSESSED
"""What AIGVQA-DB rates, in the order of its files (mos1 to mos4)."""
_CHOICES: dict[str, Choice] = {
    "first": "first", "second": "second", "tie": "tie", "1": "first", "2": "second", "0": "tie",
}  # fmt: skip
_SPLIT = re.compile(r"_(train|test)$")


def read_aigvqa_db(folder: Path, split: Split) -> Reading:
    """AIGVQA-DB's scores: a JSON Lines file for each dimension, ``mydata_mos1_train.jsonl`` to ``mos4`` as released, or
    named after the dimension.

    A row's ``id`` is ``100000.mp4->60.97``, the video and its score in 0-100, and ``video`` its path, which tells it
    from those of other models that have the name. Files named after a split make that split. ``prompts.csv`` (video,
    prompt) says what a video, or all videos of a name, were prompted with; without it the name groups them.
    """
    files, told = _files(folder, split)
    media, reader, prompts = MediaFolder(folder), Scores(PERCENT), _prompts(folder)
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    names: dict[str, None] = {}
    for path in files:
        dimension = _dimension(path)
        names[dimension] = None
        for row in rows(path, ("id",)):
            name, arrow, score = str(row["id"]).partition("->")
            if not arrow:
                raise InputError(
                    f"{row.place}: the id {row['id']!r} has no score; it should be like 100000.mp4->60.97."
                )
            found = reader.read(Row({"id": score}, row.place), {dimension: "id"})
            scores[str(row["video"]) if "video" in row else name].update(found or {})
    clips: list[ScoredClip] = []
    partial, same = 0, Counter(Path(video).name for video in scores)
    for video, values in scores.items():
        if len(values) < len(names):
            partial += 1
        # Where models share a name, the folder above tells them apart.
        elif (file := media.find(video, least=min(2, same[Path(video).name]))) is not None:
            clips.append(ScoredClip(path=file, scores=values, prompt=_prompt(prompts, video)))
    reading = Reading("AIGVQA-DB", split, clips, PERCENT, media.missing, reader.left_out, told)
    if partial:
        reading.left_out["videos without a score in every dimension"] = partial
    return reading


def _files(folder: Path, split: Split) -> tuple[list[Path], bool]:
    """The files of a split, and whether they are the authors' own: else everything, of which a split is made here."""
    found = [path for path in required("AIGVQA-DB", folder, "*.jsonl") if not path.stem.startswith("pairs")]
    own = [path for path in found if path.stem.endswith(f"_{split}")]
    return (own, True) if own else (found, False)


def _dimension(path: Path) -> str:
    """What a file rates: one of :data:`DIMENSIONS` by its number, else what it is called."""
    stem = _SPLIT.sub("", path.stem).removeprefix("mydata_")
    if numbered := re.fullmatch(r"mos([1-4])", stem):
        return DIMENSIONS[int(numbered[1]) - 1]
    return stem


def _prompts(folder: Path) -> dict[str, str]:
    return {
        str(row["video"]).removesuffix(".mp4"): str(row["prompt"])
        for path in tables(folder, "prompts.csv")
        for row in rows(path, ("video", "prompt"))
    }


def _prompt(prompts: dict[str, str], video: str) -> str | None:
    """The prompt of a video by as much of the end of its path as is known."""
    parts = Path(video.removesuffix(".mp4")).parts
    endings = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((prompts[ending] for ending in endings if ending in prompts), None)


def read_aigvqa_pairs(folder: Path, split: Split) -> Reading:
    """AIGVQA-DB's pairs: ``pairs*.csv`` or ``pairs*.jsonl`` with first, second, perhaps prompt, and a column for each
    of its dimensions that was asked for: first, second or tie (or 1, 2 and 0); an empty one was not.
    """
    files = required("AIGVQA-DB pairs", folder, "pairs*.csv", "pairs*.jsonl")
    own = [path for path in files if path.stem.endswith(f"_{split}")]
    media, prompts, unlabelled = MediaFolder(folder), _prompts(folder), 0
    found = [row for path in own or files for row in rows(path, ("first", "second"))]
    named = {str(row[side]) for row in found for side in ("first", "second")}
    same = Counter(Path(video).name for video in named)
    pairs: list[PreferenceItem] = []
    for row in found:
        preferred = _preferred(row)
        if not preferred:
            unlabelled += 1
            continue
        videos = [str(row[side]) for side in ("first", "second")]
        first, second = (media.find(video, least=min(2, same[Path(video).name])) for video in videos)
        if first is not None and second is not None:
            prompt = row.get("prompt") or _prompt(prompts, videos[0]) or ""
            pairs.append(PreferenceItem(first=first, second=second, prompt=str(prompt), preferred=preferred))
    reading = Reading("AIGVQA-DB pairs", split, pairs, missing=media.missing, published_split=bool(own))
    if unlabelled:
        reading.left_out["pairs without a preference"] = unlabelled
    return reading


def _preferred(row: Row) -> dict[str, Choice]:
    """What was preferred, by dimension. Raises InputError for a label that is none."""
    found: dict[str, Choice] = {}
    for column, value in row.items():
        if column in ("first", "second", "prompt", "model_first", "model_second") or value is None or value == "":
            continue
        if str(value).strip().lower() not in _CHOICES:
            raise InputError(f"{row.place}: {column} is {value!r}, not first, second or tie; mend the row.")
        found[column] = _CHOICES[str(value).strip().lower()]
    return found
