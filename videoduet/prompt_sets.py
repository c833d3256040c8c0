"""Prompts from the files that they come in.

Text (one prompt a line), JSON Lines, JSON, CSV and parquet: whatever has a column of prompts, among them VidProM's
``VidProM_unique.csv`` (Wang & Yang 2024; cc-by-nc-4.0) and VBench's ``VBench_full_info.json`` (Huang et al. 2024).
"""
# pyarrow's stubs leave parameters open.
# pyright: reportUnknownMemberType=false

import functools
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, json, parquet

from videoduet.errors import InputError
from videoduet.records import Prompt, stable_id
from videoduet.store import read_json

COLUMNS = ("prompt", "prompt_en", "text", "caption")
"""What a column of prompts is called, VidProM's and VBench's names first."""
NSFW = ("toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit")
"""VidProM's six probabilities in [0, 1] that a prompt is not safe for work."""


GIVE = "give a text file with one prompt a line, or a JSON, CSV or parquet file with a column of prompts"


@dataclass(frozen=True)
class PromptSet:
    """Prompts in the order of their file, and how many rows were left out for which reason."""

    prompts: list[Prompt]
    left_out: dict[str, int]


def read_prompts(
    path: str | Path,
    *,
    column: str | None = None,
    nsfw_below: float = 0.2,
    limit: int | None = None,
    subset_seed: int | None = None,
) -> PromptSet:
    """The prompts in ``path``, each once.

    ``column`` names the column of prompts (None: the first of ``COLUMNS`` that is there). Where the file has all of
    VidProM's ``NSFW`` columns, only rows with every probability below ``nsfw_below`` stay, and prompts that differ in
    case, white space or Unicode's compatibility forms alone count as one, the first. ``limit`` keeps that many: the
    first, or with ``subset_seed`` a random subset, which depends on the seed and the prompts and not on their order.

    Raises InputError for a file that is not there, is of another kind, has no such column, or holds no prompt.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"Prompts file {path} does not exist; {GIVE}.")
    try:
        texts, left_out, key = _texts(file, column, nsfw_below)
    except InputError:
        raise
    except (ValueError, pa.ArrowException) as error:
        what = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error})"
        raise InputError(f"Prompts file {path} {what}; {GIVE}.") from error
    stripped = [text.strip() for text in texts if text and text.strip()]
    first: dict[str, str] = {}
    for text in stripped:
        first.setdefault(key(text), text)
    unique = list(first.values())
    if not unique:
        raise InputError(f"Prompts file {path} is empty; {GIVE}.")
    chosen = _subset(unique, limit, subset_seed)
    counts = {**left_out, "empty": len(texts) - len(stripped), "repeated": len(stripped) - len(unique)}
    prompts = [Prompt.of(text, source=file.name) for text in chosen]
    return PromptSet(prompts, {reason: count for reason, count in counts.items() if count})


def _texts(
    file: Path, column: str | None, nsfw_below: float
) -> tuple[list[str | None], dict[str, int], Callable[[str], str]]:
    """The rows' texts, how many rows were left out and why, and what texts have in common that count as one."""
    if file.suffix not in (".csv", ".parquet", ".json", ".jsonl"):
        return list(file.read_text(encoding="utf-8-sig").splitlines()), {}, str
    table = _table(file)
    name = _prompt_column(file, table, column)
    if not set(NSFW) <= set(table.column_names):
        return table[name].to_pylist(), {}, str
    # Computed on whole columns, whose types the stubs do not follow.
    compute: Any = pc
    below: list[Any] = [compute.fill_null(compute.less(table[score], nsfw_below), False) for score in NSFW]
    kept = table[name].filter(functools.reduce(compute.and_, below)).to_pylist()
    return kept, {f"not below {nsfw_below} in a probability of being unsafe": len(table) - len(kept)}, _folded


def _table(file: Path) -> pa.Table:
    if file.suffix == ".parquet":
        return parquet.read_table(file)
    if file.suffix == ".csv":
        parse = csv.ParseOptions(newlines_in_values=True)
        # Types are given, not guessed: a guess is made on the first megabyte and fails on a later one.
        names = csv.open_csv(file, parse_options=parse).schema.names
        types = {name: pa.float64() if name in NSFW else pa.string() for name in names}
        return csv.read_csv(file, parse_options=parse, convert_options=csv.ConvertOptions(column_types=types))
    if file.suffix == ".jsonl":
        return json.read_json(file, parse_options=json.ParseOptions(newlines_in_values=False))
    rows = _list_of_objects(read_json(file))
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table(
        {name: [row.get(name) if isinstance(row.get(name), str) else None for row in rows] for name in names}
    )


def _list_of_objects(value: Any) -> list[dict[str, object]]:
    if isinstance(value, list) and all(isinstance(row, dict) for row in cast("list[object]", value)):
        return cast("list[dict[str, object]]", value)
    raise ValueError("it is no list of objects")


def _prompt_column(file: Path, table: pa.Table, column: str | None) -> str:
    name = column or next((name for name in COLUMNS if name in table.column_names), None)
    if name is None or name not in table.column_names:
        raise InputError(
            f"Prompts file {file} has no column {column or ' or '.join(COLUMNS)}; it has "
            f"{', '.join(table.column_names)}: say which holds the prompts.",
            exit_code=2,
        )
    if not pa.types.is_string(table[name].type) and not pa.types.is_large_string(table[name].type):
        raise InputError(f"Column {name} of {file} holds {table[name].type}, not text; name another.", exit_code=2)
    return name


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _subset(texts: list[str], limit: int | None, seed: int | None) -> list[str]:
    if limit is None or seed is None:
        return texts[:limit]
    chosen = set(sorted(texts, key=lambda text: stable_id(seed, text))[:limit])
    return [text for text in texts if text in chosen]
