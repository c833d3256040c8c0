"""Readers of data sets of generated videos with mean opinion scores in several dimensions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reward_model.datasets.files import MediaFolder, Row, Scores, label_lines, required, rows, tables
from reward_model.datasets.items import Reading, ScoredClip, Split
from videoduet.errors import InputError
from videoduet.store import parse_json
from videoduet.tables import read_lines

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
    prompt: str | None,
    columns: Mapping[str, str],
    scale: tuple[float, float],
) -> Reading:
    clips: list[ScoredClip] = []
    reader = Scores(scale)
    for row in found:
        if (scores := reader.read(row, columns)) is None:
            continue
        if (file := media.find(row[video])) is not None:
            clips.append(ScoredClip(path=file, scores=scores, prompt=row[prompt] if prompt else None))
    return Reading(name, split, clips, scale, media.missing, reader.left_out)


def read_lgvq(folder: Path, split: Split) -> Reading:
    """LGVQ (Zhang et al. 2024): 2,808 videos of 468 prompts by 6 models; spatial, temporal and alignment scores, 0-100.

    ``MOS.csv`` with columns video, prompt, spatial, temporal and alignment; where it also has a column split (train or
    test), or ``train.csv`` and ``test.csv`` lie there with the same columns, the authors' own split is read.
    'consistency' is what VQ-Insight's prompt calls the alignment of text and video.
    """
    own = tables(folder, f"{split}.csv") if split != "all" else []
    (path, *_) = own or required("LGVQ", folder, "MOS.csv")
    found = rows(path, ("video", "prompt", *_LGVQ_COLUMNS.values()))
    told = not own and split != "all" and "split" in found[0]
    reading = _scored(
        "LGVQ", split, [row for row in found if _split_of(row) == split] if told else found, MediaFolder(folder),
        video="video", prompt="prompt", columns=_LGVQ_COLUMNS, scale=PERCENT,
    )  # fmt: skip
    return replace(reading, published_split=bool(own) or told)


def _split_of(row: Row) -> str:
    if (split := str(row["split"]).strip().lower()) not in ("train", "test"):
        raise InputError(f"{row.place}: split is {row['split']!r}, not train or test; repair or remove the row.")
    return split


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
    """T2VQA-DB (Kou et al. 2024): 10,000 videos by 9 models; ``info.txt`` of file|prompt|mos, scores 0-100.

    Without it the only other text is read. The Sora test, which nothing is trained on, never is.
    """
    return _t2vqa("T2VQA-DB", folder, split, _t2vqa_labels(folder))


def _t2vqa_labels(folder: Path) -> Path:
    files = [file.relative_to(folder) for file in sorted([*folder.glob("*"), *folder.glob("*/*")])]
    texts = [file for file in files if file.suffix.lower() == ".txt" and not _of_sora(file)]
    found = [file for file in texts if file.name.lower() == "info.txt"] or texts
    if len(found) > 1:
        raise InputError(
            f"T2VQA-DB: {folder} holds {', '.join(map(str, found))}; call the one with the labels info.txt, and have "
            "one of that name."
        )
    if not found:
        raise InputError(f"T2VQA-DB: {folder} holds no info.txt; see docs/datasets.md for the folder expected.")
    return folder / found[0]


def _of_sora(file: Path) -> bool:
    return any(part.lower().startswith("sora") for part in file.parts)


def read_t2vqa_sora(folder: Path, split: Split) -> Reading:
    """The Sora test of T2VQA-DB (Kou et al. 2024): videos of Sora's that nothing is trained on, ``sora*.txt`` in the
    same form.
    """
    (path, *_) = required("T2VQA-DB, Sora", folder, "sora*.txt", "Sora*.txt")
    return _t2vqa("T2VQA-DB, Sora", folder, split, path)


def _t2vqa(name: str, folder: Path, split: Split, path: Path) -> Reading:
    found = list(label_lines(path, "|", ("file", "prompt", "overall")))
    return _scored(
        name, split, found, MediaFolder(folder),
        video="file", prompt="prompt", columns={"overall": "overall"}, scale=PERCENT,
    )  # fmt: skip


_GAIA = {"subject": "subject", "completeness": "completeness", "interaction": "interaction"}


def read_gaia(folder: Path, split: Split) -> Reading:
    """GAIA (Chen et al. 2024): 9,180 videos of 510 actions by 18 models; subject, completeness and interaction, 0-100.

    ``MOS.csv`` (filename, and a column for each dimension, such as 'final action subject'), and ``prompts_all.csv``
    (Action;Scene) beside it, since a video is called ``{model}_{action}.mp4``. A model's name may have underscores:
    the action is the longest ending that the file knows, and all after the first underscore where it knows none.
    """
    (path, *_) = required("GAIA", folder, "MOS.csv")
    found, scenes = rows(path, ("filename",)), _scenes(folder)
    columns = {name: next((c for c in found[0] if name in c.lower()), name) for name in _GAIA}
    rows(path, tuple(columns.values()))
    for row in found:
        action = _action(Path(str(row["filename"])).stem, scenes)
        row["prompt"] = scenes.get(_plain(action)) or action or None
    return _scored(
        "GAIA", split, found, MediaFolder(folder), video="filename", prompt="prompt", columns=columns, scale=PERCENT
    )


def _action(stem: str, scenes: Mapping[str, str]) -> str:
    """The action in a video's name, behind its model."""
    parts = stem.split("_")
    endings = ["_".join(parts[start:]) for start in range(1, len(parts))]
    return next((ending for ending in endings if _plain(ending) in scenes), endings[0] if endings else "")


