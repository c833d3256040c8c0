"""Write the report of a run: one HTML page that opens offline.

    python -m pipelines.report runs/my_run

The page shows what was run, whether the aligned generator beats the base, how every round went, base and aligned videos
side by side, and how to load the results. It can be written at any time: for an unfinished run it says what is missing.
"""

import base64
import hashlib
import io
import json
import re
import sys
import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jsonargparse import ArgumentParser
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from pipelines.report_data import (
    JUDGES,
    Round,
    Run,
    example_comparison,
    facts,
    load_run,
    mapping,
    missing,
    notes,
    number,
    samples_to_show,
    verdict,
    version_number,
    win_rates,
)
from videoduet.errors import InputError
from videoduet.records import Sample
from videoduet.store import write_bytes
from videoduet.video import read_video

MAX_PROMPTS = 24
# Browsers slow down, and mail servers refuse, beyond this; videos over the limit are linked.
MAX_BYTES = 64 * 2**20
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class ShownVideo:
    """A video on the page: embedded (``source``), or linked only (no source), or absent (``problem``)."""

    label: str
    described: str
    href: str = ""
    source: str = ""
    fallback: str = ""
    small: bool = False
    problem: str = ""


@dataclass
class Shelf:
    """Turns video paths into what the page shows, and keeps the page within its limits."""

    directory: Path
    prompts: set[str] = field(default_factory=set)
    used: int = 0

    def show(self, path: str, prompt_id: str, label: str, described: str, embed: bool = True) -> ShownVideo:
        """Embed the video where that is wished for and its prompt is among the first MAX_PROMPTS; link it otherwise."""
        relative = PurePosixPath(path)
        # A path comes from a file that anyone may have written: it must not reach outside the run directory.
        if relative.is_absolute() or ".." in relative.parts:
            return ShownVideo(label, described, problem="the path leads out of the run directory")
        file, href = self.directory / relative, urllib.parse.quote(path)
        if not file.is_file():
            return ShownVideo(label, described, problem=f"{path} is missing")
        fits = self.used + file.stat().st_size * 4 // 3 <= MAX_BYTES
        if not embed or not fits or (prompt_id not in self.prompts and len(self.prompts) >= MAX_PROMPTS):
            return ShownVideo(label, described, href)
        try:
            clip = read_video(file)
        except InputError:
            return ShownVideo(label, described, href, problem=f"{path} cannot be decoded")
        self.prompts.add(prompt_id)
        small = max(clip.frames.shape[1:3]) <= 128
        source = _data_uri("video/mp4", file.read_bytes())
        fallback = _animation(clip.frames, clip.fps) if small else ""
        self.used += len(source) + len(fallback)
        return ShownVideo(label, described, href, source, fallback, small)


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _animation(frames: Any, fps: float) -> str:
    """A lossless WebP of a small clip, for browsers that cannot decode H.264 4:4:4 (small clips are written so)."""
    images, buffer = [Image.fromarray(frame) for frame in frames], io.BytesIO()
    duration = max(1, round(1000 / fps))
    images[0].save(buffer, "webp", save_all=True, append_images=images[1:], duration=duration, loop=0, lossless=True)
    return _data_uri("image/webp", buffer.getvalue())


def _cases(run: Run, shelf: Shelf) -> dict[str, Any]:
    """Base against aligned: the first and the last version's videos of the same prompt and seed."""
    samples, held_out = samples_to_show(run)
    versions = sorted({sample.generator for sample in samples}, key=version_number)
    ends = versions[:1] + versions[1:][-1:]
    drawn: dict[tuple[str, int], dict[str, Sample]] = {}
    for sample in samples:
        if sample.generator in ends:
            drawn.setdefault((sample.prompt_id, sample.index), {})[sample.generator] = sample
    shown, linked, seen = [], [], set()
    # Complete cases first; the sort is stable, so otherwise the order of drawing stays.
    for (prompt_id, _), found in sorted(drawn.items(), key=lambda item: len(item[1]) < len(ends)):
        text, videos = run.prompt_text(prompt_id), []
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


def _example(run: Run, item: Round, shelf: Shelf) -> dict[str, Any] | None:
    """One comparison of the round with the judge's words in both orders, and the two videos where they are there."""
    comparison = example_comparison(run, item)
    if comparison is None:
        return None
    wanted = {comparison.first_id: "first video", comparison.second_id: "second video"}
    text, videos = run.prompt_text(comparison.prompt_id), {}
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


