"""What a VBench evaluation found: figures with intervals, the tables of them, and published rows beside them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from evaluation.vbench.aggregation import DIMENSIONS, aggregate, normalise
from evaluation.vbench.scoring import DimensionResult, publishable
from evaluation.vbench.statistics import ScoredVideo, mean, replicates, total_replicates
from videoduet.errors import InputError
from videoduet.intervals import percentile_interval
from videoduet.progress import console
from videoduet.store import read_json, write_bytes, write_json
from videoduet.tables import csv_lines, read_table

PUBLISHED = Path(__file__).with_name("published.json")
TOTALS = ("quality", "semantic", "total")


def summarise(
    results: Mapping[str, DimensionResult], *, complete: bool, resamples: int, base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The figures of an evaluation, as results.json keeps them.

    ``dimensions`` has for each one ``raw`` and ``normalised`` with their 95 % intervals, ``prompts`` and ``videos``
    counted, and ``gaps`` and ``notes``; or ``not_scored``, the reason. ``totals`` holds quality, semantic and total
    where the official rule allows them, else ``no_total`` says why not. ``complete`` says that the whole official suite
    was asked for. ``base``, an earlier evaluation's figures with its ``videos``, adds ``gain``: the difference of raw
    scores on the prompts that both have, with the interval of paired resampling.
    """
    scored = {name: result for name, result in results.items() if not result.not_scored}
    drawn = replicates({name: result.videos for name, result in scored.items()}, resamples)
    dimensions: dict[str, Any] = {}
    for name in DIMENSIONS:
        if name not in results:
            continue
        result = results[name]
        if result.not_scored:
            dimensions[name] = {"not_scored": result.not_scored}
            continue
        middle = percentile_interval(drawn[name])
        dimensions[name] = {
            "raw": result.raw,
            "raw_interval": middle,
            "normalised": normalise(name, result.raw),
            "normalised_interval": [normalise(name, end) for end in middle] if middle else None,
            "prompts": len({video.prompt for video in result.videos}),
            "videos": len(result.videos),
            "gaps": result.gaps,
            "notes": result.notes,
        }
    summary = {"dimensions": dimensions, "totals": {}, "no_total": publishable(results, complete)}
    if summary["no_total"] is None:
        ends = {name: percentile_interval(values) for name, values in total_replicates(drawn).items()}
        found = aggregate({name: result.raw for name, result in scored.items() if result.raw is not None})
        summary["totals"] = {name: {"score": found[name], "interval": ends[name]} for name in TOTALS}
    if base is not None:
        _add_gains(summary, {name: result.videos for name, result in scored.items()}, base, resamples)
    return summary


def _add_gains(
    summary: dict[str, Any], ours: Mapping[str, Sequence[ScoredVideo]], base: Mapping[str, Any], resamples: int
) -> None:
    """What changed against ``base``, on the prompts that both have scored."""
    pairs: dict[tuple[str, str], list[ScoredVideo]] = {}
    for name, videos in ours.items():
        before = base["videos"].get(name, [])
        shared = {video.prompt for video in videos} & {video.prompt for video in before}
        if shared:
            pairs["ours", name] = [video for video in videos if video.prompt in shared]
            pairs["base", name] = [video for video in before if video.prompt in shared]
    drawn = replicates(pairs, resamples)
    for name in ours:
        if ("ours", name) in pairs:
            figures = summary["dimensions"][name]
            figures["gain"] = mean(pairs["ours", name]) - mean(pairs["base", name])
            figures["gain_interval"] = percentile_interval(drawn["ours", name] - drawn["base", name])
    sides = ({name: values for (who, name), values in drawn.items() if who == side} for side in ("ours", "base"))
    totals = [total_replicates(side) for side in sides]
    for name, figures in summary["totals"].items():
        if name in base["totals"] and name in totals[0] and name in totals[1]:
            figures["gain"] = figures["score"] - base["totals"][name]["score"]
            figures["gain_interval"] = percentile_interval(totals[0][name] - totals[1][name])


def save(output: Path, summary: Mapping[str, Any], results: Mapping[str, DimensionResult]) -> None:
    """Write results.json, results.csv (the table) and scores_by_video.csv into ``output``."""
    rows = [{"dimension": name} | asdict(video) for name, result in results.items() for video in result.videos]
    _write_csv(output / "scores_by_video.csv", ["dimension", "prompt", "index", "result", "weight"], rows)
    columns = ["score", "raw", "raw_low", "raw_high", "normalised", "normalised_low", "normalised_high", "note"]
    _write_csv(output / "results.csv", columns, list(_table_rows(summary)))
    write_json(output / "results.json", summary)