def _plain(action: str) -> str:
    return action.replace("_", " ").strip().lower()


def _scenes(folder: Path) -> dict[str, str]:
    """The prompt of each action, by its name in lower case; none where the file is not there."""
    scenes: dict[str, str] = {}
    for path in tables(folder, "prompts_all.csv"):
        for line in read_lines(path)[1:]:
            action, _, scene = line.partition(";")
            scenes[_plain(action)] = scene.strip()
    return scenes


_FETV = {"static": "static_quality", "temporal": "temporal_quality", "alignment": "alignment"}
_FETV_FOLDERS = {"damo-text2video": "modelscope-t2v"}
"""Models whose results have another name than the folder of their videos."""


def read_fetv(folder: Path, split: Split) -> Reading:
    """FETV (Liu et al. 2023): 2,476 videos of 619 prompts by 4 models; static and temporal quality and alignment, the
    mean of three people's ratings from 1 to 5.

    ``fetv_data.json`` and ``manual_eval_results/human*/manual_eval_results_{model}.json`` of FETV-EVAL; videos are
    ``{model}/videos/{number of the prompt}.mp4``. Real videos (ground-truth) are left out.
    """
    (path, *_) = required("FETV", folder, "fetv_data.json")
    prompts = [str(row["prompt"]) for row in _objects(path)]
    media, reader = MediaFolder(folder), Scores((1.0, 5.0))
    rated: dict[tuple[str, str], list[dict[str, float]]] = {}
    results = required("FETV", folder, "manual_eval_results/human*/manual_eval_results_*.json",
                       "human*/manual_eval_results_*.json")  # fmt: skip
    for file in results:
        model = file.stem.removeprefix("manual_eval_results_")
        if model == "ground-truth":
            continue
        for number, ratings in _numbered(file):
            if (found := reader.read(ratings, _FETV)) is not None:
                rated.setdefault((_FETV_FOLDERS.get(model, model), number), []).append(found)
    clips: list[ScoredClip] = []
    for (model, number), found in rated.items():
        if not number.isdigit() or int(number) >= len(prompts):
            raise InputError(f"FETV: there is no prompt {number} in {path}; download both files again.")
        if (video := media.find(f"{model}/videos/{number}.mp4", least=3)) is not None:
            means = {name: sum(one[name] for one in found) / len(found) for name in _FETV}
            clips.append(ScoredClip(path=video, scores=means, prompt=prompts[int(number)]))
    return Reading("FETV", split, clips, (1.0, 5.0), media.missing, reader.left_out)


def _objects(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one a line, whatever its suffix says."""
    try:
        return [parse_json(line) for line in read_lines(path) if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); download it again.") from error


def _numbered(path: Path) -> Iterator[tuple[str, Row]]:
    """The ratings in a file of FETV's by the number of their prompt: ``{"0": {"video_id": …, "alignment": 2}}``."""
    for place, line in enumerate(_objects(path), 1):
        for number, ratings in line.items():
            where = f"{path}, line {place}"
            if lacking := [column for column in _FETV.values() if column not in ratings]:
                raise InputError(f"{where}: there is no {lacking[0]}; download it again.")
            yield number, Row(ratings, where)


def read_own_ratings(folder: Path, split: Split) -> Reading:
    """What ``pipelines.process_ratings`` made: ``MOS.csv`` with video, perhaps prompt and model, and a column for each
    dimension, 0-100.
    """
    (path, *_) = required("own ratings", folder, "MOS.csv")
    found = rows(path, ("video",))
    columns = {name: name for name in found[0] if name not in ("video", "prompt", "model")}
    if not columns:
        raise InputError(f"{path}: there is no dimension beside the video; make it with pipelines.process_ratings.")
    prompt = "prompt" if "prompt" in found[0] else None
    return _scored(
        "own ratings", split, found, MediaFolder(folder), video="video", prompt=prompt, columns=columns, scale=PERCENT
    )
