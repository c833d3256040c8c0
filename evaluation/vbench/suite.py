"""VBench's prompt suite: which prompts belong to which dimension, how many videos each wants, what they are called.

The list itself is ``VBench_full_info.json`` of the vbench package (Huang et al., CVPR 2024; Apache-2.0), read from the
environment that ``python -m pipelines.setup_vbench`` makes. Videos are called ``{prompt}-{index}.mp4``.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv

from evaluation.vbench.aggregation import DIMENSIONS
from videoduet.errors import InputError
from videoduet.records import stable_id
from videoduet.store import atomic_path, read_json
from videoduet.tables import is_text, read_table

VIDEOS_PER_PROMPT = 5
FLICKERING_VIDEOS = 25
"""Videos drawn of a prompt of temporal flickering; a filter then keeps the first five that stand still."""
OFFICIAL_PROMPTS = {
    "subject_consistency": 72, "background_consistency": 86, "temporal_flickering": 75, "motion_smoothness": 72,
    "dynamic_degree": 72, "aesthetic_quality": 93, "imaging_quality": 93, "object_class": 79, "multiple_objects": 82,
    "human_action": 100, "color": 85, "spatial_relationship": 84, "scene": 86, "appearance_style": 90,
    "temporal_style": 100, "overall_consistency": 93,
}  # fmt: skip
"""Prompts of each dimension in the official suite: 946 rows in all, 944 different texts."""
OFFICIAL_ROWS, OFFICIAL_TEXTS = 946, 944
NEEDS_LABELS = ("object_class", "multiple_objects", "color", "spatial_relationship", "scene", "appearance_style")
"""Dimensions that need what the suite says of a prompt (an object, a colour, …): not for other prompts."""
INDEX = "videos.csv"
"""A folder's list of videos: columns video (a path relative to the folder), prompt, index."""


@dataclass(frozen=True, kw_only=True)
class SuiteRow:
    """A prompt, the dimensions that are measured on it, and what they look for (an object, a colour, a scene, …)."""

    prompt: str
    dimensions: tuple[str, ...]
    auxiliary_info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class SuiteVideo:
    """The ``index``-th video of a prompt."""

    prompt: str
    index: int

    @property
    def name(self) -> str:
        """The official file name."""
        return f"{self.prompt}-{self.index}.mp4"


@dataclass(frozen=True)
class VideoFile:
    """A video that is there: its file, the prompt that it shows, and which of the prompt's videos it is."""

    path: Path
    prompt: str
    index: int