def _table_rows(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, figures in summary["dimensions"].items():
        raw, normalised = (figures.get(f"{kind}_interval") or (None, None) for kind in ("raw", "normalised"))
        note = figures.get("not_scored") or "; ".join([*figures.get("gaps", ()), *figures.get("notes", ())])
        yield {
            "score": name, "raw": figures.get("raw"), "raw_low": raw[0], "raw_high": raw[1],
            "normalised": figures.get("normalised"), "normalised_low": normalised[0], "normalised_high": normalised[1],
            "note": f"not scored: {note}" if "not_scored" in figures else note,
        }  # fmt: skip
    for name in TOTALS:
        figures = summary["totals"].get(name, {})
        low, high = figures.get("interval") or (None, None)
        yield {
            "score": name, "normalised": figures.get("score"), "normalised_low": low, "normalised_high": high,
            "note": "" if figures else f"not given: {summary['no_total']}",
        }  # fmt: skip


def _write_csv(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    write_bytes(path, "".join(csv_lines(columns, rows)).encode())


def read_base(output: str | Path) -> dict[str, Any]:
    """An earlier evaluation: its figures, with ``videos`` by dimension. Raises InputError where there is none."""
    folder = Path(output)
    try:
        figures = read_json(folder / "results.json")
        videos: dict[str, list[ScoredVideo]] = {}
        for row in read_table(folder / "scores_by_video.csv").rows():
            video = ScoredVideo(row["prompt"], int(row["index"]), float(row["result"]), float(row["weight"]))
            videos.setdefault(row["dimension"], []).append(video)
        return {"name": folder.resolve().name, **figures, "videos": videos}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--base {output} holds no finished evaluation ({error}); give the --output of an earlier one.", exit_code=2
        ) from error


def published_rows() -> list[dict[str, Any]]:
    """Rows that others published: ``model``, ``source``, ``quality``, ``semantic``, ``total`` and ``dimensions``, in
    percent.
    """
    return read_json(PUBLISHED)["rows"]


def print_summary(summary: Mapping[str, Any]) -> None:
    """Show the figures on the terminal, and what was not scored, reason by reason."""
    for text in summary["problems"]:
        console.print(f"Warning: {text}", style="yellow", markup=False, soft_wrap=True)
    shown = Table("score", "raw", "normalised", "95 %", "raw, against base", "videos")
    reasons: dict[str, list[str]] = {}
    for name, figures in summary["dimensions"].items():
        if "not_scored" in figures:
            reasons.setdefault(figures["not_scored"], []).append(name)
            continue
        span, gain = span_of(figures["normalised_interval"]), gain_of(figures)
        shown.add_row(name, percent(figures["raw"]), percent(figures["normalised"]), span, gain, str(figures["videos"]))
    for name, figures in summary["totals"].items():
        shown.add_row(name, "", percent(figures["score"]), span_of(figures["interval"]), gain_of(figures), "")
    console.print(shown)
    for name, figures in summary["dimensions"].items():
        for text in [*figures.get("gaps", ()), *figures.get("notes", ())]:
            console.print(f"{name}: {text}.", markup=False, soft_wrap=True)
    for reason, names in reasons.items():
        console.print(f"Not scored: {', '.join(names)}: {reason}.", markup=False, soft_wrap=True)
    if summary["no_total"]:
        console.print(f"No quality, semantic or total score: {summary['no_total']}.", markup=False, soft_wrap=True)


def percent(value: float | None) -> str:
    """A score in [0, 1] in percent, with two digits; – where there is none."""
    return "–" if value is None else f"{100 * value:.2f}"


def span_of(ends: Sequence[float] | None) -> str:
    """An interval of scores in [0, 1] in percent; empty where there is none."""
    return f"{percent(ends[0])} to {percent(ends[1])}" if ends else ""


def gain_of(figures: Mapping[str, Any]) -> str:
    """What a score gained on the base, in points, with its interval; empty where nothing was compared."""
    if figures.get("gain") is None:
        return ""
    ends = figures["gain_interval"]
    return f"{100 * figures['gain']:+.2f}" + (f" ({100 * ends[0]:+.2f} to {100 * ends[1]:+.2f})" if ends else "")
