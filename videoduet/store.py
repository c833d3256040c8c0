"""The atomic store: a file is whole or it is not there.

Records are kept in parquet, tensors in safetensors, everything else in JSON. Every write goes to a temporary sibling,
is flushed to the disk and then renamed, so a kill at any instant leaves no half-written file under its final name.
Paths in records are absolute in memory and relative to ``root`` in a file, so that a directory may be moved.
"""
# pyarrow's stubs leave parameters open.
# pyright: reportUnknownMemberType=false

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import threading
import types
import typing
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from videoduet.config import SCHEMA_VERSION, refuse_newer
from videoduet.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from torch import Tensor

JSON = dict[str, Any] | list[Any] | str | float | None
"""What a JSON file may hold."""

Record = TypeVar("Record", bound="DataclassInstance")
SCHEMA_KEY = b"videoduet_schema_version"
_ESCAPED = re.compile("[\x85\u2028\u2029\ud800-\udfff]")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: str | Path) -> Generator[Path]:
    """Yield a temporary sibling of ``path``; when the block succeeds it becomes ``path``, else it is removed.

    The block may make a file or a directory there. An existing directory at ``path`` is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Machines that share a directory may have processes of one number.
    writer = f"{os.getpid()}_{threading.get_ident()}_{os.urandom(4).hex()}"
    temporary = path.with_name(f".{path.stem}.{writer}.tmp{path.suffix}")
    try:
        yield temporary
        if temporary.is_dir():
            for file in temporary.rglob("*"):
                if file.is_file():
                    _fsync(file)
            if path.exists():
                shutil.rmtree(path)
        else:
            _fsync(temporary)
        os.replace(temporary, path)
        _fsync(path.parent)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` as one file."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def finite(value: Any) -> Any:
    """JSON has no NaN or infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in cast("dict[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in cast("Sequence[object]", value)]
    return value


def json_text(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON. What other programs take for the end of a line is escaped in it, and so is what cannot be
    written as UTF-8, such as the names of some files.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON; NaN and infinities become null."""
    write_bytes(path, (json_text(finite(value), indent=2) + "\n").encode())


def read_json(path: str | Path) -> Any:
    """What a JSON file holds. Raises OSError, and ValueError where it is none."""
    return parse_json(Path(path).read_text(encoding="utf-8-sig"))


def parse_json(text: str) -> Any:
    """What a JSON text says. Raises ValueError where it is none."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_tensors(path: str | Path, tensors: "dict[str, Tensor]") -> None:
    """Write ``tensors``, of any shapes and dtypes, as safetensors."""
    from safetensors.torch import save as safetensors_bytes

    write_bytes(path, safetensors_bytes({name: tensor.contiguous() for name, tensor in tensors.items()}))


def content_hash(path: str | Path) -> str:
    """16 hexadecimal digits of the SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _arrow_type(annotation: Any) -> pa.DataType:
    """The parquet type of a record field's annotation (plain types, optionals, literals, tuples and nested records)."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return pa.struct(list(_schema(annotation)))
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return pa.list_(_arrow_type(arguments[0]))
        return pa.list_(_arrow_type(arguments[0]), len(arguments))
    if origin in (typing.Union, types.UnionType):
        return _arrow_type(next(argument for argument in arguments if argument is not type(None)))
    if origin is typing.Literal:
        return pa.string()
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[annotation]


def _schema(record: type) -> pa.Schema:
    hints = typing.get_type_hints(record)
    return pa.schema([(field.name, _arrow_type(hints[field.name])) for field in dataclasses.fields(record)])


def _revive(annotation: Any, value: Any) -> Any:
    if value is None:
        return None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        hints = typing.get_type_hints(annotation)
        return annotation(**{name: _revive(hints[name], item) for name, item in value.items()})
    if origin is tuple:
        return tuple(_revive(arguments[0], item) for item in value)
    if origin in (typing.Union, types.UnionType):
        return _revive(next(argument for argument in arguments if argument is not type(None)), value)
    return value


def _with_paths(record: type, row: dict[str, Any], convert: Callable[[str], str]) -> dict[str, Any]:
    """``row``, a record of that type as a dictionary, with each of its paths converted, those of records in it too."""
    hints, changed = typing.get_type_hints(record), dict(row)
    for field in dataclasses.fields(record):
        value = row[field.name]
        if field.metadata.get("path"):
            changed[field.name] = convert(value)
        elif dataclasses.is_dataclass(hints[field.name]) and value is not None:
            changed[field.name] = _with_paths(hints[field.name], value, convert)
    return changed


def write_records(
    path: str | Path, records: Iterable[Record], record_type: type[Record], *, root: Path | None = None
) -> None:
    """Write ``records`` (all of ``record_type``) as one parquet file with a schema derived from the dataclass.

    Their paths are kept relative to the absolute ``root``, where they lie below it (None: as they are).
    """

    def relative(given: str) -> str:
        return str(Path(given).relative_to(root)) if root and Path(given).is_relative_to(root) else given

    rows = [_with_paths(record_type, dataclasses.asdict(record), relative) for record in records]
    schema = _schema(record_type).with_metadata({SCHEMA_KEY: str(SCHEMA_VERSION).encode()})
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)


def read_records(record_type: type[Record], *paths: str | Path, root: Path | None = None) -> list[Record]:
    """Read records back, equal to those written, in the order of ``paths``; their paths are below ``root``.

    Raises InputError where a newer program wrote them, or where a file is damaged, and OSError.
    """
    records: list[Record] = []
    for path in paths:
        with whole_file(path):
            table = pq.read_table(path)
            refuse_newer(int((table.schema.metadata or {}).get(SCHEMA_KEY, b"0")), f"Records {path}")
            for row in table.to_pylist():
                known = row if root is None else _with_paths(record_type, row, lambda given: str(root / given))
                records.append(_revive(record_type, known))
    return records


@contextmanager
def whole_file(path: str | Path) -> Generator[None]:
    """Whatever reading a file of a run raises inside, but OSError, becomes an InputError that names it and the mend."""
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} is damaged ({reason}); restore it from a copy, or remove its phase's folder and go on: the phase "
            "is then done again."
        ) from error
