"""The videos of several generators for one set of prompts: a folder for each, and what is known of the prompts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from videoduet.errors import InputError
from videoduet.folders import files_below
from videoduet.store import parse_json
from videoduet.tables import is_text, read_lines, read_table
from videoduet.video import VIDEOS

CATEGORIES = {
    "spatial content": (("major content", "spatial"), ("spatial",)),
    "temporal content": (("major content", "temporal"), ("temporal",)),
    "attribute": (("attribute control", "spatial"), ("attribute control", "temporal"), ("attribute",)),
    "complexity": (("prompt complexity",), ("complexity",)),
}
"""What prompts are sorted by (FETV, Liu et al. 2023, and AIGVQA-DB), and where a file says it: FETV's own keys, or a
column."""
_SAMPLE = re.compile(r"(.+?)[-_](\d+)")


@dataclass(frozen=True)
class KnownPrompt:
    """A prompt with the categories it belongs to, by kind."""

    text: str
    categories: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class BoardVideo:
    """A video of a generator for the prompt called ``name``; several of one name are samples."""

    model: str
    path: str
    name: str
    prompt: KnownPrompt


def board_videos(folder: str | Path, prompts: str | Path | None) -> tuple[list[BoardVideo], list[str]]:
    """The videos in the folders of ``folder``, one for each generator, and the paths of those that have no prompt.

    A video is called like its prompt in the file ``prompts``, or with a number after it for each sample
    (``NAME-0.mp4``); without that file its name is its prompt, as VBench has it. Raises InputError where there are
    fewer than two generators with videos.
    """
    root, known = Path(folder), None if prompts is None else read_known_prompts(prompts)
    if not root.is_dir():
        raise InputError(f"Folder {folder} does not exist; give one with a folder of videos for each generator.")
    videos: list[BoardVideo] = []
    unknown: list[str] = []
    for inner in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for path in sorted(files_below(inner)):
            if path.suffix.lower() not in VIDEOS or not is_text(str(path)):
                continue
            name = _name(path.stem, known)
            if known is None:
                videos.append(BoardVideo(inner.name, str(path), name, KnownPrompt(name, {})))
            elif name in known:
                videos.append(BoardVideo(inner.name, str(path), name, known[name]))
            else:
                unknown.append(str(path))
    if len({video.model for video in videos}) < 2:
        more = f", and none that {prompts} knows of" if unknown else ""
        raise InputError(f"{folder} holds videos of fewer than two generators{more}; put a folder of each into it.")
    return videos, unknown


def _name(stem: str, known: Mapping[str, KnownPrompt] | None) -> str:
    sample = _SAMPLE.fullmatch(stem)
    if sample is None or (known is not None and stem in known):
        return stem
    return sample[1]


def read_known_prompts(path: str | Path) -> dict[str, KnownPrompt]:
    """Prompts by name, from a table or JSON Lines with ``prompt``, perhaps ``name`` (or ``video``), and categories:
    FETV's ``fetv_data.json``, or columns spatial, temporal, attribute and complexity, several in one divided by ``;``.

    Without a name a prompt is called by its place, from 0. Raises InputError for a file that cannot be read, that says
    no prompt, or that calls two by one name.
    """
    rows = _rows(Path(path))
    found: dict[str, KnownPrompt] = {}
    for place, row in enumerate(rows):
        if not isinstance(row.get("prompt"), str):
            raise InputError(f"{path}, row {place + 1}: there is no prompt; it has {', '.join(row)}.")
        told = [row.get("name"), row.get("video"), place]
        name = _unsuffixed(Path(next(str(each) for each in told if each not in (None, ""))).name)
        if name in found and found[name].text != row["prompt"]:
            raise InputError(
                f"{path}, row {place + 1}: {name} is the name of another prompt too; give each prompt its own."
            )
        categories = {
            kind: values
            for kind, places in CATEGORIES.items()
            if (values := tuple(value for keys in places for value in _values(row, keys)))
        }
        found[name] = KnownPrompt(row["prompt"], categories)
    if not found:
        raise InputError(f"{path} holds no prompts; give a row for each.")
    return found


def _unsuffixed(name: str) -> str:
    """``name`` without what a video's file ends with; any other dot is its own."""
    return Path(name).stem if Path(name).suffix.lower() in VIDEOS else name


def _rows(path: Path) -> Sequence[dict[str, Any]]:
    try:
        try:
            return list(read_table(path).rows())
        except ValueError:
            # FETV's file is called .json and holds an object a line.
            lines = [parse_json(line) for line in read_lines(path) if line.strip()]
            if not all(isinstance(line, dict) for line in lines):
                raise
            return cast("list[dict[str, Any]]", lines)
    except (OSError, ValueError) as error:
        raise InputError(f"Prompts {path} cannot be read ({error}); give a table or JSON Lines with prompt.") from error


def _values(row: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    value: Any = row
    for key in keys:
        value = cast("Mapping[str, Any]", value).get(key) if isinstance(value, dict) else None
    if isinstance(value, str):
        value = value.split(";")
    return [str(each).strip() for each in cast("list[Any]", value) if str(each).strip()] if isinstance(
        value, list
    ) else []  # fmt: skip
