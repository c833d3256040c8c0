"""Preferences that somebody stored: two video files for one caption.

Read are VideoDPO's folders (``metadata.json`` and ``pair.json``; Liu et al. 2024), UnifiedReward's list of
``{caption, chosen, rejected}`` (Wang et al. 2025), which is what is written here too, the same as a table with paths,
what ``pipelines.share`` wrote, and Hugging Face data sets with two columns of videos.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from videoduet.errors import InputError
from videoduet.records import stable_id
from videoduet.store import read_json, whole_file, write_bytes
from videoduet.tables import is_text, json_line, kind_of, read_table

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class StoredPair:
    """One preference. ``score`` in (0, 1] is VideoDPO's probability of the pair, ``margin`` in (0, 1] how clearly it
    was decided; both are 1 where nothing is given.
    """

    caption: str
    chosen: Path
    rejected: Path
    score: float = 1.0
    margin: float = 1.0


@dataclass(frozen=True)
class Columns:
    """What a Hugging Face data set calls its caption and its two videos."""

    caption: str = "caption"
    chosen: str = "chosen"
    rejected: str = "rejected"


def read_preferences(data: str, videos: Path, columns: Columns = Columns()) -> tuple[list[StoredPair], list[str]]:
    """The pairs in ``data`` (a folder, a file, or a data set's hub id), and a sentence for each that cannot be used.

    Videos that a data set holds as bytes are written to the folder ``videos``, under the hash of their content. Raises
    InputError where ``data`` is of no known kind, or holds no usable pair.
    """
    return _usable(_rows(data, videos, columns, None)[0], data)


def first_preferences(
    data: str, videos: Path, columns: Columns = Columns(), *, count: int
) -> tuple[list[StoredPair], list[str], int]:
    """The same of the first ``count`` pairs alone, where ``data`` may hold the videos themselves (a table of paths is
    read whole), and how many rows there are.
    """
    rows, every = _rows(data, videos, columns, count)
    return *_usable(rows, data), every


def count_preferences(data: str, videos: Path, columns: Columns = Columns()) -> int:
    """How many pairs there are, whether or not their videos are here; for ``videos`` see :func:`first_preferences`."""
    return _rows(data, videos, columns, 1)[1]


def _rows(data: str, videos: Path, columns: Columns, count: int | None) -> tuple[list[StoredPair | str], int]:
    path = Path(data)
    if (path / "pair.json").is_file():
        rows = _read(path, _videodpo)
    elif (path / "pairs.parquet").is_file() and (path / "videos.parquet").is_file():
        rows = _shared(path, videos)
    elif path.is_file() and _names_files(path, columns):
        rows = _read(path, partial(_list_of_pairs, columns=columns if kind_of(path) == "parquet" else Columns()))
    else:
        return _hugging_face(data, videos, columns, count)
    return rows, len(rows)


def _usable(rows: Sequence[StoredPair | str], data: str) -> tuple[list[StoredPair], list[str]]:
    pairs, problems = [], []
    for number, row in enumerate(rows):
        problem = row if isinstance(row, str) else _problem(row)
        if problem:
            problems.append(f"Pair {number} of {data}: {problem}")
        else:
            pairs.append(row)
    if not pairs:
        raise InputError(f"{data} holds no usable pair. {problems[0] if problems else 'It is empty.'}")
    return pairs, problems


def write_preferences(file: Path, pairs: Iterable[StoredPair]) -> None:
    """``pairs`` as JSON Lines of ``{caption, chosen, rejected, score, margin}``; paths below the file are relative."""
    rows = (
        {
            "caption": pair.caption,
            "chosen": _relative(pair.chosen, file.parent),
            "rejected": _relative(pair.rejected, file.parent),
            "score": pair.score,
            "margin": pair.margin,
        }
        for pair in pairs
    )
    write_bytes(file, "".join(map(json_line, rows)).encode())


def _relative(path: Path, folder: Path) -> str:
    path, folder = path.absolute(), folder.absolute()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _problem(pair: StoredPair) -> str | None:
    if not isinstance(pair.caption, str) or not pair.caption.strip():
        return "it has no caption."
    if not is_text(pair.caption):
        return "its caption holds half a character, a lone surrogate."
    if pair.chosen == pair.rejected:
        return f"it sets {pair.chosen} against itself."
    for side in (pair.chosen, pair.rejected):
        if not side.is_file():
            return f"video {side} does not exist."
    for name in ("score", "margin"):
        if not 0 < getattr(pair, name) <= 1:
            return f"its {name} is {getattr(pair, name)}, which is not in (0, 1]."
    return None


def _read(path: Path, reader: Callable[[Path], list[StoredPair | str]]) -> list[StoredPair | str]:
    try:
        return reader(path)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} cannot be read as preference data ({what}).") from error


def _videodpo(folder: Path) -> list[StoredPair | str]:
    """``pair.json`` counts the rows of ``metadata.json``; the winner comes first."""
    clips = [folder / row["basic"]["clip_path"] for row in read_json(folder / "metadata.json")]
    rows: list[StoredPair | str] = []
    for item in read_json(folder / "pair.json"):
        numbers = (item["video1"], item["video2"])
        if not all(isinstance(number, int) and 0 <= number < len(clips) for number in numbers):
            rows.append(f"it names videos {numbers[0]} and {numbers[1]} of {len(clips)}.")
            continue
        caption = item.get("frame_caption")
        if isinstance(caption, list):
            caption = next(iter(caption), None)
        rows.append(StoredPair(caption, *(clips[number] for number in numbers), float(item.get("score", 1.0))))
    return rows


def _shared(folder: Path, videos: Path) -> list[StoredPair | str]:
    """Pairs that name videos by their ids; the videos they name are written to the folder ``videos``."""
    with whole_file(folder / "pairs.parquet"):
        rows = pq.read_table(folder / "pairs.parquet").to_pylist()
    wanted = {row[side] for row in rows for side in ("chosen_id", "rejected_id")}
    with whole_file(folder / "videos.parquet"), pq.ParquetFile(folder / "videos.parquet") as file:
        for batch in file.iter_batches(32, columns=["id", "video"]):
            for row in batch.to_pylist():
                if row["id"] in wanted and not (path := videos / f"{row['id']}.mp4").exists():
                    write_bytes(path, row["video"]["bytes"])
    return [
        StoredPair(
            row["prompt"], videos / f"{row['chosen_id']}.mp4", videos / f"{row['rejected_id']}.mp4",
            score=row["score"], margin=row["margin"],
        )
        for row in rows
    ]  # fmt: skip


def _names_files(path: Path, columns: Columns) -> bool:
    """Whether a file is a table whose videos are paths; a parquet file may hold the videos themselves."""
    if kind_of(path) != "parquet":
        return kind_of(path) in ("json", "json lines", "csv", "tsv")
    try:
        kinds = dict(zip((schema := pq.read_schema(path)).names, schema.types, strict=True))
    except (OSError, pa.ArrowException):
        return False
    return kinds.get(columns.chosen) == kinds.get(columns.rejected) == pa.string()


def _list_of_pairs(file: Path, columns: Columns) -> list[StoredPair | str]:
    names = {columns.caption: "caption", columns.chosen: "chosen", columns.rejected: "rejected"}
    rows = read_table(file).rows()
    return [_from_item({names.get(name, name): value for name, value in row.items()}, file.parent) for row in rows]


def _from_item(item: dict[str, Any], folder: Path) -> StoredPair | str:
    missing = [name for name in ("caption", "chosen", "rejected") if not isinstance(item.get(name), str)]
    if missing:
        return f"it has no {missing[0]}."
    chosen, rejected = (folder / item[name] for name in ("chosen", "rejected"))
    given: dict[str, Any] = {name: item[name] for name in ("score", "margin") if item.get(name) not in (None, "")}
    try:
        return StoredPair(item["caption"], chosen, rejected, **{name: float(value) for name, value in given.items()})
    except (TypeError, ValueError):
        return f"its {' and '.join(given)} cannot be read as numbers: {', '.join(map(repr, given.values()))}."


def _hugging_face(data: str, videos: Path, columns: Columns, count: int | None) -> tuple[list[StoredPair | str], int]:
    # Only here: it takes seconds, and configs name this module's columns.
    from datasets import Video

    dataset = _load(data)
    for name in (columns.caption, columns.chosen, columns.rejected):
        if name not in dataset.column_names:
            raise InputError(f"{data} has no column {name}; it has {', '.join(dataset.column_names)}.", exit_code=2)
    for name in (columns.chosen, columns.rejected):
        # Undecoded: only path or bytes are wanted.
        dataset = dataset.cast_column(name, Video(decode=False))
    every = len(dataset)
    if count is not None:
        dataset = dataset.select(range(min(count, every)))
    rows = [
        _from_row(row[columns.caption], [row[columns.chosen], row[columns.rejected]], videos)
        for row in dataset.select_columns([columns.caption, columns.chosen, columns.rejected])
    ]
    return rows, every


def _load(data: str) -> "Dataset":
    from datasets import DatasetDict, load_dataset, load_from_disk

    try:
        if (Path(data) / "state.json").exists() or (Path(data) / "dataset_dict.json").exists():
            loaded = load_from_disk(data)
        elif data.endswith(".parquet"):
            loaded = load_dataset("parquet", data_files=data)
        else:
            loaded = load_dataset(data)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{data} is no preference data ({reason}); give VideoDPO's folder, a JSON list of caption, chosen and "
            "rejected, or a data set with two video columns."
        ) from error
    return loaded["train" if "train" in loaded else next(iter(loaded))] if isinstance(loaded, DatasetDict) else loaded


def _from_row(caption: str, sides: Sequence[dict[str, Any] | None], videos: Path) -> StoredPair | str:
    paths = []
    for side in sides:
        if side is None or not (side.get("bytes") or side.get("path")):
            return "one of its videos is missing."
        if side.get("bytes"):
            suffix = Path(side.get("path") or "video.mp4").suffix
            path = videos / f"{stable_id(side['bytes'].hex())}{suffix}"
            if not path.exists():
                write_bytes(path, side["bytes"])
        else:
            path = Path(side["path"])
        paths.append(path)
    return StoredPair(caption, *paths)
