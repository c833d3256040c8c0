"""Write the report of a run: one HTML page that opens offline.

    python -m pipelines.report runs/my_run

The page shows what was run, whether the aligned generator beats the base, how every round went, base and aligned videos
side by side, and how to load the results. It can be written at any time: for an unfinished run it says what is missing.
"""

import base64
import hashlib
import io
import json
import sys
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jsonargparse import ArgumentParser
from markupsafe import Markup
from PIL import Image

from pipelines.report.charts import charts
from pipelines.report.recorded import (
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


def _stilled(run: Run, shelf: Shelf) -> list[dict[str, Any]]:
    """Videos that VBench calls moving in the base and still in a later version, both side by side."""
    cases = []
    for row in map(mapping, mapping(run.score.get("vbench")).get("stilled") or []):
        clips = {
            side: shelf.show(str(row.get(side)), str(row.get("prompt_id")), label, f"{label}: {row.get('prompt')}")
            for side, label in (("base", "base"), ("now", str(row.get("version"))))
        }
        cases.append({"prompt": row.get("prompt"), **clips})
    return cases


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
        "stilled": _stilled(run, shelf),
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