def _adapter(run: Run, part: str, default_class: str) -> dict[str, str]:
    """What the loading snippet of final/``part`` names: base, revision, and the class that loads it."""
    config = run.adapters[part]
    mapped = mapping(config.get("auto_mapping"))
    named, library = str(mapped.get("base_model_class")), str(mapped.get("parent_library")).split(".")[0]
    # The snippet is there to be pasted and run: only a plain name of a library it imports from may enter it as code.
    known = mapped and named.isidentifier() and library in ("diffusers", "transformers")
    model_class = named if known else default_class
    subfolder = "transformer" if "Transformer" in model_class else "unet"
    revision = config.get("revision")
    return {
        "exists": bool(config),
        "base": json.dumps(str(config.get("base_model_name_or_path") or ""), ensure_ascii=False),
        "revision": f", revision={json.dumps(str(revision))}" if revision else "",
        "model_class": model_class,
        "subfolder": subfolder,
    }


# Stand-ins for colours that the page's style sheet sets, so that one drawing serves light and dark pages.
INK, RULE = "#010203", "#010204"
SERIES = [f"#01030{index}" for index in range(4)]
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "videoduet", "font.size": 9, "legend.frameon": False}
STYLE |= {"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": RULE, "grid.color": RULE}
STYLE |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
Points = list[tuple]


def _chart(title: str, series: dict[str, Points], unit: str, xlabel: str = "round", **drawn: Any) -> dict | None:
    """A chart as inline SVG, with a text that says the same; None where there is nothing to draw.

    ``series`` maps a label to points (x, y) or (x, y, low, high); an x that is text is a category.
    """
    series = {label: points for label, points in series.items() if points}
    if not series:
        return None
    buffer = io.StringIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(4.8, 2.8), layout="constrained")
        _draw(figure.add_subplot(xlabel=xlabel, ylabel=unit), series, **drawn)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    drawing = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    # Several drawings share the page, and ids must be unique on it.
    key = hashlib.sha256(title.encode()).hexdigest()[:6]
    drawing = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{key}-", drawing)
    drawing = drawing.replace(INK, "currentColor").replace(RULE, "var(--rule)")
    for index, colour in enumerate(SERIES):
        drawing = drawing.replace(colour, f"var(--series-{index})")
    told = []
    for label, points in series.items():
        ends = points if len(points) <= 8 else (points[0], points[-1])
        told.append(f"{label}: " + ", ".join(f"{point[1]:.3g} at {point[0]}" for point in ends))
    return {"title": title, "svg": Markup(drawing), "alt": f"{title}, in {unit}. " + "; ".join(told)}


def _draw(
    axes: Axes,
    series: dict[str, Points],
    level: float | None = None,
    borders: Sequence[float] = (),
    lines: bool = True,
    least: float | None = None,
) -> None:
    """Draw ``series``, a dashed ``level`` and ``borders`` between rounds; y goes from 0 to ``least`` or more."""
    if level is not None:
        axes.axhline(level, color=RULE, linestyle=(0, (4, 3)), linewidth=1.2)
    for border in borders:
        axes.axvline(border, color=RULE, linestyle=":", linewidth=1.2)
    names = list(dict.fromkeys(point[0] for points in series.values() for point in points))
    named = isinstance(names[0], str)
    for index, (label, points) in enumerate(series.items()):
        ys, bars = [point[1] for point in points], None
        # Intervals of several judges would hide one another: they stand side by side.
        shift = 0.1 * (index - (len(series) - 1) / 2) if len(points[0]) == 4 else 0.0
        xs = [names.index(point[0]) + shift if named else point[0] for point in points]
        if len(points[0]) == 4:
            bars = [[max(0.0, y - low) for _, y, low, _ in points], [max(0.0, high - y) for _, y, _, high in points]]
        # Marker and dash tell the series apart without colour, too.
        style = {"marker": "osD^"[index % 4] if named else None, "linestyle": ["-", "--", "-.", ":"][index % 4]}
        if not lines:
            style["linestyle"] = "none"
        axes.errorbar(xs, ys, bars, label=label, color=SERIES[index % 4], markersize=5, capsize=3, **style)
    if least is not None:
        axes.set_ylim(0, 1.05 * max(least, axes.get_ylim()[1]))
    if named:
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(axis="y", linewidth=0.5)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, handlelength=2.6)


