"""Judgements as text: tables with the reasoning, JSON, JSON Lines, CSV."""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from videoduet.store import finite, json_text
from videoduet.tables import csv_lines, json_line

MOST_SHOWN = 20
"""Rows whose reasoning is printed; programs get all."""


def print_json(found: Mapping[str, Any]) -> None:
    """Print ``found`` as one JSON value; NaN and infinities become null."""
    sys.stdout.write(_sayable(json_text(finite(found), indent=2) + "\n"))


def print_json_lines(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print each row as a line of JSON; NaN and infinities become null."""
    for row in rows:
        sys.stdout.write(_sayable(json_line(finite(row))))


def _sayable(text: str) -> str:
    """JSON as standard output can say it: what is not in its encoding is escaped as JSON has it."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return re.sub("[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)
    return text


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print ``rows`` as CSV; a mapping in a row becomes columns of its own."""
    rows = [dict(_flat(row)) for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    sys.stdout.writelines(csv_lines(names, rows))


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(cast("Mapping[str, Any]", value), f"{prefix}{key}_")
        elif key == "dimensions":
            yield from ((dimension["name"], dimension["value"]) for dimension in value)
        else:
            yield f"{prefix}{key}", value


def _figure(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def print_tables(
    command: str, rows: list[dict[str, Any]], ranked: list[dict[str, Any]], statistics: Mapping[str, Any]
) -> None:
    """Print what ``command`` found, the judge's reasoning where there are few rows, and how the judge behaved."""
    out = Console()
    out.print(_ranking(ranked) if ranked else _comparisons(rows) if command == "compare" else _videos(command, rows))
    if command != "describe":
        _print_reasoning(out, rows)
    if statistics:
        out.print(summary(statistics), markup=False, soft_wrap=True)


def _ranking(ranked: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("prompt", "rank", "video", "wins", "strength (95 %)", title="Ranking")
    for row in ranked:
        strength = f"{row['strength']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
        wins = f"{row['wins']:g}/{row['comparisons']}"
        table.add_row(_short(row["prompt"]), str(row["rank"]), _short(row["video"]), wins, strength)
    return table


def _comparisons(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("first", "second", "better", "P(first)", "status", title="Comparisons")
    for row in rows:
        better = _short(row[row["preferred"]]) if row["preferred"] else "–"
        table.add_row(_short(row["first"]), _short(row["second"]), better, _figure(row["p_first"]), row["status"])
    return table


def _videos(command: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(d["name"] for row in rows for d in row.get("dimensions", ())))
    table = Table("video", *(["score", *names] if command == "score" else ["description"]))
    for row in rows:
        values = {d["name"]: d["value"] for d in row.get("dimensions", ())}
        figures = [_figure(value, 1) for value in (row.get("score"), *(values.get(name) for name in names))]
        table.add_row(_short(row["video"]), *(figures if command == "score" else [escape(row["description"])]))
    return table


def _print_reasoning(out: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    if len(rows) > MOST_SHOWN:
        out.print(f"{len(rows)} answers; --json and --report have the reasoning of all.")
        return
    for row in rows:
        texts = [("", row["text"])] if "text" in row else [
            (f"{Path(row[one]).name} shown first: ", row[order]["text"])
            for one, order in (("first", "forward"), ("second", "backward"))
        ]  # fmt: skip
        title = " / ".join(Path(row[key]).name for key in ("video", "first", "second") if key in row)
        out.print(
            Panel("\n".join(escape(label + text) for label, text in texts), title=escape(title), title_align="left")
        )


def summary(statistics: Mapping[str, Any]) -> str:
    """One line about how the judge behaved."""
    several = "" if statistics["comparisons"] == 1 else "s"
    return (
        f"{statistics['comparisons']} comparison{several}: {statistics['decided']} decided, {statistics['tie']} ties, "
        f"{statistics['disagreement']} where the two orders disagree, {statistics['unparsable']} unreadable. "
        f"Agreement of the orders {_figure(statistics['agreement'])}, wins of the video shown first "
        f"{_figure(statistics['first_position_rate'])}, transitivity {_figure(statistics['transitivity'])}."
    )


def _short(text: str, length: int = 40) -> str:
    text = Path(text).name if "/" in text else text
    return escape(text if len(text) <= length else f"{text[: length - 1]}…")
