"""The report of a run: one HTML page that opens offline.

The page shows what was run, whether the aligned generator beats the base, how every round went, base and aligned videos
side by side, and how to load the results. It can be written at any time: for an unfinished run it says what is missing.
"""

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from pipelines.report.audit import audits
from pipelines.report.charts import charts
from pipelines.report.findings import example_comparison, facts, missing, notes, samples_to_show, verdict
from pipelines.report.html import TEMPLATES, render
from pipelines.report.kept import kept
from pipelines.report.official import official_table
from pipelines.report.recorded import (
    JUDGES,
    RecordedRound,
    RecordedRun,
    load_run,
    loading_of,
    mapping,
    number,
    version_number,
    win_rates,
)
from pipelines.report.shelf import Shelf, ShownVideo
from videoduet.errors import InputError
from videoduet.records import Sample
from videoduet.store import write_bytes


def _cases(run: RecordedRun, shelf: Shelf) -> dict[str, Any]:
    """Base against aligned: the first and the last version's videos of the same prompt and seed."""
    samples, held_out = samples_to_show(run)
    versions = sorted({sample.generator for sample in samples}, key=version_number)
    chosen = [version for version in versions[1:] if version == run.choice.get("version")]
    ends = versions[:1] + (chosen or versions[1:][-1:])
    drawn: dict[tuple[str, int], dict[str, Sample]] = {}
    for sample in samples:
        if sample.generator in ends:
            drawn.setdefault((sample.prompt_id, sample.index), {})[sample.generator] = sample
    shown: list[dict[str, Any]] = []
    linked: list[dict[str, Any]] = []
    seen: set[str] = set()
    # Complete cases first; the sort is stable, so otherwise the order of drawing stays.
    for (prompt_id, _), found in sorted(drawn.items(), key=lambda item: len(item[1]) < len(ends)):
        text = run.prompt_text(prompt_id)
        videos: list[ShownVideo] = []
        for version in ends:
            label = f"{version} ({'base' if version == ends[0] else 'aligned'})"
            if version not in found:
                videos.append(ShownVideo(label, "", problem="not drawn yet"))
                continue
            path = found[version].video_path
            videos.append(shelf.show(path, prompt_id, label, f"{label}: {text}", embed=prompt_id not in seen))
        seen.add(prompt_id)
        seeds = sorted({sample.seed for sample in found.values()})
        embedded = any(video.source for video in videos)
        (shown if embedded else linked).append({"text": text, "seeds": seeds, "videos": videos})
    settings = samples[0].settings if samples else None
    return {"shown": shown, "linked": linked, "held_out": held_out, "versions": ends, "settings": settings}


def _example(run: RecordedRun, item: RecordedRound, shelf: Shelf) -> dict[str, Any] | None:
    """One comparison of the round with the judge's words in both orders, and the two videos where they are there."""
    comparison = example_comparison(run, item)
    if comparison is None:
        return None
    wanted = {comparison.first_id: "first video", comparison.second_id: "second video"}
    text = run.prompt_text(comparison.prompt_id)
    videos: dict[str, ShownVideo] = {}
    for sample in run.records(Sample, "round_*/sample/samples_*.parquet"):
        if sample.id in wanted and sample.id not in videos:
            label = wanted[sample.id] + (" (preferred)" if sample.id == comparison.preferred_id else "")
            videos[sample.id] = shelf.show(sample.video_path, comparison.prompt_id, label, f"{label}: {text}")
    orders = [("Shown first, then second", comparison.forward), ("Shown second, then first", comparison.backward)]
    return {
        "round": item.number,
        "text": text,
        "status": comparison.status,
        "videos": [videos[key] for key in wanted if key in videos],
        "orders": [(title, answer) for title, answer in orders if answer],
    }


