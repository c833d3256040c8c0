"""Raw ratings as they come from a study: a row a rating, or a row a subject and video with a column a dimension."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from videoduet.errors import InputError
from videoduet.tables import read_table

ABOUT = ("video", "prompt", "model")
"""Columns about a video; all but the first may be missing."""
_OTHERS = (*ABOUT, "subject", "dimension", "rating")


@dataclass(frozen=True)
class RatingTable:
    """Ratings by dimension, (subjects, videos) with NaN where there is none; ``about`` has prompt and model of videos.

    ``bad`` says of each row that could not be used where it stands and what is wrong with it.
    """

    subjects: Sequence[str]
    videos: Sequence[str]
    ratings: Mapping[str, NDArray[np.float64]]
    about: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    bad: Sequence[str] = ()


def read_ratings(path: str | Path, scale: tuple[float, float], dimensions: Sequence[str] = ()) -> RatingTable:
    """The ratings in a CSV, TSV, JSON, JSON Lines or parquet file with columns ``subject`` and ``video``.

    Either it has a column ``rating`` (and perhaps ``dimension``; else it is 'overall'), or each of ``dimensions`` is a
    column (none named: every other column). ``prompt`` and ``model`` say more of a video. Ratings must lie on ``scale``
    (low, high). A row without subject or video, with a rating that is no number or off the scale, or that repeats what
    was rated before is listed and left out; an empty rating is none.

    Raises InputError for a file that cannot be read, lacks a column, or has no usable row.
    """
    names, rows = _rows(Path(path))
    if missing := [name for name in ("subject", "video") if name not in names]:
        raise InputError(f"{path}: there is no column {missing[0]}; it has {', '.join(names)}.")
    long = "rating" in names and not dimensions
    columns = ["rating"] if long else list(dimensions) or [name for name in names if name not in _OTHERS]
    if missing := [name for name in columns if name not in names]:
        raise InputError(f"{path}: there is no column {missing[0]}; it has {', '.join(names)}.")
    if not columns:
        raise InputError(f"{path}: nothing is rated; give a column rating, or one for each dimension.")
    reading = _Reading(scale)
    for number, row in enumerate(rows, 1):
        reading.take(row, {_told(row, "dimension") or "overall": "rating"} if long else dict(zip(columns, columns,
                     strict=True)), f"{path}, row {number}")  # fmt: skip
    if not reading.ratings:
        shown = f", such as {reading.bad[0]}" if reading.bad else ""
        raise InputError(f"{path} holds no rating that can be used{shown}; mend its rows.")
    return reading.table()


def _rows(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        table = read_table(path)
        return table.names, list(table.rows())
    except (ValueError, OSError, pa.ArrowException) as error:
        raise InputError(
            f"Ratings {path} cannot be read ({error}); give a CSV, TSV, JSON, JSON Lines or parquet file."
        ) from error


def _told(row: Mapping[str, Any], name: str) -> str:
    """What a row says, as text; '' where it says nothing. 0 is a name like another."""
    value = row.get(name)
    return "" if value is None else str(value).strip()


@dataclass
class _Reading:
    scale: tuple[float, float]
    ratings: dict[tuple[str, str, str], float] = field(default_factory=dict[tuple[str, str, str], float])
    about: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    bad: list[str] = field(default_factory=list[str])

    def take(self, row: Mapping[str, Any], columns: Mapping[str, str], place: str) -> None:
        """A row's ratings by dimension, whose ``columns`` are named."""
        subject, video = _told(row, "subject"), _told(row, "video")
        if not subject or not video:
            self.bad.append(f"{place}: no {'video' if subject else 'subject'}")
            return
        for dimension, column in columns.items():
            rating = self._number(row.get(column), column, place)
            if rating is None:
                continue
            if (dimension, subject, video) in self.ratings:
                self.bad.append(f"{place}: {subject} has rated the {dimension} of {video} before")
                continue
            self.ratings[dimension, subject, video] = rating
            told = {name: str(row[name]) for name in ABOUT[1:] if _told(row, name)}
            self.about.setdefault(video, {}).update(told)

    def _number(self, value: Any, column: str, place: str) -> float | None:
        if value is None or not str(value).strip() or (isinstance(value, float) and math.isnan(value)):
            return None
        try:
            rating = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            rating = math.nan
        low, high = self.scale
        if not low <= rating <= high:
            self.bad.append(f"{place}: {column} is {value!r}, no number from {low:g} to {high:g}")
            return None
        return rating

    def table(self) -> RatingTable:
        """What was taken, in the order in which subjects and videos came."""
        dimensions, subjects, videos = (list(dict.fromkeys(names)) for names in zip(*self.ratings, strict=True))
        rows, columns = ({name: place for place, name in enumerate(names)} for names in (subjects, videos))
        tables = {name: np.full((len(subjects), len(videos)), np.nan) for name in dimensions}
        for (dimension, subject, video), rating in self.ratings.items():
            tables[dimension][rows[subject], columns[video]] = rating
        return RatingTable(subjects, videos, tables, self.about, self.bad)
