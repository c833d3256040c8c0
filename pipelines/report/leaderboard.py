"""A leaderboard on the terminal and as a page: tables, charts, and example videos with their scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from pipelines.report.charts import chart
from pipelines.report.html import render
from pipelines.report.previews import preview
from reward_model.measuring.board_videos import BoardVideo
from videoduet.progress import console
from videoduet.store import write_bytes

EXAMPLES, MODELS_SHOWN = 4, 8
"""Prompts that the page shows videos of, and generators in each."""
_TURNED = {"turned": 35}


def show(result: Mapping[str, Any]) -> None:
    """Print each generator's win rates and scores, best first."""
    for name, rows in result["dimensions"].items():
        table = Table("", "win rate", "score", "prompts", title=f"{name}, by {result['judge']}")
        for model in result["models"]:
            win, score = rows[model]["win_rate"], rows[model].get("score")
            table.add_row(model, told(win, 100, " %"), told(score) if score else "–", str(win["prompts"]))
        console.print(table)
    for kind, values in result["categories"].items():
        table = Table("", *result["models"], title=f"win rate by {kind}, {result['summary']}")
        for value, found in values.items():
            cells = [told(found["models"][model]["win_rate"], 100, " %") for model in result["models"]]
            table.add_row(f"{value} ({found['prompts']})", *cells)
        console.print(table)
    for what, given in (("have no prompt that is known", result["without_prompt"]),
                        ("could not be judged", [each["given"] for each in result["not_judged"]])):  # fmt: skip
        if given:
            console.print(f"{len(given)} {what}, such as {given[0]}.", markup=False, soft_wrap=True)


def told(estimate: Mapping[str, float], scale: float = 1, unit: str = "") -> str:
    """An estimate with its interval; – where it is no number."""
    value, low, high = (scale * estimate[key] for key in ("value", "low", "high"))
    return f"{value:.1f}{unit} ({low:.1f} to {high:.1f})" if value == value else "–"


def write_page(
    path: str | Path, result: Mapping[str, Any], videos: Sequence[BoardVideo], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write one page that opens offline: tables, charts (AIGV-Assessor's figures 3, 4 and 6), and example videos."""
    page = render(
        "leaderboard.html", result=result, told=told, charts=_charts(result), examples=_examples(result, videos, rows)
    )
    write_bytes(path, page)


def _points(rows: Mapping[str, Any], models: Sequence[str], what: str, scale: float) -> list[tuple[Any, ...]]:
    found = [(model, rows[model].get(what)) for model in models]
    return [
        (m, *(scale * e[key] for key in ("value", "low", "high"))) for m, e in found if e and e["value"] == e["value"]
    ]


def _charts(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    models, dimensions = result["models"], result["dimensions"]
    made = [
        chart("Win rate by dimension, with 95 % intervals",
              {name: _points(rows, models, "win_rate", 100) for name, rows in dimensions.items()}, "% of the others",
              "generator", level=50, least=100, lines=False, **_TURNED),
        chart("Mean score by dimension, with 95 % intervals",
              {name: _points(rows, models, "score", 1) for name, rows in dimensions.items()}, "score", "generator",
              lines=False, **_TURNED),
    ]  # fmt: skip
    for kind, values in result["categories"].items():
        series = {value: _points(found["models"], models, "win_rate", 100) for value, found in values.items()}
        made.append(chart(f"Win rate by {kind}", series, "% of the others", "generator", level=50, least=100,
                          lines=False, **_TURNED))  # fmt: skip
    return [drawn for drawn in [*made, *_by_judge(result)] if drawn]


def _by_judge(result: Mapping[str, Any]) -> list[dict[str, Any] | None]:
    """The win rates of each generator in a dimension as several judges see them: AIGV-Assessor's figure 6."""
    made: list[dict[str, Any] | None] = []
    for name, rows in result["dimensions"].items():
        seen = {result["judge"]: {model: rows[model]["win_rate"] for model in result["models"]}}
        for other in result["beside"]:
            # Two judges may be called alike.
            label = other["judge"] if other["judge"] not in seen else f"{other['judge']} ({len(seen)})"
            if name in other["win_rates"]:
                seen[label] = other["win_rates"][name]
        if len(seen) > 1:
            series = {
                judge: _points({m: {"win_rate": rate} for m, rate in rates.items()},
                               [m for m in result["models"] if m in rates], "win_rate", 100)
                for judge, rates in seen.items()
            }  # fmt: skip
            made.append(chart(f"Win rate in {name}, by judge", series, "% of the others", "generator", level=50,
                              least=100, lines=False, **_TURNED))  # fmt: skip
    return made


def _examples(
    result: Mapping[str, Any], videos: Sequence[BoardVideo], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The first sample of the generators for a few prompts, spread over the set, with what was scored."""
    scores = {row["video"]: row["score"] for row in rows if "video" in row}
    names = list(dict.fromkeys(video.name for video in videos))
    chosen = names[:: max(1, len(names) // EXAMPLES)][:EXAMPLES]
    first: dict[tuple[str, str], BoardVideo] = {}
    for video in videos:
        first.setdefault((video.name, video.model), video)
    found: list[dict[str, Any]] = []
    for name in chosen:
        of = [first[name, model] for model in result["models"][:MODELS_SHOWN] if (name, model) in first]
        shown = [
            {"model": video.model, "picture": preview(video.path), "score": scores.get(video.path)} for video in of
        ]
        found.append({"prompt": of[0].prompt.text, "videos": shown})
    return found
