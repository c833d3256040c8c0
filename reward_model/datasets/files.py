"""Tables as data sets publish them, and the videos that their rows name."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from scipy.io import loadmat

from videoduet.errors import InputError
from videoduet.folders import files_below
from videoduet.store import JSON, read_json
from videoduet.tables import Table, is_text, kind_of, objects, read_lines, read_table
from videoduet.video import VIDEOS


@dataclass
class MediaFolder:
    """The videos (or images) anywhere below a folder, found by the name that a row gives them."""

    root: Path
    suffixes: Collection[str] = frozenset(VIDEOS)
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._by_stem: dict[str, list[Path]] = {}
        self._by_id: dict[str, list[Path]] = {}
        for path in files_below(self.root):
            # What is no UTF-8 cannot be named by a row, nor written into results.
            if path.suffix.lower() in self.suffixes and is_text(str(path)):
                self._by_stem.setdefault(path.stem, []).append(path)
                self._by_id.setdefault(path.stem.partition("_")[0], []).append(path)

    def find(self, name: str, *, is_id: bool = False, least: int = 1) -> str | None:
        """The one file whose path ends with ``name`` (with or without its suffix), or with as much of the end of it as
        any path does: a row may name folders that the download does not have. None, and noted, where there is no such
        file or more than one. ``is_id`` says that more may follow in the file's name, after an underscore; ``least``
        that so many parts of the end must agree, since files of the name are other models'.
        """
        wanted = PurePosixPath(str(name).replace("\\", "/").lstrip("./"))
        known = wanted.suffix.lower() in self.suffixes
        parts = (*wanted.parts[:-1], wanted.stem if known else wanted.name)
        named, found = self._by_stem.get(parts[-1], []), list[Path]()
        for length in range(len(parts), min(least, len(parts)) - 1, -1):
            if found := [path for path in named if self._ends(path, parts[-length:])]:
                break
        found = found or (self._by_id.get(parts[-1], []) if is_id else [])
        if len(found) != 1:
            self.missing.append(f"{name} (found {len(found)} times)" if found else str(name))
            return None
        return str(found[0])

    def _ends(self, path: Path, parts: Sequence[str]) -> bool:
        return (*path.relative_to(self.root).parts[:-1], path.stem)[-len(parts) :] == tuple(parts)


def tables(folder: Path, *patterns: str) -> list[Path]:
    """The files in ``folder`` (or a folder in it) that fit the first of ``patterns`` that any file fits."""
    for pattern in patterns:
        for form in (pattern, str(PurePosixPath(pattern).with_suffix(PurePosixPath(pattern).suffix.upper()))):
            if found := sorted(folder.glob(form)) or sorted(folder.glob(f"*/{form}")):
                return found
    return []


def required(name: str, folder: Path, *patterns: str) -> list[Path]:
    """As :func:`tables`; raises InputError that names the data set and the files it looked for where there is none."""
    found = tables(folder, *patterns)
    if not found:
        looked = " or ".join(patterns)
        raise InputError(f"{name}: {folder} holds no {looked}; see docs/datasets.md for the folder expected.")
    return found


class Row(dict[str, Any]):
    """A row of a table by column. ``place`` says where it stands: file and row."""

    def __init__(self, values: Mapping[str, Any], place: str):
        super().__init__(values)
        self.place = place


def rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a CSV, TSV, JSON, JSON Lines, parquet or MATLAB file, which must have ``columns``.

    CSV values stay text; of parquet only these columns are read, as others may hold whole videos. Raises InputError
    that names the file and what it lacks.
    """
    try:
        found = _mat(path) if path.suffix.lower() == ".mat" else _table_rows(path, columns)
    except (ValueError, OSError, pa.ArrowException, KeyError, TypeError, NotImplementedError) as error:
        raise InputError(f"{path} cannot be read ({error}); download it again.") from error
    for number, row in enumerate(found, 1):
        lacking = [name for name in columns if name not in row]
        if lacking:
            has = ", ".join(map(str, row))
            raise InputError(f"{path}, row {number}: there is no column {lacking[0]}; it has {has}.")
    if not found:
        raise InputError(f"{path} holds no rows; download it again.")
    return [Row(row, f"{path}, row {number}") for number, row in enumerate(found, 1)]


@dataclass
class Scores:
    """Reads the scores of rows, which are declared to lie on ``scale`` (low, high).

    Rows that have none (nan, or nothing) are left out, and counted in ``left_out``, the first of them named.
    """

    scale: tuple[float, float]
    without: list[str] = field(default_factory=list)

    @property
    def left_out(self) -> Counter[str]:
        """How many rows have no score, by a reason that names the first of them."""
        return Counter({f"rows without a score, such as {self.without[0]}": len(self.without)} if self.without else {})

    def read(self, row: Row, columns: Mapping[str, str]) -> dict[str, float] | None:
        """A row's scores by dimension, whose columns are ``columns``; None where one is missing.

        Raises InputError that names file, row, column and value where one is no number, or lies off the scale.
        """
        scores = {dimension: self._number(row, column) for dimension, column in columns.items()}
        if lacking := [columns[name] for name, score in scores.items() if math.isnan(score)]:
            self.without.append(f"{row.place} ({lacking[0]} is {row[lacking[0]]!r})")
            return None
        return scores

    def _number(self, row: Row, column: str) -> float:
        value, (low, high) = row[column], self.scale
        try:
            if isinstance(value, bool):
                raise TypeError
            score = math.nan if value is None or not str(value).strip() else float(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"{row.place}: {column} is {value!r}, not a number; repair or remove the row.") from error
        if not (low <= score <= high or math.isnan(score)):
            span = f"the scale of {low:g} to {high:g}"
            raise InputError(f"{row.place}: {column} is {value!r}, off {span}; repair or remove the row.")
        return score


def _table_rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    if kind_of(path) == "json":
        value: JSON = read_json(path)
        return objects(value["annotations"] if isinstance(value, dict) else value)
    table = _encoded(path) if kind_of(path) in ("csv", "tsv") else read_table(path)
    return list(table.rows([name for name in columns if name in table.names] or None))


def _encoded(path: Path) -> Table:
    try:
        path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return read_table(path, encoding="gb18030")  # LSVQ's labels
    return read_table(path)


def _mat(path: Path) -> list[dict[str, Any]]:
    arrays = {name: value for name, value in loadmat(path, squeeze_me=True).items() if not name.startswith("__")}
    columns = {name: value.tolist() for name, value in arrays.items() if getattr(value, "ndim", 0) == 1}
    length = max(map(len, columns.values()))
    columns = {name: value for name, value in columns.items() if len(value) == length}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def label_lines(path: Path, separator: str, columns: Sequence[str]) -> Iterator[Row]:
    """Rows of a text file without a header, such as DOVER's ``path, -1, -1, mos`` and T2VQA-DB's ``file|prompt|mos``.

    Raises InputError that names a line with fewer fields, or with more: which of them is the score is then unknown.
    """
    try:
        lines = read_lines(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); download it again.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields, place = [value.strip() for value in line.split(separator)], f"{path}, line {number}"
        if len(fields) != len(columns):
            wanted = separator.join(columns)
            raise InputError(f"{place}: {len(fields)} fields, not {wanted}; repair or remove the line.")
        yield Row(dict(zip(columns, fields, strict=True)), place)