def read_suite(path: str | Path) -> list[SuiteRow]:
    """The rows of a suite in the order of its file. Raises InputError where it is no such file."""
    if not Path(path).is_file():
        raise InputError(f"VBench's prompt suite {path} does not exist; run: python -m pipelines.setup_vbench")
    try:
        rows = [
            SuiteRow(
                prompt=row["prompt_en"],
                dimensions=tuple(row["dimension"]),
                auxiliary_info=row.get("auxiliary_info") or {},
            )
            for row in read_json(path)
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is no suite of VBench ({type(error).__name__}: {error}); set it up again.") from error
    if unknown := {name for row in rows for name in row.dimensions} - DIMENSIONS.keys():
        raise InputError(f"{path} has dimensions that VBench does not know: {', '.join(sorted(unknown))}.")
    return rows


def is_official(rows: Sequence[SuiteRow]) -> bool:
    """Whether these rows are as many prompts, for each dimension, as the official suite has."""
    counts = Counter(name for row in rows for name in row.dimensions)
    return counts == OFFICIAL_PROMPTS and (len(rows), len({row.prompt for row in rows})) == (
        OFFICIAL_ROWS,
        OFFICIAL_TEXTS,
    )


def select(
    rows: Sequence[SuiteRow], dimensions: Sequence[str], prompts: int | None = None, seed: int = 0
) -> list[SuiteRow]:
    """The part of a suite that measures ``dimensions``, on ``prompts`` prompts of each (None: all).

    The subset depends on the seed and the texts alone, a smaller one is part of a larger one, and dimensions that share
    their prompts share the subset.
    """
    kept = {}
    for name in dimensions:
        texts = {row.prompt for row in rows if name in row.dimensions}
        kept[name] = set(sorted(texts, key=lambda text: stable_id(seed, text))[:prompts])
    chosen = (
        replace(row, dimensions=tuple(d for d in row.dimensions if d in kept and row.prompt in kept[d])) for row in rows
    )
    return [row for row in chosen if row.dimensions]


def suite_videos(
    rows: Iterable[SuiteRow], videos: int = VIDEOS_PER_PROMPT, flickering: int = FLICKERING_VIDEOS
) -> list[SuiteVideo]:
    """The videos that a suite wants, each once, in the order of its rows.

    A text that two rows share has one set of videos, as in the official rule, where a video is known by its name.
    """
    wanted: dict[str, int] = {}
    for row in rows:
        number = flickering if "temporal_flickering" in row.dimensions else videos
        wanted[row.prompt] = max(number, wanted.get(row.prompt, 0))
    return [SuiteVideo(prompt, index) for prompt, number in wanted.items() for index in range(number)]


def names_on_disk(names: Iterable[str], directory: Path) -> dict[str, str]:
    """The file name in ``directory`` for each name: itself, or a short one where the file system refuses it.

    Refused are names with a separator, names that are too long, and of names that differ in case or Unicode form alone
    all but the first, where the file system takes them for one. ``directory`` must exist.
    """
    merges = _merges_names(directory)
    taken: set[str] = set()
    chosen: dict[str, str] = {}
    for name in names:
        key = _folded(name) if merges else name
        refused = key in taken or not _accepts(directory, name)
        chosen[name] = f"{stable_id(name)}{Path(name).suffix}" if refused else name
        taken.add(key)
    return chosen


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _merges_names(directory: Path) -> bool:
    """Whether the file system takes names that differ in case for one."""
    probe = directory / f".Case_{os.getpid()}"
    probe.touch()
    try:
        return probe.with_name(probe.name.lower()).exists()
    finally:
        probe.unlink()


def _accepts(directory: Path, name: str) -> bool:
    if "/" in name or os.sep in name or "\0" in name or name in (".", ".."):
        return False
    try:
        os.close(os.open(directory / name, os.O_CREAT | os.O_EXCL))
        os.unlink(directory / name)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True


def write_index(directory: Path, files: Iterable[VideoFile]) -> None:
    """Write the folder's list, by which videos are found again whatever their files are called."""
    rows = [
        {"video": os.path.relpath(file.path, directory), "prompt": file.prompt, "index": file.index} for file in files
    ]
    schema = pa.schema([("video", pa.string()), ("prompt", pa.string()), ("index", pa.int64())])
    with atomic_path(directory / INDEX) as temporary:
        arrow_csv.write_csv(pa.Table.from_pylist(rows, schema=schema), temporary)


def read_folder(directory: str | Path) -> tuple[list[VideoFile], list[str]]:
    """The videos of a folder, in the order of prompt and index, and the names of files that are none.

    Where the folder has a ``videos.csv`` (``pipelines.sample`` writes one), that says what they show; else the file
    names do: ``{prompt}-{index}.mp4``, or ``{prompt}.mp4``. Raises InputError where there is no mp4 file.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise InputError(f"Videos folder {directory} does not exist; give a folder of mp4 files.")
    if (folder / INDEX).is_file():
        files, others = _listed(folder), []
    else:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir())
        files = [_from_name(folder / name) for name in names if name.lower().endswith(".mp4")]
        others = [name for name in names if not name.lower().endswith(".mp4")]
    if not files:
        raise InputError(f"Folder {directory} holds no mp4 file; give a folder with videos called PROMPT-0.mp4.")
    return sorted(files, key=lambda file: (file.prompt, file.index, file.path)), others


def _from_name(path: Path) -> VideoFile:
    if not is_text(path.name):
        raise InputError(f"The name of video {str(path)!a} is no UTF-8, so it says no prompt; rename it.")
    stem = unicodedata.normalize("NFC", path.stem)
    match = re.fullmatch(r"(.*)-(\d+)", stem, re.DOTALL)
    return VideoFile(path, match[1], int(match[2])) if match else VideoFile(path, stem, 0)


def _listed(folder: Path) -> list[VideoFile]:
    index = folder / INDEX
    try:
        rows = read_table(index).rows()
        return [VideoFile(folder / row["video"], row["prompt"], int(row["index"])) for row in rows]
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise InputError(
            f"{index} cannot be read ({type(error).__name__}: {error}); it needs the columns video, prompt and index."
        ) from error
