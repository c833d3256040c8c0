"""Prompts from the files that they come in.

Text (one prompt a line), JSON Lines, JSON, CSV, TSV and parquet: whatever has a column of prompts, among them VidProM's
``VidProM_unique.csv`` (Wang & Yang 2024; cc-by-nc-4.0) and VBench's ``VBench_full_info.json`` (Huang et al. 2024).
"""
# pyarrow's stubs leave parameters open.
# pyright: reportUnknownMemberType=false

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from videoduet.errors import InputError
from videoduet.records import Prompt, stable_id
from videoduet.tables import is_text, kind_of, read_lines, read_table

COLUMNS = ("prompt", "prompt_en", "text", "caption")
"""What a column of prompts is called, VidProM's and VBench's names first."""
NSFW = ("toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit")
"""VidProM's six probabilities in [0, 1] that a prompt is not safe for work."""


GIVE = "give a text file with one prompt a line, or a JSON, CSV, TSV or parquet file with a column of prompts"


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
    if kind_of(file) is None:
        raise InputError(f"Prompts file {path} is {file.suffix}, which is not read here; {GIVE}.")
    try:
        texts, left_out, key = _texts(file, column, nsfw_below)
    except InputError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
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
    if kind_of(file) == "text":
        return list(read_lines(file)), {}, str
    table = read_table(file)
    name = _prompt_column(file, table.names, column)
    scored = NSFW if set(NSFW) <= set(table.names) else ()
    texts: list[str | None] = []
    unsafe = 0
    for number, row in enumerate(table.rows((name, *scored)), 1):
        text = row.get(name)
        if text is not None and not isinstance(text, str):
            # The stubs want arguments that have defaults.
            held: Any = cast("Any", pa).infer_type([text])
            raise InputError(
                f"Column {name} of {file} holds {held} (row {number}), not text; name another.", exit_code=2
            )
        if text is not None and not is_text(text):
            raise InputError(f"{file}, row {number}: {name} holds half a character, a lone surrogate; write it again.")
        if all(_is_below(row, score, nsfw_below, number) for score in scored):
            texts.append(text)
        else:
            unsafe += 1
    if not scored:
        return texts, {}, str
    return texts, {f"not below {nsfw_below} in a probability of being unsafe": unsafe}, _folded


def _is_below(row: Mapping[str, Any], score: str, most: float, number: int) -> bool:
    """Whether a row's probability is known and below ``most``."""
    value = row.get(score)
    if value is None or value == "":
        return False
    try:
        return float(value) < most
    except (TypeError, ValueError) as error:
        raise ValueError(f"row {number}: {score} is {value!r}, not a number") from error


def _prompt_column(file: Path, names: list[str], column: str | None) -> str:
    name = column or next((name for name in COLUMNS if name in names), None)
    if name is None or name not in names:
        raise InputError(
            f"Prompts file {file} has no column {column or ' or '.join(COLUMNS)}; it has "
            f"{', '.join(names) or 'none'}: say which holds the prompts.",
            exit_code=2,
        )
    return name


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _subset(texts: list[str], limit: int | None, seed: int | None) -> list[str]:
    if limit is None or seed is None:
        return texts[:limit]
    chosen = set(sorted(texts, key=lambda text: stable_id(seed, text))[:limit])
    return [text for text in texts if text in chosen]