def _stilled(run: RecordedRun, shelf: Shelf) -> list[dict[str, Any]]:
    """Videos that VBench calls moving in the base and still in a later version, both side by side."""
    cases: list[dict[str, Any]] = []
    for row in map(mapping, mapping(run.score.get("vbench")).get("stilled") or []):
        clips = {
            side: shelf.show(str(row.get(side)), str(row.get("prompt_id")), label, f"{label}: {row.get('prompt')}")
            for side, label in (("base", "base"), ("now", str(row.get("version"))))
        }
        cases.append({"prompt": row.get("prompt"), **clips})
    return cases


def _drifts(run: RecordedRun, shelf: Shelf) -> list[dict[str, Any]]:
    """By version: what changed in its videos against the base's, and of each alarm those that moved most."""
    found: list[dict[str, Any]] = []
    for item in run.rounds:
        drift, version = mapping(item.phases["measure"].get("drift")), str(item.phases["measure"].get("version"))
        changes = [row for row in map(mapping, drift.get("changes") or []) if number(row.get("change")) is not None]
        cases: list[dict[str, Any]] = []
        for row in (row for row in changes if row.get("alarm")):
            for moved in map(mapping, row.get("moved") or []):
                prompt = str(moved.get("prompt_id"))
                text = run.prompt_text(prompt)
                base = shelf.show(str(moved.get("base")), prompt, "base", f"base: {text}")
                now = shelf.show(str(moved.get("current")), prompt, version, f"{version}: {text}")
                cases.append({"prompt": f"{row.get('name')}: {text}", "base": base, "now": now})
        if changes:
            found.append({"version": version, "changes": changes, "cases": cases})
    return found


def _context(run: RecordedRun) -> dict[str, Any]:
    shelf = Shelf(run.directory)
    cases = _cases(run, shelf)
    examples = [example for item in run.rounds if (example := _example(run, item, shelf))]
    said, tone = verdict(run)
    counted = (("sample", "samples"), ("rank", "comparisons"), ("rank", "pairs"), ("align", "steps"))
    totals = {key: [number(item.phases[phase].get(key)) for item in run.rounds] for phase, key in counted}
    return {
        "run": run,
        "name": run.directory.resolve().name,
        "verdict": said,
        "tone": tone,
        "totals": totals,
        "facts": facts(run, cases["settings"]),
        "cases": cases,
        "examples": examples,
        "charts": charts(run),
        "judges": JUDGES,
        "win_rates": {judge: win_rates(run, judge) for judge in JUDGES},
        "missing": missing(run),
        # Last: reading videos and comparisons may have found more that is damaged.
        "notes": notes(run),
        "vbench": mapping(run.score.get("vbench")),
        "official": official_table(run),
        "stilled": _stilled(run, shelf),
        "audits": audits(run, shelf),
        "kept": kept(run),
        "drifts": _drifts(run, shelf),
        "generator": loading_of(run, "generator", "UNet3DConditionModel"),
        "judge": loading_of(run, "judge", "Qwen2_5_VLForConditionalGeneration"),
        "config_text": yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True) if run.config else "",
    }


RENEWED = 30
"""Seconds after which a browser shows the page of a run that goes on anew."""
SILENT = 300
"""Seconds without a sign of life after which a page takes its run for stopped (:mod:`pipelines.report.going_on`)."""


def write_report(run_dir: str | Path, *, running: bool = False) -> Path:
    """The path of ``run_dir``/report.html, written whole or not at all; while the run is ``running`` a browser
    renews it by itself.

    Raises InputError where ``run_dir`` holds no run or cannot be written.
    """
    run = load_run(Path(run_dir))
    script = (TEMPLATES / "report.js").read_text("utf-8")
    # Only this script may run: even an escaping mistake could not let a prompt or a judge's answer run code.
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    alive = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "silent": SILENT, "renewed": RENEWED}
    page = render(
        "report.html", **_context(run), script=Markup(script), script_hash=allowed, alive=alive if running else None
    )
    path = run.directory / "report.html"
    try:
        write_bytes(path, page)
    except OSError as error:
        raise InputError(f"The report cannot be written to {path} ({error}); check space and permission.") from error
    return path
