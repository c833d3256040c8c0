"""Tables as data sets publish them, and the videos that their rows name."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq
from scipy.io import loadmat

from videoduet.errors import InputError
from videoduet.store import JSON, read_json

VIDEOS = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".gif")
IMAGES = (".jpg", ".jpeg", ".png", ".bmp")


@dataclass
class MediaFolder:
    """The videos (or images) anywhere below a folder, found by the name that a row gives them."""

    root: Path
    suffixes: Sequence[str] = VIDEOS
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._by_stem: dict[str, list[Path]] = {}
        for path in sorted(self.root.rglob("*")):
            if path.suffix.lower() in self.suffixes:
                self._by_stem.setdefault(path.stem, []).append(path)

    def find(self, name: str) -> str | None:
        """The one file whose path ends with ``name`` (with or without its suffix); None, and noted, where there is no
        such file or more than one.
        """
        wanted = PurePosixPath(str(name).replace("\\", "/").lstrip("./"))
        known = wanted.suffix.lower() in self.suffixes
        parts = (*wanted.parts[:-1], wanted.stem if known else wanted.name)
        found = [
            path
            for path in self._by_stem.get(parts[-1], [])
            if (*path.relative_to(self.root).parts[:-1], path.stem)[-len(parts) :] == parts
        ]
        # A row may name folders that the download does not have.
        found = found or self._by_stem.get(parts[-1], [])
        if len(found) != 1:
            self.missing.append(f"{name} (found {len(found)} times)" if found else str(name))
            return None
        return str(found[0])


def tables(folder: Path, *patterns: str) -> list[Path]:
    """The files in ``folder`` (or a folder in it) that fit the first of ``patterns`` that any file fits."""
    for pattern in patterns:
        found = sorted(folder.glob(pattern)) or sorted(folder.glob(f"*/{pattern}"))
        if found:
            return found
    return []


def required(name: str, folder: Path, *patterns: str) -> list[Path]:
    """As :func:`tables`; raises InputError that names the data set and the files it looked for where there is none."""
    found = tables(folder, *patterns)
    if not found:
        looked = " or ".join(patterns)
        raise InputError(f"{name}: {folder} holds no {looked}; see docs/datasets.md for the folder expected.")
    return found


def rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a CSV, JSON, JSON Lines, parquet or MATLAB file, which must have ``columns``.

    CSV values stay text; of parquet only these columns are read, as others may hold whole videos. Raises InputError
    that names the file and what it lacks.
    """
    try:
        found = _parquet(path, columns) if path.suffix == ".parquet" else _READERS[path.suffix.lower()](path)
    except (ValueError, OSError, csv.Error, pa.ArrowException, KeyError, TypeError, NotImplementedError) as error:
        raise InputError(f"{path} cannot be read ({error}); download it again.") from error
    for number, row in enumerate(found, 1):
        lacking = [name for name in columns if name not in row]
        if lacking:
            has = ", ".join(map(str, row))
            raise InputError(f"{path}, row {number}: there is no column {lacking[0]}; it has {has}.")
    if not found:
        raise InputError(f"{path} holds no rows; download it again.")
    return found


def number(row: Mapping[str, Any], column: str, path: Path) -> float:
    """A row's number; raises InputError that names file, column and value where it is none."""
    try:
        return float(row[column])
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {column} is {row[column]!r}, not a number; repair or remove the row.") from error


def _csv(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("gb18030")  # LSVQ's labels
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = [name.strip() for name in next(table, list[str]())]
    return [dict(zip(names, values, strict=True)) for values in table if values]


def _parquet(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    # pyarrow's stubs leave parameters open.
    names = pq.read_schema(path).names  # pyright: ignore[reportUnknownMemberType]
    wanted = [name for name in columns if name in names] or names
    return pq.read_table(path, columns=wanted).to_pylist()  # pyright: ignore[reportUnknownMemberType]


def _json(path: Path) -> list[dict[str, Any]]:
    value: JSON = read_json(path)
    if isinstance(value, dict):
        value = value["annotations"]
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ValueError("it is no list of objects")
    return value


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return pj.read_json(path).to_pylist() if path.stat().st_size else []


def _mat(path: Path) -> list[dict[str, Any]]:
    arrays = {name: value for name, value in loadmat(path, squeeze_me=True).items() if not name.startswith("__")}
    columns = {name: value.tolist() for name, value in arrays.items() if getattr(value, "ndim", 0) == 1}
    length = max(map(len, columns.values()))
    columns = {name: value for name, value in columns.items() if len(value) == length}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


_READERS = {
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _json_lines,
    ".mat": _mat,
}


def label_lines(path: Path, separator: str, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Rows of a text file without a header, such as DOVER's ``path, -1, -1, mos`` and T2VQA-DB's ``file|prompt|mos``.

    Further fields are let be. Raises InputError that names a line with too few.
    """
    for number_, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        fields = [value.strip() for value in line.split(separator)]
        if len(fields) < len(columns):
            raise InputError(f"{path}, line {number_}: {len(fields)} fields, not {separator.join(columns)}.")
        yield dict(zip(columns, fields, strict=False))
