"""Readers of data sets of generated videos with mean opinion scores in several dimensions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from reward_model.datasets.files import MediaFolder, Row, Scores, label_lines, required, rows
from reward_model.datasets.items import Reading, ScoredClip, Split
from videoduet.errors import InputError

PERCENT = (0.0, 100.0)
VIDEO_FEEDBACK_DIMENSIONS = (
    "visual quality", "temporal consistency", "dynamic degree", "text-to-video alignment", "factual consistency",
)  # fmt: skip
_LGVQ_COLUMNS = {"spatial": "spatial", "temporal": "temporal", "consistency": "alignment"}


def _scored(
    name: str,
    split: str,
    found: Sequence[Row],
    media: MediaFolder,
    *,
    video: str,
    prompt: str,
    columns: Mapping[str, str],
    scale: tuple[float, float],
) -> Reading:
    clips: list[ScoredClip] = []
    reader = Scores(scale)
    for row in found:
        if (scores := reader.read(row, columns)) is None:
            continue
        if (file := media.find(row[video])) is not None:
            clips.append(ScoredClip(path=file, scores=scores, prompt=row[prompt]))
    return Reading(name, split, clips, scale, media.missing, reader.left_out)


def read_lgvq(folder: Path, split: Split) -> Reading:
    """LGVQ (Zhang et al. 2024): 2,808 videos of 468 prompts by 6 models; spatial, temporal and alignment scores, 0-100.

    ``MOS.csv`` with columns video, prompt, spatial, temporal and alignment. 'consistency' is what VQ-Insight's prompt
    calls the alignment of text and video.
    """
    (path, *_) = required("LGVQ", folder, "MOS.csv")
    found = rows(path, ("video", "prompt", *_LGVQ_COLUMNS.values()))
    return _scored(
        "LGVQ", split, found, MediaFolder(folder),
        video="video", prompt="prompt", columns=_LGVQ_COLUMNS, scale=PERCENT,
    )  # fmt: skip


def read_video_feedback(folder: Path, split: Split) -> Reading:
    """VideoFeedback (He et al. 2024): 32.9k / 680 annotated videos, five aspects from 1 to 4.

    Parquet or JSON of the ``annotated`` configuration, files named after their split; a row's video is ``{id}.mp4``.
    """
    if split not in ("train", "test"):
        raise InputError(f"VideoFeedback has no split {split!r}; take train or test.", exit_code=2)
    paths = required("VideoFeedback", folder, f"{split}*.parquet", f"*{split}*.json")
    found = [row for path in paths for row in rows(path, ("id", "text prompt", *VIDEO_FEEDBACK_DIMENSIONS))]
    columns = {dimension: dimension for dimension in VIDEO_FEEDBACK_DIMENSIONS}
    return _scored(
        "VideoFeedback", split, found, MediaFolder(folder),
        video="id", prompt="text prompt", columns=columns, scale=(1.0, 4.0),
    )  # fmt: skip


def read_t2vqa_db(folder: Path, split: Split) -> Reading:
    """T2VQA-DB (Kou et al. 2024): 10,000 videos by 9 models; ``info.txt`` of file|prompt|mos, scores 0-100."""
    (path, *_) = required("T2VQA-DB", folder, "info.txt", "*.txt")
    found = list(label_lines(path, "|", ("file", "prompt", "overall")))
    return _scored(
        "T2VQA-DB", split, found, MediaFolder(folder),
        video="file", prompt="prompt", columns={"overall": "overall"}, scale=PERCENT,
    )  # fmt: skip


def read_aigvqa_db(folder: Path, split: Split) -> Reading:
    """AIGVQA-DB (Wang et al. 2025): 36,576 videos by 15 models; one JSON Lines file for each dimension, named after it.

    A row's ``id`` is ``100000.mp4->60.97``: the video, and its score in 0-100. The files hold no prompts.
    """
    media, reader = MediaFolder(folder), Scores(PERCENT)
    scores: dict[str, dict[str, float]] = {}
    files = required("AIGVQA-DB", folder, "*.jsonl")
    for path in files:
        for row in rows(path, ("id",)):
            video, arrow, score = str(row["id"]).partition("->")
            if not arrow:
                raise InputError(
                    f"{row.place}: the id {row['id']!r} has no score; it should be like 100000.mp4->60.97."
                )
            found = reader.read(Row({"id": score}, row.place), {path.stem: "id"})
            scores.setdefault(video, {}).update(found or {})
    names = [path.stem for path in files]
    clips: list[ScoredClip] = []
    partial = 0
    for video, values in scores.items():
        if len(values) < len(names):
            partial += 1
        elif (file := media.find(video)) is not None:
            clips.append(ScoredClip(path=file, scores=values))
    reading = Reading("AIGVQA-DB", split, clips, PERCENT, media.missing, reader.left_out)
    if partial:
        reading.left_out["videos without a score in every dimension"] = partial
    return reading
