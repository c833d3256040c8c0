"""Tables and lists that people bring, read one way everywhere.

The suffix says the kind, in any case. A line ends with a line feed (and a carriage return before it) and with nothing
else: texts hold U+2028, U+0085 and form feeds. A byte order mark is no part of the first name. What is wrong is told by
the number of its row, which counts the rows below the header from 1.
"""
# pyarrow's stubs leave parameters open.
# pyright: reportUnknownMemberType=false

import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow.parquet as pq

from videoduet.store import JSON, json_text, parse_json, read_json

Kind = Literal["text", "csv", "tsv", "json", "json lines", "parquet"]
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("", ".txt", ".text", ".list", ".lst", ".md", ".prompts"), "text"),
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".parquet": "parquet",
}
"""What a file with a suffix holds; anything else is no table and no list that can be read."""
BEGINNING = 64
"""Bytes by which UTF-16 is known."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Table:
    """A table that can be gone through once or more. ``names`` are its columns; ``read`` is :meth:`rows`."""

    names: list[str]
    read: Callable[[Collection[str] | None], Iterator[dict[str, Any]]]

    def rows(self, columns: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows by column name, one after the other; of parquet only ``columns`` (None: all) are read.

        Raises ValueError that tells the number of a row that cannot be read.
        """
        return self.read(columns)


def kind_of(path: str | Path) -> Kind | None:
    """What a file is by its suffix, None where it is nothing that is read here."""
    return KINDS.get(Path(path).suffix.lower())


def is_text(value: str) -> bool:
    """Whether ``value`` can be written as UTF-8: file names that are none, and careless JSON, hold halves of
    characters.
    """
    return _SURROGATE.search(value) is None


def split_lines(text: str) -> list[str]:
    """The lines of a text, without their ends; a last one that is empty is none."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file. Raises OSError and UnicodeDecodeError."""
    # Bytes, since reading as text would end lines at a carriage return too.
    content = Path(path).read_bytes()
    _refuse_utf16(content[:BEGINNING])
    return split_lines(content.decode("utf-8-sig"))


def _refuse_utf16(beginning: bytes) -> None:
    """Raises UnicodeDecodeError for UTF-16 without a mark, which would pass for UTF-8 with zeros between letters."""
    if len(beginning) > 7 and any(beginning) and not (any(beginning[::2]) and any(beginning[1::2])):
        raise UnicodeDecodeError("utf-8", beginning, 0, 1, "it is UTF-16")


def json_line(row: Mapping[str, Any]) -> str:
    """``row`` as one line of JSON, its end included."""
    return json_text(row) + "\n"


def csv_lines(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A CSV line by line, header first, each ended by a line feed; a value that holds any kind of line end is quoted,
    and what is no UTF-8 is escaped with a backslash.
    """
    for values in (names, *([row.get(name) for name in names] for row in rows)):
        line = io.StringIO(newline="")
        # With a line feed alone as its end, the writer would leave a carriage return in a value bare.
        csv.writer(line, lineterminator="\r\n").writerow(values)
        yield _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", line.getvalue().removesuffix("\r\n")) + "\n"


def objects(value: JSON) -> list[dict[str, Any]]:
    """``value``, which is a list of JSON objects. Raises ValueError where it is none."""
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return cast("list[dict[str, Any]]", value)
    raise ValueError("it is no list of objects")


def read_table(path: str | Path, *, encoding: str = "utf-8-sig", short: bool = False) -> Table:
    """The table in a CSV, TSV, JSON, JSON Lines or parquet file.

    Values of CSV and TSV are text. ``short`` lets their rows end early, without the last columns. Raises ValueError
    where it cannot be read (of a row, when that is reached), OSError, and pyarrow's own errors.
    """
    path, kind = Path(path), kind_of(path)
    if kind == "csv" or kind == "tsv":
        delimiter = "," if kind == "csv" else "\t"
        return Table(_header(path, delimiter, encoding), lambda _: _separated(path, delimiter, encoding, short))
    if kind == "parquet":
        return Table(list(pq.read_schema(path).names), lambda columns: _parquet(path, columns))
    if kind not in ("json", "json lines"):
        raise ValueError(f"{path.suffix or 'a file without suffix'} is no kind of table")
    rows = list(_json_lines(path)) if kind == "json lines" else objects(read_json(path))
    return Table(list(dict.fromkeys(name for row in rows for name in row)), lambda _: iter(rows))


def _header(path: Path, delimiter: str, encoding: str) -> list[str]:
    with open(path, "rb") as raw:
        _refuse_utf16(raw.read(BEGINNING))
    with open(path, newline="", encoding=encoding) as file:
        try:
            names = next(csv.reader(file, delimiter=delimiter, strict=True), None)
        except csv.Error as error:
            raise ValueError(f"its header: {error}") from error
    if names is None:
        raise ValueError("it is empty")
    return [name.strip() for name in names]


def _separated(path: Path, delimiter: str, encoding: str, short: bool) -> Iterator[dict[str, Any]]:
    names, mark = _header(path, delimiter, encoding), "comma" if delimiter == "," else "tab"
    twice = len(set(names)) < len(names)
    with open(path, newline="", encoding=encoding) as file:
        table, number = csv.reader(file, delimiter=delimiter, strict=True), 0
        next(table)
        while True:
            try:
                values = next(table, None)
            except csv.Error as error:
                raise ValueError(f"row {number + 1}: {error}") from error
            if values is None:
                return
            if not values:
                continue
            number += 1
            if len(values) > len(names) or (len(values) < len(names) and not short):
                counts = f"{len(values)} fields, not {len(names)}"
                raise ValueError(f"row {number} has {counts}: a text with a {mark} in it goes in quotes")
            row = dict(zip(names, values, strict=False))
            if twice and (two := [name for name, value in zip(names, values, strict=False) if row[name] != value]):
                raise ValueError(f"row {number} has two values of the column {two[0]!r}: rename one of the two")
            yield row


def _parquet(path: Path, columns: Collection[str] | None) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=None if columns is None else list(columns)):
            yield from batch.to_pylist()


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            row: JSON = parse_json(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no object")
        yield row
