"""What the judge's command shows: on the terminal, for programs, and as an HTML page with the videos."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from alignment.preferences.pairs import follows_position
from alignment.preferences.ranking import judge_statistics, order_by_standing, rank_prompts
from pipelines.report.html import render
from pipelines.report.judgements_text import print_csv, print_json, print_json_lines, print_tables, summary
from pipelines.report.previews import preview
from videoduet.progress import console
from videoduet.records import Comparison, OrderVerdict, Ranking
from videoduet.store import write_bytes

Output = Literal["table", "json", "jsonl", "csv"]
MOST_VIDEOS, MOST_ROWS = 100, 1000
"""Videos that the page shows, and rows."""


def show(
    command: str, rows: list[dict[str, Any]], failed: list[dict[str, Any]], output: Output, report: str | None
) -> None:
    """Print everything in the form that is asked for, and write the page."""
    comparing = command in ("compare", "rank", "rank_adaptive")
    comparisons = [as_comparison(row) for row in rows] if comparing else []
    rankings = list(rank_prompts(comparisons).values()) if command != "compare" and comparing else []
    paths = {row[f"{side}_id"]: row[side] for row in rows for side in ("first", "second")} if comparing else {}
    prompts = {row["prompt_id"]: row["prompt"] for row in rows}
    statistics = judge_statistics(comparisons) if comparing else None
    ranked = [row for ranking in rankings for row in _ranked(ranking, paths, prompts)]
    if output == "json":
        found = {"comparisons" if comparing else "videos": rows, "failures": failed}
        found |= {"rankings": ranked} if rankings else {}
        print_json(found | ({"statistics": statistics} if statistics else {}))
    elif output == "jsonl":
        print_json_lines(rows)
    elif output == "csv":
        print_csv(ranked or rows)
    else:
        print_tables(command, rows, ranked, statistics or {})
    if statistics and follows_position(statistics):
        rate = statistics["first_position_rate"]
        console.print(
            f"This judge follows position: the video shown first won {rate:.0%} of the showings, so its verdicts say "
            "nothing about the videos.", style="bold red", markup=False,
        )  # fmt: skip
    if report is not None:
        write_page(Path(report), rows, failed, ranked, statistics or {})
        console.print(f"The page is {report}.", markup=False)


def list_failures(failed: Sequence[Mapping[str, str]]) -> None:
    """Say on standard error what was not judged, and why; what has one reason in one line."""
    by_reason: dict[str, list[str]] = {}
    for failure in failed:
        by_reason.setdefault(failure["reason"], []).append(failure["given"])
    for reason, given in by_reason.items():
        more = f" and {len(given) - 1} more" if len(given) > 1 else ""
        console.print(f"not judged: {given[0]}{more}: {reason}", markup=False, soft_wrap=True)


def as_comparison(row: Mapping[str, Any]) -> Comparison:
    """The record in a row that was read back."""
    names = ("prompt_id", "first_id", "second_id", "judge_id", "p_first", "status")
    backward = OrderVerdict(**row["backward"]) if row["backward"] else None
    return Comparison(**{name: row[name] for name in names}, forward=OrderVerdict(**row["forward"]), backward=backward)


def _ranked(ranking: Ranking, paths: Mapping[str, str], prompts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of one prompt's ranking, best first."""
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
        for place, index in enumerate(order_by_standing(ranking), 1)
    ]


def write_page(
    path: Path,
    rows: list[dict[str, Any]],
    failed: list[dict[str, Any]],
    ranked: list[dict[str, Any]],
    statistics: Mapping[str, Any],
) -> None:
    """Write one HTML page that opens offline: small moving previews of the videos beside what was said of them."""
    previews: dict[str, str | None] = {}
    for row in rows:
        for video in (row[key] for key in ("video", "first", "second") if key in row):
            if video not in previews and len(previews) < MOST_VIDEOS:
                previews[video] = preview(video)
    page = render(
        "judgements.html", rows=rows[:MOST_ROWS], total=len(rows), failed=failed, ranked=ranked,
        summary=summary(statistics) if statistics else "", previews=previews,
    )  # fmt: skip
    write_bytes(path, page)
