"""What the judge's command shows: tables with the reasoning, JSON, JSON Lines, CSV, an HTML page with the videos."""

import base64
import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from alignment.preferences.pairs import follows_position
from alignment.preferences.ranking import judge_statistics, rank_prompts
from videoduet.errors import InputError
from videoduet.progress import console
from videoduet.records import Comparison, OrderVerdict, Ranking
from videoduet.store import finite, write_bytes
from videoduet.video import read_video

Output = Literal["table", "json", "jsonl", "csv"]
MOST_SHOWN = 20
"""Rows whose reasoning is printed; programs get all."""
MOST_VIDEOS, PREVIEW_FRAMES, PREVIEW_SIZE = 100, 16, 320
TEMPLATES = Path(__file__).parent / "templates"


def show(command: str, rows: list[dict], failed: list[dict], output: Output, report: str | None) -> None:
    """Print everything in the form that is asked for, and write the page."""
    comparing = command in ("compare", "rank", "rank_adaptive")
    comparisons = [as_comparison(row) for row in rows] if comparing else []
    rankings = list(rank_prompts(comparisons).values()) if command != "compare" and comparing else []
    paths = {row[f"{side}_id"]: row[side] for row in rows for side in ("first", "second")} if comparing else {}
    prompts = {row["prompt_id"]: row["prompt"] for row in rows}
    statistics = judge_statistics(comparisons) if comparing else {}
    ranked = [row for ranking in rankings for row in _ranked(ranking, paths, prompts)]
    if output == "json":
        found = {"comparisons" if comparing else "videos": rows, "failures": failed}
        found |= {"rankings": ranked} if rankings else {}
        found |= {"statistics": statistics} if comparing else {}
        print(json.dumps(finite(found), indent=2, ensure_ascii=False))
    elif output == "jsonl":
        for row in rows:
            print(json.dumps(finite(row), ensure_ascii=False))
    elif output == "csv":
        _print_csv(ranked or [dict(_flat(row)) for row in rows])
    else:
        _print_tables(command, rows, ranked, statistics)
    if comparing and follows_position(statistics):
        rate = statistics["first_position_rate"]
        console.print(
            f"This judge follows position: the video shown first won {rate:.0%} of the showings, so its verdicts say "
            "nothing about the videos.", style="bold red", markup=False,
        )  # fmt: skip
    if report is not None:
        write_page(Path(report), command, rows, failed, ranked, statistics)
        console.print(f"The page is {report}.", markup=False)


def list_failures(failed: Sequence[Mapping[str, str]]) -> None:
    """Say on standard error what was not judged, and why; what has one reason in one line."""
    by_reason: dict[str, list[str]] = {}
    for failure in failed:
        by_reason.setdefault(failure["reason"], []).append(failure["given"])
    for reason, given in by_reason.items():
        more = f" and {len(given) - 1} more" if len(given) > 1 else ""
        console.print(f"not judged: {given[0]}{more}: {reason}", markup=False, soft_wrap=True)


def as_comparison(row: Mapping) -> Comparison:
    """The record in a row that was read back."""
    names = ("prompt_id", "first_id", "second_id", "judge_id", "p_first", "status")
    backward = OrderVerdict(**row["backward"]) if row["backward"] else None
    return Comparison(**{name: row[name] for name in names}, forward=OrderVerdict(**row["forward"]), backward=backward)


def _ranked(ranking: Ranking, paths: Mapping[str, str], prompts: Mapping[str, str]) -> list[dict]:
    """Rows of one prompt's ranking, best first: by wins less losses, then strength, as pairs are chosen."""
    order = sorted(
        range(len(ranking.video_ids)),
        key=lambda i: (ranking.comparisons[i] - 2 * ranking.wins[i], -round(ranking.strengths[i], 6)),
    )
    return [
        {
            "prompt": prompts[ranking.prompt_id],
            "rank": place,
            "video": paths[ranking.video_ids[index]],
            "wins": ranking.wins[index],
            "comparisons": ranking.comparisons[index],
            "ties": ranking.ties[index],
            "strength": ranking.strengths[index],
            "low": ranking.intervals[index][0],
            "high": ranking.intervals[index][1],
            "transitivity": ranking.transitivity,
            "agreement": ranking.agreement,
        }
        for place, index in enumerate(order, 1)
    ]


def _flat(row: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}_")
        elif key == "dimensions":
            yield from ((dimension["name"], dimension["value"]) for dimension in value)
        else:
            yield f"{prefix}{key}", value


def _print_csv(rows: Sequence[Mapping]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _figure(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _print_tables(command: str, rows: list[dict], ranked: list[dict], statistics: Mapping) -> None:
    out = Console()
    if ranked:
        table = Table("prompt", "rank", "video", "wins", "strength (95 %)", title="Ranking")
        for row in ranked:
            strength = f"{row['strength']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
            wins = f"{row['wins']:g}/{row['comparisons']}"
            table.add_row(_short(row["prompt"]), str(row["rank"]), _short(row["video"]), wins, strength)
    elif command == "compare":
        table = Table("first", "second", "better", "P(first)", "status", title="Comparisons")
        for row in rows:
            better = _short(row[row["preferred"]]) if row["preferred"] else "–"
            table.add_row(_short(row["first"]), _short(row["second"]), better, _figure(row["p_first"]), row["status"])
    else:
        names = list(dict.fromkeys(d["name"] for row in rows for d in row.get("dimensions", ())))
        table = Table("video", *(["score", *names] if command == "score" else ["description"]))
        for row in rows:
            values = {d["name"]: d["value"] for d in row.get("dimensions", ())}
            figures = [_figure(value, 1) for value in (row.get("score"), *(values.get(name) for name in names))]
            table.add_row(_short(row["video"]), *(figures if command == "score" else [escape(row["description"])]))
    out.print(table)
    if command != "describe":
        _print_reasoning(out, rows)
    if statistics:
        out.print(summary(statistics), markup=False, soft_wrap=True)


def _print_reasoning(out: Console, rows: Sequence[Mapping]) -> None:
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


def summary(statistics: Mapping) -> str:
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


def write_page(
    path: Path, command: str, rows: list[dict], failed: list[dict], ranked: list[dict], statistics: Mapping
) -> None:
    """One HTML page that opens offline: small moving previews of the videos beside what was said of them."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    previews: dict[str, str | None] = {}
    for row in rows:
        for video in (row[key] for key in ("video", "first", "second") if key in row):
            if video not in previews and len(previews) < MOST_VIDEOS:
                previews[video] = preview(video)
    page = environment.get_template("judgements.html").render(
        command=command.removesuffix("_adaptive"), rows=rows[:1000], total=len(rows), failed=failed, ranked=ranked,
        summary=summary(statistics) if statistics else "", previews=previews,
    )  # fmt: skip
    write_bytes(path, page.encode())


def preview(video: str) -> str | None:
    """A small animated WebP, which every browser shows whatever the video's codec; None where it cannot be read."""
    try:
        clip = read_video(video, PREVIEW_FRAMES)
    except InputError:
        return None
    images = [Image.fromarray(frame) for frame in clip.frames]
    for image in images:
        image.thumbnail((PREVIEW_SIZE, PREVIEW_SIZE))
    step = float(np.diff(clip.seconds).mean()) if len(images) > 1 else 1.0
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        "webp",
        save_all=True,
        append_images=images[1:],
        duration=max(20, round(1000 * step)),
        loop=0,
        quality=80,
    )
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
