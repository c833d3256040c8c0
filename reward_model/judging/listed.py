"""What the judge's command is given: videos by name, folders of them, and files that list thousands."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from videoduet.errors import InputError
from videoduet.tables import is_text, kind_of, read_lines, read_table
from videoduet.video import IMAGES, VIDEOS

TABLES = "CSV, TSV, JSON, JSON Lines or parquet"

Shown = tuple[str, str]
"""A video's path and its prompt."""


def read_list(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Rows of a table, or of a text file whose lines are the first column, with the paths of videos, which are relative
    to the list.

    Raises InputError naming the row that cannot be read, lacks one of ``columns``, other than ``prompt``, or whose
    prompt cannot be written down.
    """
    try:
        if kind_of(path) == "text":
            rows: Iterable[dict[str, Any]] = [{columns[0]: line.strip()} for line in read_lines(path) if line.strip()]
        else:
            table = read_table(path, short=True)
            rows = list(table.rows([name for name in columns if name in table.names]))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"List {path} cannot be read ({error}); give {TABLES}, or text in UTF-8.") from error
    if not rows:
        raise InputError(f"List {path} is empty; give at least one row.")
    for number, row in enumerate(rows, 1):
        found: dict[str, Any] = {name: row.get(name) for name in columns}
        found["prompt"] = found["prompt"] or ""
        if isinstance(found["prompt"], str) and not is_text(found["prompt"]):
            raise InputError(f"{path}, row {number}: its prompt holds half a character, a lone surrogate; mend it.")
        if wrong := [
            name for name in columns if not isinstance(found[name], str) or not (found[name] or name == "prompt")
        ]:
            raise InputError(f"{path}, row {number}: has no {wrong[0]}; give the columns {', '.join(columns)}.")
        yield {name: value if name == "prompt" else str(path.parent / value) for name, value in found.items()}


def read_pairs(names: Sequence[str], batch: str | None, prompt: str) -> list[tuple[str, str, str]]:
    """(first, second, prompt) of two videos named, or of each row of a list with the columns first, second, prompt."""
    if batch is not None:
        if names:
            raise InputError("Give two videos or --batch, not both.", exit_code=2)
        if not Path(batch).is_file() or kind_of(batch) in (None, "text"):
            raise InputError(f"--batch {batch} is no {TABLES} file; give one.", exit_code=2)
        rows = read_list(Path(batch), ("first", "second", "prompt"))
        return [(row["first"], row["second"], row["prompt"] or prompt) for row in rows]
    if len(names) != 2:
        raise InputError(f"compare takes two videos, not {len(names)}; give two, or --batch with a list.", exit_code=2)
    return [(names[0], names[1], prompt)]


def read_videos(names: Sequence[str], batch: str | None, prompt: str) -> list[Shown]:
    """The videos that are named, lie in a folder that is named, or stand in a list with the columns video and prompt.

    A folder with videos or folders in it is a collection; one with images alone is a single video.
    """
    if not names and batch is None:
        raise InputError("No videos are named; give files, a folder, or a list of them.", exit_code=2)
    if batch is not None and kind_of(batch) is None:
        raise InputError(f"--batch {batch} is no {TABLES} file, nor text; give one.", exit_code=2)
    videos: list[Shown] = []
    for name in [*names, *([batch] if batch is not None else [])]:
        path = Path(name)
        if path.suffix and kind_of(path) is not None and path.is_file():
            videos += [(row["video"], row["prompt"] or prompt) for row in read_list(path, ("video", "prompt"))]
        elif path.is_dir():
            if not (collection := _collection(path)) and not _has_images(path):
                raise InputError(f"Folder {path} holds neither videos nor frames; give one with files like .mp4.")
            videos += [(str(file), prompt) for file in collection or [path]]
        else:
            videos.append((name, prompt))
    return videos


def _collection(folder: Path) -> list[Path]:
    """The videos in a folder, files and folders of frames."""
    inside = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    return [file for file in inside if file.suffix.lower() in VIDEOS or (file.is_dir() and _has_images(file))]


def _has_images(folder: Path) -> bool:
    return any(file.suffix.lower() in IMAGES for file in folder.iterdir())


def groups_of(videos: Sequence[Shown], names: Sequence[str]) -> list[list[Shown]]:
    """The videos of each prompt, which are ranked apart.

    Raises InputError where no prompt has two; ``names`` are what was asked for.
    """
    groups: dict[str, list[Shown]] = {}
    for shown in videos:
        groups.setdefault(shown[1], []).append(shown)
    if all(len(group) < 2 for group in groups.values()):
        if missing := [name for name in names if not Path(name).exists()]:
            raise InputError(f"{missing[0]} does not exist; check the path.")
        raise InputError("No prompt has two videos; a ranking takes two or more.")
    return list(groups.values())