def _steps(run: Run, key: str, scale: float = 1.0) -> Points:
    """A logged value over training steps, rounds one after another, thinned to about 150 means a round."""
    points, start = [], 0.0
    for item in run.rounds:
        known = [(row["step"], scale * row[key]) for row in item.log if number(row.get(key)) is not None]
        width = max(1, len(known) // 150)
        for bin_ in (known[i : i + width] for i in range(0, len(known), width)):
            points.append((start + sum(x for x, _ in bin_) / len(bin_), sum(y for _, y in bin_) / len(bin_)))
        start += item.log[-1]["step"] + 1 if item.log else 0
    return points


def charts(run: Run) -> list[dict[str, Any]]:
    """Every curve that the run has data for."""

    def by_round(key: str) -> Points:
        known = [(str(item.number), number(item.rank.get(key))) for item in run.rounds]
        return [(x, 100 * y) for x, y in known if y is not None]

    rates: dict[str, Points] = {}
    for judge, name in JUDGES.items():
        points = rates.setdefault(name.split(" (")[0], [])
        for version, rate in win_rates(run, judge).items():
            values = [number(rate.get(key)) for key in ("rate", "low", "high")]
            points.append((version, *(100 * (values[0] if value is None else value) for value in values)))
    keys = ("pairs", "comparisons")
    counts = [(str(item.number), *(number(item.rank.get(key)) for key in keys)) for item in run.rounds]
    yields = [(name, 100 * pairs / asked) for name, pairs, asked in counts if pairs is not None and asked]
    opinions = {
        "both orders agree": by_round("agreement"),
        "judge abstains": by_round("abstention"),
        "first shown wins": by_round("first_position_rate"),
        "no cycles": by_round("transitivity"),
    }
    implicit = {"policy prefers the chosen": _steps(run, "implicit_accuracy", 100)}
    borders, start = [], 0.0
    for item in run.rounds[:-1]:
        start += item.log[-1]["step"] + 1 if item.log else 0
        borders.append(start)
    errors = {f"Δe {side}": _steps(run, f"{side.split()[0]}_error_delta") for side in ("chosen (w)", "rejected (l)")}
    held_out: dict[str, Points] = {"before refresh": [], "after refresh": []}
    for item in run.rounds:
        for kind, values in mapping(item.refresh.get("held_out")).items():
            for side, when in zip(("before", "after"), held_out, strict=True):
                if (accuracy := number(mapping(values).get(side))) is not None:
                    held_out[when].append((f"{item.number}: {kind}", 100 * accuracy))
    along: dict[str, Any] = {"xlabel": "training step, rounds one after another", "borders": borders}
    chance: dict[str, Any] = {"level": 50, "least": 100}
    made = [
        _chart("Win rate over the base, with 95 % intervals", rates, "% of cases", "generator", **chance),
        _chart("How sure the judge was", opinions, "%", least=100),
        _chart("Pair yield", {"pairs kept per 100 comparisons": yields}, "pairs", least=0),
        _chart("Implicit accuracy", implicit, "%", **chance, **along),
        _chart("Change of denoising error against the reference", errors, "Δe", level=0, **along),
        _chart("Judge accuracy on held-out pairs", held_out, "%", "round: data", lines=False, **chance),
    ]
    return [chart for chart in made if chart]


def _percent(value: Any) -> str:
    value = number(value)
    return "–" if value is None else f"{100 * value:.0f} %"


def _figure(value: Any) -> str:
    """A value for a table cell: four digits, thousands grouped; – where it is unknown."""
    known = number(value)
    if known is None:
        return "–" if value is None else str(value).replace("_", " ")
    return f"{known:,.0f}" if known == int(known) and abs(known) < 1e12 else f"{known:.4g}"


def _pick(rows: Iterable[dict[str, Any]], key: str) -> list[Any]:
    return [row.get(key) for row in rows]


def _context(run: Run) -> dict[str, Any]:
    shelf = Shelf(run.directory)
    cases = _cases(run, shelf)
    examples = [example for item in run.rounds if (example := _example(run, item, shelf))]
    said, tone = verdict(run)
    counted = (("sample", "samples"), ("rank", "comparisons"), ("rank", "pairs"), ("align", "steps"))
    totals = {key: [number(getattr(item, phase).get(key)) for item in run.rounds] for phase, key in counted}
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
        "generator": _adapter(run, "generator", "UNet3DConditionModel"),
        "judge": _adapter(run, "judge", "Qwen2_5_VLForConditionalGeneration"),
        "config_text": yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True) if run.config else "",
    }


def write_report(run_dir: str | Path) -> Path:
    """Write ``run_dir``/report.html, whole or not at all, and return its path.

    Raises InputError where ``run_dir`` holds no run or cannot be written.
    """
    run = load_run(Path(run_dir))
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {"percent": _percent, "figure": _figure, "pick": _pick}
    script = (TEMPLATES / "report.js").read_text("utf-8")
    # Only this script may run: even an escaping mistake could not let a prompt or a judge's answer run code.
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template("report.html").render(_context(run), script=Markup(script), script_hash=allowed)
    path = run.directory / "report.html"
    try:
        write_bytes(path, page.encode("utf-8", errors="replace"))
    except OSError as error:
        raise InputError(f"The report cannot be written to {path} ({error}); check space and permission.") from error
    return path


def main(arguments: Iterable[str] | None = None) -> None:
    """The command line."""
    parser = ArgumentParser(
        prog="python -m pipelines.report",
        description="Write RUN_DIR/report.html: one page, without outside resources, that any browser opens offline. "
        "It needs no GPU and changes nothing else, so it can be written at any time, also while the run is going on.",
    )
    parser.add_argument("run_dir", type=str, help="a directory that united_finetune wrote, for example runs/my_run")
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        print(write_report(options.run_dir))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
